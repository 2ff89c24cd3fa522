"""NumPy arrays in the host's memory.

The memory of a large array that dies is kept for a later one: fresh pages cost the system more time
than many an operator takes. Kept and living memory together never exceed the most that lived at one
time, so a pass holds no more than without.
"""

import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np

# Smaller arrays come straight from NumPy, whose allocator keeps them itself
SMALLEST = 2**20


class _Store:
    """Blocks of memory of arrays that died, the longest dead first."""

    def __init__(self):
        self.free = []
        self.living = self.most = 0
        self.lock = threading.RLock()

    def take(self, nbytes):
        """A block of at least ``nbytes``, at most a fifth of it unused."""
        with self.lock:
            fitting = [b for b in self.free if nbytes <= b.nbytes <= nbytes + nbytes // 4]
            if fitting:
                block = min(fitting, key=lambda b: b.nbytes)
                self.free = [other for other in self.free if other is not block]
            else:
                room = self.most - self.living - nbytes
                while self.free and sum(block.nbytes for block in self.free) > room:
                    del self.free[0]
                block = np.empty(nbytes, np.uint8)
            self.living += block.nbytes
            self.most = max(self.most, self.living)
            return block

    def give_back(self, block):
        with self.lock:
            self.living -= block.nbytes
            self.free.append(block)


class _Lent:
    """A block for as long as an array lies on it."""

    def __init__(self, block):
        self.block = block
        self.__array_interface__ = block.__array_interface__

    def __del__(self):
        _store.give_back(self.block)


_store = _Store()


def empty(shape, dtype):
    """An uninitialised array of ``shape`` and ``dtype``."""
    dtype = np.dtype(dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    block = np.asarray(_Lent(_store.take(nbytes)))
    return block[:nbytes].view(dtype).reshape(shape)


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
    return system + sum(block.nbytes for block in _store.free)
