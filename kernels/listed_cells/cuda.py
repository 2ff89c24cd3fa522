"""Selecting cells of a list on the device: a thread for each number, channels side by side.

Bytes: each number once, read and written; a warp's lie in runs of C neighbours.
"""

from functools import cache

from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.listed_cells import (
    check_gather,
    check_gather_backward,
    check_select,
    check_select_backward,
)
from kernels.memory import cuda as memory


@cache
def _select_kernel(dtype, backward):
    @kernel(ELEMENTWISE_THREADS)
    def select_cells(
        some,  # P*C
        cells,  # P
        all_,  # M*C
        channels,  # C
    ):
        i = u32(cuda.grid(1))
        if i < some.size:
            p, c = divmod_u32(i, channels)
            at = u32(u32(cells[p]) * u32(channels) + c)
            if backward:
                all_[at] = some[i]
            else:
                some[i] = all_[at]

    return select_cells


@cache
def _gather_kernel(dtype, backward):
    @kernel(ELEMENTWISE_THREADS)
    def gather_cells(
        some,  # P*C
        rows,  # P
        columns,  # P
        image,  # C*H*W
        channels,  # C
        size,  # (H, W)
    ):
        i = u32(cuda.grid(1))
        if i < some.size:
            p, c = divmod_u32(i, channels)
            y, x = rows[p], columns[p]
            outside = y < 0 or x < 0
            at = u32((c * u32(size[0]) + u32(y)) * u32(size[1]) + u32(x))
            if backward:
                image[at] = some[i]
            elif outside:
                some[i] = dtype(0)
            else:
                some[i] = image[at]

    return gather_cells


@operator
def select(x, cells):
    """The cells of x, M x C x 1 x 1, whose numbers stand in ``cells`` (P, int32)."""
    check_select(x, cells)
    y = memory.empty((cells.shape[0], *x.shape[1:]), x.dtype)
    arrays = flat("y", y), cells, flat("x", x)
    launch_over(_select_kernel(x.dtype.type, False), y.size, *arrays, x.shape[1])
    return y


@operator
def select_backward(error, cells, count):
    """The gradient of ``select`` by its x of ``count`` cells; each is selected at most once."""
    check_select_backward(error, cells, count)
    gradient = memory.zeros((count, *error.shape[1:]), error.dtype)
    arrays = flat("error", error), cells, flat("gradient", gradient)
    launch_over(_select_kernel(error.dtype.type, True), error.size, *arrays, error.shape[1])
    return gradient


@operator
def gather(image, rows, columns):
    """Cells of an image, 1 x C x H x W, at ``rows`` and ``columns`` (P, int32); zeros at -1."""
    check_gather(image, rows, columns)
    y = memory.empty((rows.shape[0], image.shape[1], 1, 1), image.dtype)
    arrays = flat("y", y), rows, columns, flat("image", image)
    sizes = image.shape[1], tuple(image.shape[2:])
    launch_over(_gather_kernel(image.dtype.type, False), y.size, *arrays, *sizes)
    return y


@operator
def gather_backward(error, rows, columns, size):
    """The gradient of ``gather`` by the image of ``size``; each place is gathered at most once."""
    check_gather_backward(error, rows, columns, size)
    gradient = memory.zeros((1, error.shape[1], *size), error.dtype)
    arrays = flat("error", error), rows, columns, flat("gradient", gradient)
    sizes = error.shape[1], tuple(size)
    launch_over(_gather_kernel(error.dtype.type, True), error.size, *arrays, *sizes)
    return gradient
