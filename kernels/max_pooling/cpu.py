"""Max pooling on the host: one cell of many windows at a time.

The inner loops run along a row or a whole map and have no branches, so that the compiler turns them
into vector compares and selects. With a stride of 1, the maximum over the columns of a window is
computed once for all windows that share the row. Backward, each window adds its error to its cell.
"""

import numpy as np
from numba import prange

from kernels import checks
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.maps import by_plane
from kernels.host.threads import CELL
from kernels.host.windows import offsets, over_windows
from kernels.max_pooling import argmax_dtype, backward_shape
from kernels.memory import cpu as memory
from kernels.window import PoolingShape

# Elements that stay in the first-level cache from one cell to the next
BLOCK = 2048


def forward(x, kernel, *, stride=1, dilation=1):
    """(y, argmax), see ``kernels.max_pooling``.

    Args:
        x: N x C x H x W, float32 or float64.
        kernel, stride, dilation: ints or pairs (y, x).

    Returns:
        y like x, and argmax (uint8, or int32 for windows of more than 256 cells), both
        N x C x Ho x Wo. Workspace: a map and its argmax for each thread.
    """
    shape = PoolingShape.of_input(x, kernel, stride, dilation)
    y = memory.empty(shape.y, x.dtype)
    argmax = memory.empty(shape.y, argmax_dtype(shape.window))
    over_windows(shape, _forward, _forward_strided, y, argmax, x)
    return y, argmax


def backward(error, argmax, size, kernel, *, stride=1, dilation=1):
    """dx: each window's error, added to the cell that won it.

    Args:
        error: N x C x Ho x Wo, float32 or float64.
        argmax: what ``forward`` returned, same shape.
        size: (H, W) of the input.
        kernel, stride, dilation: ints or pairs (y, x).

    Returns:
        N x C x H x W. Workspace: none.
    """
    shape = backward_shape(error, size, kernel, stride, dilation, argmax)
    checks.indices("argmax", argmax, shape.window.cells)
    gradient = memory.empty(shape.x, error.dtype)
    _, cells = offsets((1, 1), size[1], shape.window)
    work = CELL * (gradient.size + error.size)
    maps = by_plane(gradient), error, argmax
    _backward(*maps, shape.window.stride, size[1], cells, work=work)
    return gradient


# The first maximum wins, and the first NaN wins over everything
@inner
def _wins(value, before):
    return (value > before) | ((value != value) & (before == before))


@inner
def _larger(best, cells, values, more, cell):
    """The larger of two cells, number 0 and number ``cell``."""
    for o in range(len(best)):
        wins = _wins(more[o], values[o])
        best[o] = more[o] if wins else values[o]
        cells[o] = cell if wins else 0


@inner
def _keep_larger(best, cells, values, cell):
    for o in range(len(best)):
        wins = _wins(values[o], best[o])
        best[o] = values[o] if wins else best[o]
        cells[o] = cell if wins else cells[o]


@inner
def _larger_row(best, cells, row, row_cells, more, more_cells, first):
    """The larger of two rows' maxima; the second row's cells are numbered from ``first`` on."""
    for o in range(len(best)):
        wins = _wins(more[o], row[o])
        best[o] = more[o] if wins else row[o]
        cells[o] = first + more_cells[o] if wins else row_cells[o]


@inner
def _keep_larger_row(best, cells, row, row_cells, first):
    for o in range(len(best)):
        wins = _wins(row[o], best[o])
        best[o] = row[o] if wins else best[o]
        cells[o] = first + row_cells[o] if wins else cells[o]


@inner
def _maxima_of_rows(maxima, columns, source, kernel, dilation):
    """For each cell of a map in one run: the maximum of the ``kernel`` cells in one row of a window
    that begins there, and its number."""
    for begin in range(0, len(maxima), BLOCK):
        best, cells = maxima[begin : begin + BLOCK], columns[begin : begin + BLOCK]
        if kernel == 1:
            best[:], cells[:] = source[begin : begin + BLOCK], 0
        else:
            _larger(best, cells, source[begin:], source[begin + dilation :], columns.dtype.type(1))
        for j in range(2, kernel):
            _keep_larger(best, cells, source[begin + j * dilation :], columns.dtype.type(j))


@compiled_parallel
def _forward(y, argmax, x, kernel, dilation):
    channels, height, width = y.shape[1:]
    pitch = x.shape[3]
    for plane in prange(y.shape[0] * channels):
        n, c = plane // channels, plane % channels
        source = x[n, c].reshape(-1)
        maxima = np.empty(len(source) - (kernel[1] - 1) * dilation[1], y.dtype)
        columns = np.empty(len(maxima), argmax.dtype)
        _maxima_of_rows(maxima, columns, source, kernel[1], dilation[1])
        for oy in range(height):
            best, cells, at = y[n, c, oy], argmax[n, c, oy], oy * pitch
            down = dilation[0] * pitch
            if kernel[0] == 1:
                best[:], cells[:] = maxima[at : at + width], columns[at : at + width]
            else:
                row, more = (maxima[at:], columns[at:]), (maxima[at + down :], columns[at + down :])
                _larger_row(best, cells, *row, *more, argmax.dtype.type(kernel[1]))
            for i in range(2, kernel[0]):
                at = (oy + i * dilation[0]) * pitch
                first = argmax.dtype.type(i * kernel[1])
                _keep_larger_row(best, cells, maxima[at:], columns[at:], first)


@compiled_parallel
def _forward_strided(y, argmax, x, corners, cells):
    for plane in prange(len(y)):
        best, won, source = y[plane], argmax[plane], x[plane]
        values = np.empty_like(best)
        for cell in range(len(cells)):
            for o in range(len(best)):
                values[o] = source[corners[o] + cells[cell]]
            if cell == 0:
                best[:] = values
                won[:] = 0
            else:
                _keep_larger(best, won, values, argmax.dtype.type(cell))


@compiled_parallel
def _backward(gradient, error, argmax, stride, pitch, cells):
    channels, height, width = error.shape[1:]
    for plane in prange(len(gradient)):
        n, c = plane // channels, plane % channels
        total = gradient[plane]
        total[:] = 0
        for oy in range(height):
            for ox in range(width):
                corner = oy * stride[0] * pitch + ox * stride[1]
                total[corner + cells[argmax[n, c, oy, ox]]] += error[n, c, oy, ox]
