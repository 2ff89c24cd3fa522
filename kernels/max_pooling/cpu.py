"""Max pooling on the host: the cells of many windows in turn.

The inner loops run along a row, with a stride along a whole map, and are free of branches, so that
the compiler turns them into vector compares and selects. A row of the input gradient gathers, cell
by cell, the rows of windows that cover it; with a stride each window gives to its cell.
"""

import numpy as np
from numba import prange

from kernels import geometry
from kernels.compilation import compiled, compiled_parallel
from kernels.memory import cpu as memory


def forward(x, kernel, *, stride=1, dilation=1):
    """(y, argmax), see ``kernels.max_pooling``.

    Args:
        x: N x C x H x W, float32 or float64.
        kernel, stride, dilation: ints or pairs (y, x).

    Returns:
        y like x, and argmax (uint8, or int32 for windows of more than 256 cells), both
        N x C x Ho x Wo. Workspace: none.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.pooling_forward(x, kernel, stride, dilation)
    y = memory.empty(shape.y, x.dtype)
    argmax = memory.empty(shape.y, geometry.argmax_dtype(shape.window))
    window = shape.window
    if window.stride == (1, 1):
        _forward(y, argmax, x, window.kernel, window.dilation)
    else:
        flat = (_by_plane(array) for array in (y, argmax, x))
        _forward_strided(*flat, *_offsets(shape.y[2:], x.shape[3], window))
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

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.pooling_backward(error, size, kernel, stride, dilation, argmax)
    gradient = memory.empty(shape.x, error.dtype)
    window = shape.window
    if window.stride == (1, 1):
        _backward(gradient, error, argmax, window.kernel, window.dilation)
    else:
        flat = (_by_plane(array) for array in (gradient, error, argmax))
        _backward_strided(*flat, *_offsets(error.shape[2:], size[1], window))
    return gradient


def _by_plane(maps):
    return maps.reshape(maps.shape[0] * maps.shape[1], -1)


def _offsets(outputs, width, window):
    """Where the windows of a map begin, and where their cells lie from there; of ``width``."""
    (i, j), (oy, ox) = np.indices(window.kernel), np.indices(outputs)
    corners = oy * window.stride[0] * width + ox * window.stride[1]
    cells = i * window.dilation[0] * width + j * window.dilation[1]
    return corners.ravel().astype(np.uint32), cells.ravel().astype(np.uint32)


@compiled
def _keep_larger(best, cells, values, cell):
    """The first maximum wins, and the first NaN wins over everything."""
    for o in range(len(best)):
        value, before = values[o], best[o]
        wins = (value > before) | ((value != value) & (before == before))
        best[o] = value if wins else before
        cells[o] = cell if wins else cells[o]


@compiled
def _add_won(total, error, argmax, cell):
    for ox in range(len(error)):
        total[ox] += error[ox] if argmax[ox] == cell else error.dtype.type(0)


@compiled_parallel
def _forward(y, argmax, x, kernel, dilation):
    _, channels, height, width = y.shape
    for row in prange(y.size // width):
        plane, oy = row // height, row % height
        n, c = plane // channels, plane % channels
        best, cells = y[n, c, oy], argmax[n, c, oy]
        for i in range(kernel[0]):
            source = x[n, c, oy + i * dilation[0]]
            for j in range(kernel[1]):
                cell = argmax.dtype.type(i * kernel[1] + j)
                values = source[j * dilation[1] :]
                if cell == 0:
                    best[:] = values[:width]
                    cells[:] = cell
                else:
                    _keep_larger(best, cells, values, cell)


@compiled_parallel
def _backward(gradient, error, argmax, kernel, dilation):
    _, channels, height, width = gradient.shape
    outputs = error.shape[2]
    for row in prange(gradient.size // width):
        plane, y = row // height, row % height
        n, c = plane // channels, plane % channels
        total = gradient[n, c, y]
        total[:] = 0
        for i in range(kernel[0]):
            oy = y - i * dilation[0]
            if oy < 0 or oy >= outputs:
                continue
            for j in range(kernel[1]):
                cell = argmax.dtype.type(i * kernel[1] + j)
                _add_won(total[j * dilation[1] :], error[n, c, oy], argmax[n, c, oy], cell)


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
def _backward_strided(gradient, error, argmax, corners, cells):
    for plane in prange(len(gradient)):
        total = gradient[plane]
        total[:] = 0
        for o in range(error.shape[1]):
            total[corners[o] + cells[argmax[plane, o]]] += error[plane, o]
