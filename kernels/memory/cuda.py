"""Arrays in the device's memory."""

from functools import cache

import numpy as np

from kernels.cuda_api import ELEMENTWISE_THREADS, cuda, device_empty, flat, kernel, launch_over, u32


@cache
def _zero_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def zero(y):  # any size
        i = u32(cuda.grid(1))
        if i < y.size:
            y[i] = dtype(0)

    return zero


def empty(shape, dtype):
    """An uninitialised array of ``shape`` and ``dtype``."""
    return device_empty(shape, dtype)


def zeros(shape, dtype):
    """An array of zeros of ``shape`` and ``dtype``, filled on the device."""
    y = empty(shape, dtype)
    launch_over(_zero_kernel(np.dtype(dtype).type), y.size, flat("zeros", y))
    return y


def to_device(array):
    """A copy of ``array``, contiguous, in the device's memory."""
    return cuda.to_device(np.ascontiguousarray(array))


def to_host(array):
    """A copy of ``array`` as a NumPy array; waits for the work that writes it."""
    return array.copy_to_host()


def synchronize():
    """Wait until all work started so far is done."""
    cuda.synchronize()
