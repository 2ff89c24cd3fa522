"""Arrays in the device's memory."""

import copyreg
from contextlib import contextmanager
from functools import cache

import numpy as np

from kernels.checks import lies_on_device
from kernels.device import launching
from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import DeviceArray, view
from kernels.device.launching import device_empty, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, MAX_ELEMENTS, check_shape, flat
from kernels.device.pool import current
from kernels.device.streams import LEGACY, on, stream, stream_at

MOST_ELEMENTS = MAX_ELEMENTS


@cache
def _zero_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def zero(y):  # any size
        i = u32(cuda.grid(1))
        if i < y.size:
            y[i] = dtype(0)

    return zero


def empty(shape, dtype):
    """An uninitialised array of ``shape`` and ``dtype``.

    Raises:
        ValueError: it would be too large for 32-bit indices.
    """
    check_shape("result", shape if isinstance(shape, tuple) else (shape,))
    return device_empty(shape, dtype)


def zeros(shape, dtype):
    """An array of zeros of ``shape`` and ``dtype``, filled on the device."""
    y = empty(shape, dtype)
    launch_over(_zero_kernel(np.dtype(dtype).type), y.size, flat("zeros", y))
    return y


def to_device(array):
    """A contiguous copy of a host array in the device's memory; a device array where it lies.

    Raises:
        TypeError, ValueError: a device array that cannot be used; see ``kernels.device.arrays``.
    """
    if lies_on_device("array", array):
        return view("array", array)
    array = np.ascontiguousarray(array)
    copy = launching.allocate(array.shape, array.dtype)
    if array.size:
        # As one axis: Numba takes an axis of one element with a stride of 0 for a repeated one
        copy.reshape(copy.size).copy_to_device(array.reshape(array.size), stream=stream())
        stream().synchronize()
    return copy


def to_host(array):
    """A copy of ``array`` as a NumPy array; waits for the work that writes it."""
    return all_to_host([array])[0]


def all_to_host(arrays):
    """Copies of ``arrays`` as NumPy arrays, in a list; waits once for the work that writes them."""
    copies = [view("array", array).copy_to_host(stream=stream()) for array in arrays]
    stream().synchronize()
    return copies


# Pickled and copied with the nets whose parameters they are
copyreg.pickle(DeviceArray, lambda array: (to_device, (to_host(array),)))


def synchronize():
    """Wait until all work started so far is done."""
    cuda.synchronize()


def release():
    """Return the memory that no array occupies to the driver, where other libraries can have it;
    waits for the device."""
    if pool := current():
        pool.release()


@contextmanager
def on_stream(handle):
    """Within it, in this thread or task, copies and operators work on the CUDA stream ``handle``.

    Args:
        handle: an int: PyTorch's ``stream.cuda_stream``, CuPy's ``stream.ptr``; 0 is the default.

    Raises:
        ValueError: it is not an int of at least 0.
    """
    if type(handle) is not int or handle < 0:
        raise ValueError(f"handle is {handle!r}; expected a stream's address, an int of at least 0")
    with on(stream_at(handle or LEGACY)):
        yield


def free_bytes():
    """Bytes that new arrays can take, for work on the stream that it goes to: what the driver has,
    and what is free in the pool; None in the simulator, whose memory is the host's."""
    pool = current()
    return pool and pool.free_bytes(stream())
