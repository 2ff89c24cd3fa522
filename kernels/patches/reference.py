"""Patches in NumPy, float64."""

import numpy as np

from kernels.foreign import operator
from kernels.patches import check_inside, image_shape, patches_shape


@operator
def extract(image, rows, columns, size):
    """n x C x p x p: the patch of ``size`` at each (row, column)."""
    _, _, h, w = patches_shape(image, rows, columns, size)
    check_inside(rows, columns, (h, w), image.shape[2:])
    cut = [image[0, :, y : y + h, x : x + w] for y, x in zip(rows, columns)]
    return np.stack(cut).astype(np.float64)


@operator
def extract_backward(error, rows, columns, image_size):
    """1 x C x H x W: the sum of the patches' errors, each at its place."""
    gradient = np.zeros(image_shape(error, rows, columns, image_size))
    _, _, h, w = error.shape
    check_inside(rows, columns, (h, w), gradient.shape[2:])
    for patch, y, x in zip(error, rows, columns):
        gradient[0, :, y : y + h, x : x + w] += patch
    return gradient
