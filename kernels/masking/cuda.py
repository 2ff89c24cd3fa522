"""Masking an error map on the device.

    y[n, k, p] = e[n, k, p] where mask[n, p], else 0

A thread for each element; errors outside of the mask are not read.
"""

from functools import cache

from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.masking import check_apply
from kernels.memory import cuda as memory


@cache
def _mask_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def apply_mask(
        error,  # N*K*P
        mask,  # N*P
        y,  # N*K*P
        channels,  # K
        plane,  # P
    ):
        i = u32(cuda.grid(1))
        if i < y.size:
            map_, p = divmod_u32(i, plane)
            chosen = mask[u32(map_ // u32(channels) * u32(plane) + p)]
            y[i] = error[i] if chosen else dtype(0)

    return apply_mask


@operator
def apply(error, mask):
    """The error map, N x K x H x W, at the chosen pixels, zero elsewhere.

    Args:
        error: float32 or float64.
        mask: N x H x W, bool.
    """
    check_apply(error, mask)
    y = memory.empty(error.shape, error.dtype)
    _, channels, h, w = error.shape
    f = _mask_kernel(error.dtype.type)
    maps = flat("error", error), flat("mask", mask), flat("y", y)
    launch_over(f, y.size, *maps, channels, h * w)
    return y
