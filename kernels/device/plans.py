"""What a call of an operator allocates and launches, recorded once and used again.

An operator's function runs once per combination of shapes, strides, dtypes and options, on
placeholders for its arrays, which have no memory: so the recorded allocations and launches, its
plan, depend on nothing else. Each later call only allocates, and launches what is prepared (see
``kernels.device.prepared``).
"""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np

from kernels.device import launching
from kernels.device.api import SIMULATING
from kernels.device.pool import after_release

if not SIMULATING:
    from kernels.device.prepared import Flat, Prepared


class Placeholder:
    """An array of a plan, without memory.

    Attributes:
        number: the array's number in the plan.
        shape, strides, dtype, size: as arrays have them.
    """

    __slots__ = ("dtype", "number", "shape", "size", "strides")

    def __init__(self, number: int, shape, dtype, strides=None):
        self.number, self.shape, self.dtype = number, tuple(shape), np.dtype(dtype)
        self.size = prod(self.shape)
        self.strides = strides or tuple(
            self.dtype.itemsize * prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))
        )

    def reshape(self, *shape) -> Placeholder:
        """The same array, C-contiguous, with another shape."""
        return Placeholder(self.number, shape, self.dtype)


# Bytes of an array of the workspace that a plan keeps from one call to the next
LARGEST_REUSED = 2**19


class Plan:
    """The allocations and launches of an operator's call.

    What is small of the workspace is used again by the next call, which on one stream comes after
    this one. A call that does not find it, as another one has it, allocates its own.

    Args:
        stream: the stream of the launches; None where they are only recorded.
    """

    def __init__(self, stream):
        self._stream = stream
        self._given, self._made, self._launches, self._prepared = 0, [], [], []
        self._reused: list[int] = []  # numbers of arrays
        self._workspaces: list[dict] = []

    def given(self, shape, dtype, strides) -> Placeholder:
        """The next array among the call's arguments; all of them come before what is made."""
        self._given += 1
        return Placeholder(self._given - 1, shape, dtype, strides)

    def make(self, function, arguments, options) -> None:
        """Plan a call of an operator's function on placeholders."""
        with launching.handed_to(self._empty, self._launches.append):
            self._result = function(*arguments, **options)
        if self._stream is None or SIMULATING:
            return
        returned = _returned(self._result, range(self._given + len(self._made)))
        returned = returned if isinstance(returned, tuple | list) else [returned]
        for number, (shape, dtype) in enumerate(self._made, self._given):
            if number not in returned and prod(shape) * dtype.itemsize <= LARGEST_REUSED:
                self._reused.append(number)

    def _empty(self, shape, dtype):
        shape = shape if isinstance(shape, tuple) else (shape,)
        self._made.append((shape, np.dtype(dtype)))
        return Placeholder(self._given + len(self._made) - 1, shape, dtype)

    def run(self, given: list):
        """What the function returns for the arrays ``given``."""
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = {}
        arrays = list(given)
        for number, made in enumerate(self._made, self._given):
            arrays.append(workspace[number] if number in workspace else launching.allocate(*made))
        self._launch(arrays)
        if self._reused:
            self._workspaces.append({number: arrays[number] for number in self._reused})
        return _returned(self._result, arrays)

    def _launch(self, arrays):
        if self._stream is None or SIMULATING:
            for launch in self._launches:
                filled = launch._replace(arguments=_filled(launch.arguments, arrays))
                launching.do(partial(launching.perform, filled))
        else:
            if not self._prepared:
                self._prepared = after_release(self._prepare)
            flat = [Flat(array) for array in arrays]
            for launch in self._prepared:
                launching.do(partial(launch, flat))

    def _prepare(self):
        return [Prepared(launch, self._stream) for launch in self._launches]


def _filled(arguments, arrays):
    return tuple(
        arrays[a.number].reshape(a.size) if type(a) is Placeholder else a for a in arguments
    )


def _returned(value, arrays):
    if type(value) is Placeholder:
        return arrays[value.number]
    if isinstance(value, tuple | list):
        return type(value)(_returned(v, arrays) for v in value)
    return value
