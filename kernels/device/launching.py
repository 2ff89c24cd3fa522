"""Launching kernels: on the device or the simulator, or only recording what would be launched."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

import numpy as np

from kernels.device import api
from kernels.device.api import SIMULATING, cuda, u32
from kernels.device.limits import ELEMENTWISE_THREADS, MAX_GRID, ceil_division, check_count
from kernels.device.pool import after_release, current
from kernels.device.streams import stream

if SIMULATING:
    from kernels.device.simulator import simulate


class Launch(NamedTuple):
    """A kernel on a grid of ``blocks`` (x, y, z) of ``threads`` threads each.

    ``independent``: its threads share no memory and no barrier.
    """

    kernel: object
    blocks: tuple[int, int, int]
    threads: int
    arguments: tuple
    independent: bool

    @property
    def function(self):
        """The Python function that the kernel is made of."""
        function = self.kernel.py_func
        return function.function if SIMULATING else function


_instead = None
_noted = None
# While a plan is made: what allocates for it, and what takes its launches
_plan: ContextVar = ContextVar("plan", default=None)


@contextmanager
def instead_of_launching(handle):
    """Within it, a launch only calls ``handle`` with its ``Launch``; no device is needed.

    What operators allocate lies in the host's memory then.
    """
    global _instead
    _instead = handle
    try:
        yield
    finally:
        _instead = None


@contextmanager
def recorded():
    """Within it, launches are only recorded, in the list of ``Launch`` that it gives."""
    launches: list[Launch] = []
    with instead_of_launching(launches.append):
        yield launches


@contextmanager
def noted():
    """Within it, every launch is also noted, in the list that it gives: as a function that launches
    it again, on the same arrays, which it keeps."""
    global _noted
    _noted = []
    try:
        yield _noted
    finally:
        _noted = None


@contextmanager
def handed_to(empty, take):
    """Within it, in this thread or task, ``device_empty`` is ``empty``, and a launch is only handed
    to ``take``."""
    token = _plan.set((empty, take))
    try:
        yield
    finally:
        _plan.reset(token)


def is_planning() -> bool:
    """Whether this thread or task is making a plan."""
    return _plan.get() is not None


def device_empty(shape, dtype):
    """An uninitialised array in the device's memory; in a plan, an array to be made."""
    plan = _plan.get()
    return allocate(shape, dtype) if plan is None else plan[0](shape, dtype)


def allocate(shape, dtype):
    """An uninitialised array in the device's memory, now."""
    if _instead is not None:
        return np.empty(shape, dtype)
    pool, here = current(), stream()
    if pool is None:
        return cuda.device_array(shape, np.dtype(dtype), stream=here)
    return pool.empty(shape, dtype, here)


def is_recording() -> bool:
    """Whether launches are only recorded, so that host arrays will do."""
    return _instead is not None


def launch(function, blocks, threads: int, *arguments) -> None:
    """Launch a kernel on a grid of ``blocks`` (an int or a tuple) of ``threads`` threads.

    Raises:
        ValueError: a grid larger than devices have.
    """
    blocks = blocks if isinstance(blocks, tuple) else (blocks,)
    if any(n > most for n, most in zip(blocks, MAX_GRID)):
        raise ValueError(f"the work takes {blocks} blocks; expected at most {MAX_GRID}")
    _handle(Launch(function, blocks + (1,) * (3 - len(blocks)), threads, arguments, False))


def launch_over(function, count: int, *arguments, threads: int = ELEMENTWISE_THREADS) -> None:
    """Launch a kernel without barriers; ``cuda.grid(1)`` numbers its ``count`` threads, ``threads``
    of them in a block.

    Ints among the arguments are passed as uint32, as 64-bit ones would leave some arithmetic on 64
    bits even where the kernel casts them.

    Raises:
        ValueError: more threads than a 32-bit index can count.
        OverflowError: an int that does not fit.
    """
    check_count("the work", count)
    threads = 1 if api.SMALL_BLOCKS else threads
    blocks = ceil_division(count, threads), 1, 1
    _handle(Launch(function, blocks, threads, _narrowed(arguments), True))


def _handle(launch):
    plan = _plan.get()
    if plan is None:
        do(partial(perform, launch))
    else:
        plan[1](launch)


def do(again) -> None:
    """Call ``again``, which launches, and note it where ``noted`` asks for that.

    Raises:
        MemoryError: the device has too little memory for the kernel's code or stacks.
    """
    if _noted is not None:
        _noted.append(again)
    after_release(again)


def perform(launch: Launch) -> None:
    """Launch a kernel now, or do what is to be done instead."""
    if _instead is not None:
        _instead(launch)
    elif SIMULATING and launch.independent:
        simulate(launch, range(launch.blocks[0]), _call)
    else:
        launch.kernel[launch.blocks, launch.threads, stream()](*launch.arguments)


def _call(function, arguments):
    function(*arguments)


def _narrowed(value):
    if type(value) is int:
        return u32(value)
    if isinstance(value, tuple):
        return getattr(value, "_make", tuple)(map(_narrowed, value))
    return value
