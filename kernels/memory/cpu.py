"""NumPy arrays in the host's memory.

The pages of a large array that dies are kept for the next one: fresh pages cost the system more
time than many an operator takes. Free blocks are given back before new memory is asked for, so a
pass never holds more than without them.
"""

import threading
from contextlib import contextmanager

import numpy as np

# Smaller arrays come from NumPy, whose allocator keeps them itself
SMALLEST = 2**20


class _Block:
    """Memory that goes back to the free blocks when the last array on it dies."""

    def __init__(self, memory):
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self):
        _free.append(self.memory)


_free: list[np.ndarray] = []
_lock = threading.Lock()


def _taken(nbytes):
    """The smallest free block that holds ``nbytes`` and at most a quarter more, or None."""
    with _lock:
        fitting = [b for b in _free if nbytes <= b.nbytes <= nbytes + nbytes // 4]
        if not fitting:
            _free.clear()
            return None
        block = min(fitting, key=lambda b: b.nbytes)
        for i, free in enumerate(_free):
            if free is block:
                return _free.pop(i)


def empty(shape, dtype):
    """An uninitialised array of ``shape`` and ``dtype``."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    nbytes = count * dtype.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    memory = _taken(nbytes)
    if memory is None:
        memory = np.empty(nbytes, np.uint8)
    return np.asarray(_Block(memory))[:nbytes].view(dtype).reshape(shape)


def zeros(shape, dtype):
    """An array of zeros of ``shape`` and ``dtype``."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


def to_device(array):
    """``array`` as a contiguous NumPy array; no copy where it already is one."""
    return np.ascontiguousarray(array)


def to_host(array):
    """``array`` itself."""
    return array


def synchronize():
    """Nothing to wait for: every call returns when its work is done."""


@contextmanager
def on_stream(handle):
    """Nothing to order: every call returns when its work is done."""
    yield
