"""NumPy arrays in the host's memory.

The memory of a large array that dies is kept for a later one: fresh pages cost the system more time
than many an operator takes. Living and kept memory together are what living arrays once took at
most, and the gaps that were between them then.
"""

import os
import threading
from collections import deque
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

from kernels.memory.gaps import PAGE, Gaps

# Smaller arrays come straight from NumPy, whose allocator keeps them itself
SMALLEST = 2**20


class _Store:
    """A range of addresses about as long as the system's memory; pages come where it is used."""

    def __init__(self):
        self.range = _addresses()
        self.gaps = Gaps(self.range.nbytes)
        self.given_back = deque()
        self.lock = threading.Lock()

    def take(self, nbytes):
        """(begin, end) of a place; None where there is none."""
        with self.lock:
            self._join()
            return self.gaps.take(nbytes)

    def kept_bytes(self):
        """Bytes that were used and are free."""
        with self.lock:
            self._join()
            return self.gaps.kept_bytes()

    def _join(self):
        while self.given_back:
            self.gaps.give_back(*self.given_back.popleft())


def _addresses():
    """Most of what the system has as memory; none where it does not tell or does not want to.

    Linux refuses more than all in one piece, and what it counts as all varies by some pages.
    """
    try:
        nbytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 7 // 8
        memory = np.empty(nbytes, np.uint8)
    except (AttributeError, ValueError, MemoryError):
        return np.empty(0, np.uint8)
    memory = memory[-memory.ctypes.data % PAGE :]
    return memory[: len(memory) // PAGE * PAGE]


class _Lent:
    """A place for as long as an array lies there."""

    def __init__(self, store, begin, end):
        self.store, self.place = store, (begin, end)
        self.__array_interface__ = store.range[begin:end].__array_interface__

    def __del__(self):
        # Python calls this at any moment, in the middle of ``take``, too
        self.store.given_back.append(self.place)


_store = _Store()


def empty(shape, dtype):
    """An uninitialised array of ``shape`` and ``dtype``."""
    dtype = np.dtype(dtype)
    nbytes = prod((shape,) if isinstance(shape, int) else shape) * dtype.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    place = _store.take(nbytes)
    if place is None:
        return np.empty(shape, dtype)
    memory = np.asarray(_Lent(_store, *place))
    return memory[:nbytes].view(dtype).reshape(shape)


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


def free_bytes():
    """Bytes that new arrays can take, what is kept of dead ones included; None where the system
    does not tell (it is no Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    table = dict(line.split(":") for line in lines)
    system = sum(1024 * int(table[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    return system + _store.kept_bytes()
