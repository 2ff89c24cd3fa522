"""One pool for the memory of a device: arrays that come and go cost no call of the driver.

It consists of segments that the driver allocated; each is divided first fit, as the host's memory
is. A segment belongs to a stream: what is freed may be overwritten there at once, as work on a
stream is done in order. Other streams get it only after the device has been waited for, and so does
its own stream where another one has used it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from math import prod

from kernels.device.api import SIMULATING, cuda
from kernels.gaps import Gaps

if not SIMULATING:
    from numba.cuda.api_util import prepare_shape_strides_dtype
    from numba.cuda.cudadrv import driver
    from numba.cuda.cudadrv.devicearray import DeviceNDArray

SMALL = 2**20
"""Bytes; smaller arrays have segments of their own, as those that live long would split gaps."""
SEGMENT_OF_SMALL, SEGMENT, GRANULE = 2**23, 2**26, 2**21
"""Bytes that a segment has at least, and of which it is a multiple: the driver's own pages."""


def current() -> Pool | None:
    """The current context's pool; None where no driver executes the kernels: in the simulator."""
    if SIMULATING:
        return None
    context = cuda.current_context()
    if not isinstance(context, driver.Context):
        return None
    return context.extras.get(Pool) or context.extras.setdefault(Pool, Pool(context))


def after_release(call):
    """What ``call()`` returns, which takes memory of the driver's own: for the code of a kernel,
    when it is loaded, or for the stacks of its threads. Where that is too little, the pool gives
    back what it can, and the call is made once more.

    Raises:
        MemoryError: it is too little even then.
    """
    if SIMULATING:
        return call()
    try:
        return call()
    except driver.CudaAPIError as error:
        pool = current()
        if pool is None or not _is_out_of_memory(error):
            raise
    pool.release()
    try:
        return call()
    except driver.CudaAPIError as error:
        if not _is_out_of_memory(error):
            raise
        free = cuda.current_context().get_memory_info().free
        raise MemoryError(
            "the code of a kernel, or the stacks of its threads, take more of the device's memory "
            f"than the {free / 1e9:.3g} GB that are free"
        ) from error


def _is_out_of_memory(error):
    return error.code == driver.binding.CUresult.CUDA_ERROR_OUT_OF_MEMORY


class _Segment:
    def __init__(self, memory, stream, is_small):
        self.memory, self.stream, self.is_small = memory, stream, is_small
        self.begin, self.nbytes = memory.device_ctypes_pointer.value, memory.size
        self.gaps = Gaps(self.nbytes)
        # Addresses that other streams have used, and places that must not be reused before a wait
        self.used_elsewhere: set[int] = set()
        self.held: list[tuple[int, int]] = []

    def serves(self, nbytes, stream):
        """Whether arrays of ``nbytes``, for work on ``stream``, lie here."""
        return self.stream is stream and self.is_small == (nbytes < SMALL)

    def free_bytes(self):
        """Bytes that no array occupies, once the device has been waited for."""
        return self.gaps.free_bytes() + sum(end - begin for begin, end in self.held)

    def is_free(self):
        return self.free_bytes() == self.nbytes

    def give_back(self, place):
        used = {at for at in self.used_elsewhere if place[0] <= at - self.begin < place[1]}
        self.used_elsewhere -= used
        if used:
            self.held.append(place)
        else:
            self.gaps.give_back(*place)

    def stop_holding(self):
        while self.held:
            self.gaps.give_back(*self.held.pop())


class _Allocation:
    """A place in a segment, given back when the last array in it is gone."""

    def __init__(self, pool, segment, place):
        self.freed, self.segment, self.place = pool.freed, segment, place

    def __del__(self):
        # Python may call this at any moment, even in the middle of ``Pool.empty``
        self.freed.append((self.segment, self.place))


class Pool:
    """The memory of a context.

    Attributes:
        freed: (segment, place) of arrays that are gone.
    """

    def __init__(self, context):
        self._context = weakref.proxy(context)
        self._segments: list[_Segment] = []  # the smallest come first
        self._lock = threading.Lock()
        self.freed: deque = deque()

    def empty(self, shape, dtype, stream):
        """An uninitialised array for work on ``stream``, of Numba.

        Raises:
            MemoryError: the driver has too little memory, even after all was released; the message
                says how much was asked for, and how much is free.
        """
        shape, strides, dtype = prepare_shape_strides_dtype(shape, None, dtype, "C")
        nbytes = prod(shape) * dtype.itemsize
        memory = self._memory(nbytes, stream) if nbytes else None
        return DeviceNDArray(shape, strides, dtype, stream, memory)

    def use(self, array, stream) -> None:
        """Note that work on ``stream`` uses an array's memory, which may be the pool's."""
        at = array.device_ctypes_pointer.value
        with self._lock:
            for segment in self._segments:
                if 0 <= at - segment.begin < segment.nbytes and segment.stream is not stream:
                    segment.used_elsewhere.add(at)

    def free_bytes(self, stream) -> int:
        """Bytes that new arrays for work on ``stream`` can take: what the driver has, or will have
        when it is given back, and what is free in segments that can serve the stream."""
        with self._lock:
            self._join()
            self._context.memory_manager.deallocations.clear()
            free = self._context.get_memory_info().free
            for segment in self._segments:
                if segment.stream is stream or segment.is_free():
                    free += segment.free_bytes()
            return free

    def release(self) -> None:
        """Return segments in which no array lies to the driver, after waiting for the device."""
        with self._lock:
            self._release()

    def _memory(self, nbytes, stream):
        with self._lock:
            self._join()
            segment, place = (
                self._from_gaps(nbytes, stream)
                or self._from_gaps_after_a_wait(nbytes, stream)
                or self._from_new_segment(nbytes, stream)
            )
        address = driver.binding.CUdeviceptr(segment.begin + place[0])
        owner = _Allocation(self, segment, place)
        return driver.MemoryPointer(self._context, address, nbytes, owner=owner)

    def _join(self):
        while self.freed:
            segment, place = self.freed.popleft()
            segment.give_back(place)

    def _from_gaps(self, nbytes, stream):
        for segment in self._segments:
            if segment.serves(nbytes, stream) and (place := segment.gaps.take(nbytes)):
                return segment, place
        return None

    def _from_gaps_after_a_wait(self, nbytes, stream):
        """A place that is held, or in a segment that another stream does not need."""

        def may_serve(segment):
            if segment.stream is stream:
                return bool(segment.held)
            fits = nbytes <= segment.nbytes and segment.serves(nbytes, segment.stream)
            return fits and segment.is_free()

        if not any(map(may_serve, self._segments)):
            return None
        self._wait()
        if place := self._from_gaps(nbytes, stream):
            return place
        for segment in filter(may_serve, self._segments):
            segment.stream = stream
            return segment, segment.gaps.take(nbytes)
        return None

    def _from_new_segment(self, nbytes, stream):
        """A place in a new segment."""
        is_small, nbytes_of_segment = nbytes < SMALL, -(-nbytes // GRANULE) * GRANULE
        at_least = SEGMENT_OF_SMALL if is_small else SEGMENT
        memory = self._allocated(max(nbytes_of_segment, at_least))
        if memory is None:
            self._release()
            memory = self._allocated(nbytes_of_segment)
        if memory is None:
            free = self._context.get_memory_info().free
            raise MemoryError(
                f"an array takes {nbytes / 1e9:.3g} GB of the device's memory, {free / 1e9:.3g} GB "
                "are free"
            )
        segment = _Segment(memory, stream, is_small)
        self._segments.append(segment)
        self._segments.sort(key=lambda segment: segment.nbytes)
        return segment, segment.gaps.take(nbytes)

    def _allocated(self, nbytes):
        """Memory from the driver; None if it has too little."""
        try:
            return self._context.memalloc(nbytes)
        except driver.CudaAPIError as error:
            if not _is_out_of_memory(error):
                raise
            return None

    def _wait(self):
        self._context.synchronize()
        for segment in self._segments:
            segment.stop_holding()

    def _release(self):
        self._join()
        self._wait()
        self._segments = [segment for segment in self._segments if not segment.is_free()]
        self._context.memory_manager.deallocations.clear()
