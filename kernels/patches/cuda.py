"""Cutting patches out of an image on the device, and the gradient of that.

    p[n, c, i, j] = image[0, c, rows[n] + i, columns[n] + j]

Forward, a thread for each element of the patches. Backward, a thread for each element of the image
goes through the patches in order and adds the errors of those that cover it. No atomics. All
threads of a warp look at the same patch at the same time, and read its position once.
"""

from functools import cache

from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32, unravel
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.memory import cuda as memory
from kernels.patches import image_shape, patches_shape


@cache
def _extract_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def extract_patches(
        image,  # C*H*W
        rows,  # n
        columns,  # n
        patches,  # n*C*ph*pw
        channels,  # C
        image_size,  # (H, W)
        size,  # (ph, pw)
    ):
        at = u32(cuda.grid(1))
        if at < patches.size:
            plane, i, j = unravel(at, size)
            n, c = divmod_u32(plane, channels)
            line = u32(c * u32(image_size[0]) + u32(rows[n]) + i)
            patches[at] = image[u32(line * u32(image_size[1]) + u32(columns[n]) + j)]

    return extract_patches


@cache
def _extract_backward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def extract_patches_backward(
        error,  # n*C*ph*pw
        rows,  # n
        columns,  # n
        gradient,  # C*H*W
        channels,  # C
        image_size,  # (H, W)
        size,  # (ph, pw)
    ):
        at = u32(cuda.grid(1))
        height, width = u32(size[0]), u32(size[1])
        if at < gradient.size:
            c, y, x = unravel(at, image_size)
            total = dtype(0)
            n = u32(0)
            while n < rows.size:
                i, j = u32(y - u32(rows[n])), u32(x - u32(columns[n]))
                if i < height and j < width:
                    plane = u32(n * u32(channels) + c)
                    total += error[u32((plane * height + i) * width + j)]
                n = u32(n + u32(1))
            gradient[at] = total

    return extract_patches_backward


@operator
def extract(image, rows, columns, size):
    """n x C x ph x pw: the patch of ``size`` whose top left pixel is each (row, column).

    Args:
        image: 1 x C x H x W, float32 or float64.
        rows, columns: n, int32. Every patch must lie inside the image.
        size: (ph, pw).
    """
    shape = patches_shape(image, rows, columns, size)
    patches = memory.empty(shape, image.dtype)
    f = _extract_kernel(image.dtype.type)
    arrays = flat("image", image), rows, columns, flat("patches", patches)
    launch_over(f, patches.size, *arrays, shape[1], tuple(image.shape[2:]), tuple(shape[2:]))
    return patches


@operator
def extract_backward(error, rows, columns, image_size):
    """1 x C x H x W: the patches' errors, n x C x ph x pw, added up where each was cut out.

    Args:
        error: float32 or float64.
        rows, columns: n, int32.
        image_size: (H, W).
    """
    shape = image_shape(error, rows, columns, image_size)
    gradient = memory.empty(shape, error.dtype)
    f = _extract_backward_kernel(error.dtype.type)
    arrays = flat("error", error), rows, columns, flat("gradient", gradient)
    launch_over(f, gradient.size, *arrays, shape[1], tuple(shape[2:]), tuple(error.shape[2:]))
    return gradient
