"""Padding and cropping in NumPy, float64."""

import numpy as np

from kernels import checks
from kernels.foreign import operator
from kernels.padding import cropped_shape, padded_shape, unpadded_shape

_NUMPY_MODE = {"zero": "constant", "reflect": "reflect"}


@operator
def pad(x, margins, mode):
    """x with its margins filled by zeros or by reflection."""
    padded_shape(x, margins, mode)
    top, left, bottom, right = margins
    widths = ((0, 0), (0, 0), (top, bottom), (left, right))
    return np.pad(x.astype(np.float64), widths, mode=_NUMPY_MODE[mode])


@operator
def pad_backward(error, margins, mode):
    """dx: each cell's error and, for ``reflect``, those of its reflections."""
    n, c, h, w = unpadded_shape(error, margins, mode)
    if mode == "zero":
        return crop(error, margins)
    top, left, bottom, right = margins
    gradient = np.zeros((n, c, h, w))
    for y, source_y in enumerate(np.pad(np.arange(h), (top, bottom), mode="reflect")):
        for x, source_x in enumerate(np.pad(np.arange(w), (left, right), mode="reflect")):
            gradient[:, :, source_y, source_x] += error[:, :, y, x]
    return gradient


@operator
def crop(x, margins):
    """x without its margins."""
    _, _, h, w = cropped_shape(x, margins)
    top, left, _, _ = margins
    return x[:, :, top : top + h, left : left + w].astype(np.float64)


@operator
def crop_backward(error, margins):
    """dx: the error inside the margins, zero in them."""
    checks.array("error", error, (None,) * 4)
    return pad(error, margins, "zero")
