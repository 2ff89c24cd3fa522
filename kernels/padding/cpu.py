"""Padding and cropping on the host, one row at a time."""

from numba import prange

from kernels import checks
from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.maps import place_of_row
from kernels.host.threads import ELEMENT_NS
from kernels.memory import cpu as memory
from kernels.padding import cropped_shape, padded_shape, unpadded_shape


@operator
def pad(x, margins, mode):
    """x with its margins filled by zeros or by reflection.

    Args:
        x: N x C x H x W, float32 or float64.
        margins: (top, left, bottom, right) in cells.
        mode: ``"zero"`` or ``"reflect"``, as ``numpy.pad``.

    Returns:
        N x C x (top + H + bottom) x (left + W + right). Workspace: none.
    """
    y = memory.empty(padded_shape(x, margins, mode), x.dtype)
    _pad(y, x, margins[0], margins[1], mode == "reflect", work=ELEMENT_NS * y.size)
    return y


@operator
def pad_backward(error, margins, mode):
    """dx: each cell's error and, for ``reflect``, those of its reflections.

    Args:
        error: N x C x (top + H + bottom) x (left + W + right), float32 or float64.
        margins: (top, left, bottom, right) in cells.
        mode: ``"zero"`` or ``"reflect"``.

    Returns:
        N x C x H x W. Workspace: none.
    """
    shape = unpadded_shape(error, margins, mode)
    if mode == "zero":
        return crop(error, margins)
    gradient = memory.empty(shape, error.dtype)
    _reflect_backward(gradient, error, margins[0], margins[1], work=ELEMENT_NS * error.size)
    return gradient


@operator
def crop(x, margins):
    """x without its margins.

    Args:
        x: N x C x H x W, float32 or float64.
        margins: (top, left, bottom, right) in cells.

    Returns:
        N x C x (H - top - bottom) x (W - left - right). Workspace: none.
    """
    y = memory.empty(cropped_shape(x, margins), x.dtype)
    _crop(y, x, margins[0], margins[1], work=ELEMENT_NS * y.size)
    return y


@operator
def crop_backward(error, margins):
    """dx: the error inside the margins, zero in them; arguments as ``pad``."""
    checks.array("error", error, (None,) * 4)
    return pad(error, margins, "zero")


@inner
def _reflected(position, size):
    """The cell of 0 ... size - 1 that a reflecting border shows at ``position``."""
    if size == 1:
        return 0
    position = abs(position) % (2 * size - 2)
    return min(position, 2 * size - 2 - position)


@compiled_parallel
def _pad(y, x, top, left, reflect):
    batch, channels, height, width = y.shape
    h, w = x.shape[2:]
    for row in prange(batch * channels * height):
        n, c, oy = place_of_row(row, channels, height)
        if not reflect and not top <= oy < top + h:
            y[n, c, oy] = 0
            continue
        source = x[n, c, _reflected(oy - top, h)]
        for ox in range(width):
            if left <= ox < left + w:
                y[n, c, oy, ox] = source[ox - left]
            elif reflect:
                y[n, c, oy, ox] = source[_reflected(ox - left, w)]
            else:
                y[n, c, oy, ox] = 0


@compiled_parallel
def _reflect_backward(gradient, error, top, left):
    batch, channels, height, width = gradient.shape
    padded_height, padded_width = error.shape[2:]
    for row in prange(batch * channels * height):
        n, c, y = place_of_row(row, channels, height)
        gradient[n, c, y] = 0
        for oy in range(padded_height):
            if _reflected(oy - top, height) == y:
                for ox in range(padded_width):
                    gradient[n, c, y, _reflected(ox - left, width)] += error[n, c, oy, ox]


@compiled_parallel
def _crop(y, x, top, left):
    batch, channels, height, width = y.shape
    for row in prange(batch * channels * height):
        n, c, oy = place_of_row(row, channels, height)
        y[n, c, oy] = x[n, c, oy + top, left : left + width]
