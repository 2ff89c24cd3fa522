"""Max pooling on the host: one output row at a time, the cells of its windows in turn.

The inner loops run along a row and are free of branches, so the compiler turns them into vector
compares and selects. A row of the input gradient gathers, cell by cell, the rows of windows that
cover it.
"""

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
    _forward(y, argmax, x, window.kernel, window.stride, window.dilation)
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
    _backward(gradient, error, argmax, window.kernel, window.stride, window.dilation)
    return gradient


@compiled
def _keep_larger(best, cells, values, stride, cell):
    """The first maximum wins, and the first NaN wins over everything."""
    for ox in range(len(best)):
        value, before = values[ox * stride], best[ox]
        wins = (value > before) | ((value != value) & (before == before))
        best[ox] = value if wins else before
        cells[ox] = cell if wins else cells[ox]


@compiled
def _add_won(total, stride, error, argmax, cell):
    for ox in range(len(error)):
        total[ox * stride] += error[ox] if argmax[ox] == cell else error.dtype.type(0)


@compiled_parallel
def _forward(y, argmax, x, kernel, stride, dilation):
    _, channels, height, width = y.shape
    for row in prange(y.size // width):
        plane, oy = row // height, row % height
        n, c = plane // channels, plane % channels
        best, cells = y[n, c, oy], argmax[n, c, oy]
        for i in range(kernel[0]):
            source = x[n, c, oy * stride[0] + i * dilation[0]]
            for j in range(kernel[1]):
                cell = argmax.dtype.type(i * kernel[1] + j)
                values = source[j * dilation[1] :]
                if cell == 0:
                    for ox in range(width):
                        best[ox] = values[ox * stride[1]]
                        cells[ox] = cell
                elif stride[1] == 1:
                    _keep_larger(best, cells, values, 1, cell)
                else:
                    _keep_larger(best, cells, values, stride[1], cell)


@compiled_parallel
def _backward(gradient, error, argmax, kernel, stride, dilation):
    _, channels, height, width = gradient.shape
    outputs = error.shape[2]
    for row in prange(gradient.size // width):
        plane, y = row // height, row % height
        n, c = plane // channels, plane % channels
        total = gradient[n, c, y]
        total[:] = 0
        for i in range(kernel[0]):
            oy = (y - i * dilation[0]) // stride[0]
            if oy * stride[0] != y - i * dilation[0] or oy < 0 or oy >= outputs:
                continue
            for j in range(kernel[1]):
                cell = argmax.dtype.type(i * kernel[1] + j)
                target = total[j * dilation[1] :]
                if stride[1] == 1:
                    _add_won(target, 1, error[n, c, oy], argmax[n, c, oy], cell)
                else:
                    _add_won(target, stride[1], error[n, c, oy], argmax[n, c, oy], cell)
