"""The multiprocessors of a device, by which tiles are chosen."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import NamedTuple

from kernels.device.api import SIMULATING, cuda
from kernels.device.launching import is_recording


class Multiprocessors(NamedTuple):
    """A device's multiprocessors.

    Attributes:
        count: number of multiprocessors.
        shared_bytes: shared memory for the blocks on one of them.
    """

    count: int
    shared_bytes: int


# An H100's, for launches that nothing executes
RECORDED = Multiprocessors(132, 228 * 1024)
_recorded_for: ContextVar = ContextVar("recorded for", default=RECORDED)


@contextmanager
def recorded_for(device: Multiprocessors):
    """Within it, launches that are only recorded are those for ``device``."""
    token = _recorded_for.set(device)
    try:
        yield
    finally:
        _recorded_for.reset(token)


def multiprocessors() -> Multiprocessors:
    """The current device's, or that of launches that are only recorded."""
    if SIMULATING or is_recording():
        return _recorded_for.get()
    return _of(cuda.get_current_device().id)


@cache
def _of(number):
    device = cuda.gpus[number]
    return Multiprocessors(device.MULTIPROCESSOR_COUNT, device.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
