"""NumPy arrays in the host's memory.

Large arrays lie in one range of addresses. The memory of one that is freed is reused, not returned
to the system before ``release``: providing fresh pages takes longer than many an operator. Live and
reusable memory together never exceed the peak footprint of live arrays, fragmentation included.
"""

import mmap
import os
import threading
from collections import deque
from contextlib import contextmanager, suppress
from math import prod

import numpy as np

from kernels.foreign import host_array
from kernels.gaps import PAGE, Gaps
from kernels.host import limits

MOST_ELEMENTS = 2**62
# Smaller arrays come straight from NumPy, whose allocator reuses memory itself
SMALLEST = 2**20


class _Store:
    """A range of addresses, as long as arrays may need; pages are provided where it is used."""

    def __init__(self):
        self.pages, self.range = _addresses()
        self.gaps = Gaps(self.range.nbytes)
        self.freed = deque()
        self.lock = threading.Lock()

    def take(self, nbytes):
        """(begin, end) of a free place; None if there is none."""
        with self.lock:
            self._join()
            return self.gaps.take(nbytes)

    def free_bytes(self):
        """Bytes of the range that no array occupies."""
        with self.lock:
            self._join()
            return self.gaps.free_bytes()

    def reusable_bytes(self):
        """Bytes that have pages and that no array occupies."""
        with self.lock:
            self._join()
            return self.gaps.reusable_bytes()

    def release(self):
        """Return the pages behind the last array to the system."""
        with self.lock:
            self._join()
            begin, end = self.gaps.shrink()
            begin += -begin % mmap.PAGESIZE
            if begin < end:
                self.pages.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def _join(self):
        while self.freed:
            self.gaps.give_back(*self.freed.popleft())


def _addresses():
    """A range as long as most of the memory that the process can have, and its bytes as an array;
    none if the system does not say how much that is, or refuses.

    Linux refuses a range longer than its memory, whose size varies by some pages. Where addresses
    are limited, half of them are left to everything else that the process allocates.
    """
    try:
        nbytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 7 // 8
        addresses = limits.free_addresses()
        for limit in (limits.most_pages(), addresses and addresses // 2):
            nbytes = nbytes if limit is None else min(nbytes, limit)
        pages = mmap.mmap(-1, nbytes // PAGE * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(AttributeError, OSError):  # where pages have one size
            pages.madvise(mmap.MADV_HUGEPAGE)
    except (AttributeError, ValueError, OSError):
        return None, np.empty(0, np.uint8)
    return pages, np.frombuffer(pages, np.uint8)


class _Allocation:
    """A place in the range, returned when the array that occupies it is freed."""

    def __init__(self, store, begin, end):
        self.store, self.place = store, (begin, end)
        self.__array_interface__ = store.range[begin:end].__array_interface__

    def __del__(self):
        # Python may call this at any moment, even in the middle of ``take``
        self.store.freed.append(self.place)


_store = _Store()
if hasattr(os, "register_at_fork"):
    # No other thread may be changing the gaps when a child copies them, or hold the lock
    os.register_at_fork(
        before=_store.lock.acquire,
        after_in_parent=_store.lock.release,
        after_in_child=_store.lock.release,
    )


def empty(shape, dtype):
    """An uninitialised array of ``shape`` and ``dtype``."""
    dtype = np.dtype(dtype)
    nbytes = prod((shape,) if isinstance(shape, int) else shape) * dtype.itemsize
    if nbytes < SMALLEST:
        return np.empty(shape, dtype)
    place = _store.take(nbytes)
    if place is None:
        return np.empty(shape, dtype)
    memory = np.asarray(_Allocation(_store, *place))
    return memory[:nbytes].view(dtype).reshape(shape)


def zeros(shape, dtype):
    """An array of zeros of ``shape`` and ``dtype``."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


def to_device(array):
    """``array`` as a contiguous NumPy array; not copied if it is one already, of any library."""
    return np.ascontiguousarray(host_array("array", array))


def to_host(array):
    """``array`` itself."""
    return array


def all_to_host(arrays):
    """``arrays`` themselves, in a list."""
    return list(arrays)


def synchronize():
    """Nothing to wait for: every call returns when its work is done."""


def release():
    """Return the memory behind the last large array to the system; later ones get fresh pages."""
    _store.release()


@contextmanager
def on_stream(handle):
    """Nothing to order: every call returns when its work is done."""
    yield


def free_bytes():
    """Bytes that new arrays can take, reusable memory included: the least of what the system, the
    control groups and the limits of the process leave (``kernels.host.limits``); None if nothing
    says (other systems than Linux)."""
    pages, addresses = limits.free_pages(), limits.free_addresses()
    bounds = [] if pages is None else [pages + _store.reusable_bytes()]
    if addresses is not None:
        bounds.append(addresses + _store.free_bytes())
    return min(bounds, default=None)
