"""Patches on the host."""

from numba import prange

from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS
from kernels.memory import cpu as memory
from kernels.patches import check_inside, image_shape, patches_shape


@operator
def extract(image, rows, columns, size):
    """The patches whose top left pixels are (rows, columns), see ``kernels.patches``.

    Args:
        image: 1 x C x H x W, float32 or float64.
        rows, columns: n, int32; every patch must lie in the image.
        size: (ph, pw).

    Returns:
        n x C x ph x pw like the image. Workspace: none.
    """
    shape = patches_shape(image, rows, columns, size)
    check_inside(rows, columns, shape[2:], image.shape[2:])
    patches = memory.empty(shape, image.dtype)
    _extract(patches, image, rows, columns, work=ELEMENT_NS * patches.size)
    return patches


@operator
def extract_backward(error, rows, columns, image_size):
    """The image gradient: the sum of the patches' errors, each at its place.

    Args:
        error: n x C x ph x pw, float32 or float64.
        rows, columns: n, int32.
        image_size: (H, W).

    Returns:
        1 x C x H x W like the error. Workspace: none.
    """
    shape = image_shape(error, rows, columns, image_size)
    check_inside(rows, columns, error.shape[2:], shape[2:])
    gradient = memory.empty(shape, error.dtype)
    work = ELEMENT_NS * (gradient.size + error.size)
    _extract_backward(gradient, error, rows, columns, work=work)
    return gradient


@compiled_parallel
def _extract(patches, image, rows, columns):
    number, channels, height, width = patches.shape
    for plane in prange(number * channels):
        n, c = plane // channels, plane % channels
        for i in range(height):
            patches[n, c, i] = image[0, c, rows[n] + i, columns[n] : columns[n] + width]


@compiled_parallel
def _extract_backward(gradient, error, rows, columns):
    number, _, height, width = error.shape
    _, channels, image_height, _ = gradient.shape
    for row in prange(channels * image_height):
        c, y = row // image_height, row % image_height
        gradient[0, c, y] = 0
        for n in range(number):
            if rows[n] <= y < rows[n] + height:
                source = error[n, c, y - rows[n]]
                for j in range(width):
                    gradient[0, c, y, columns[n] + j] += source[j]
