"""Patches in NumPy, float64."""

import numpy as np

from kernels.patches import image_shape, patches_shape


def extract(image, rows, columns, size):
    """n x C x p x p: the patch of ``size`` at each (row, column)."""
    _, _, h, w = patches_shape(image, rows, columns, size)
    cut = [image[0, :, y : y + h, x : x + w] for y, x in zip(rows, columns)]
    return np.stack(cut).astype(np.float64)


def extract_backward(error, rows, columns, image_size):
    """1 x C x H x W: the sum of the patches' errors, each at its place."""
    gradient = np.zeros(image_shape(error, rows, columns, image_size))
    _, _, h, w = error.shape
    for patch, y, x in zip(error, rows, columns):
        gradient[0, :, y : y + h, x : x + w] += patch
    return gradient
