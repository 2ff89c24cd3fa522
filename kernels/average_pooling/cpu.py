"""Average pooling on the host: one cell of many windows at a time.

The inner loops run along a row; with a stride, along a whole map. Backward, each row of the input
gathers the errors of the windows that cover it, cell by cell; with a stride, each window adds its
error to its cells.
"""

from numba import prange

from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.maps import place_of_row
from kernels.host.windows import over_windows
from kernels.memory import cpu as memory
from kernels.window import PoolingShape


@operator
def forward(x, kernel, *, stride=1, dilation=1):
    """y: the mean of each window, see ``kernels.average_pooling``.

    Args:
        x: N x C x H x W, float32 or float64.
        kernel, stride, dilation: ints or pairs (y, x).

    Returns:
        N x C x Ho x Wo like x. Workspace: none.
    """
    shape = PoolingShape.of_input(x, kernel, stride, dilation)
    y = memory.empty(shape.y, x.dtype)
    over_windows(shape, _forward, _forward_strided, y, x)
    return y


@operator
def backward(error, size, kernel, *, stride=1, dilation=1):
    """dx: each window's error, shared equally by its cells.

    Args:
        error: N x C x Ho x Wo, float32 or float64.
        size: (H, W) of the input.
        kernel, stride, dilation: ints or pairs (y, x).

    Returns:
        N x C x H x W. Workspace: none.
    """
    shape = PoolingShape.of_error(error, size, kernel, stride, dilation)
    gradient = memory.empty(shape.x, error.dtype)
    over_windows(shape, _backward, _backward_strided, gradient, error)
    return gradient


@inner
def _add(total, values):
    for i in range(len(total)):
        total[i] += values[i]


@inner
def _divide(total, cells):
    for i in range(len(total)):
        total[i] /= cells


@compiled_parallel
def _forward(y, x, kernel, dilation):
    _, channels, height, width = y.shape
    for row in prange(y.size // width):
        n, c, oy = place_of_row(row, channels, height)
        total = y[n, c, oy]
        total[:] = 0
        for i in range(kernel[0]):
            source = x[n, c, oy + i * dilation[0]]
            for j in range(kernel[1]):
                _add(total, source[j * dilation[1] :])
        _divide(total, y.dtype.type(kernel[0] * kernel[1]))


@compiled_parallel
def _backward(gradient, error, kernel, dilation):
    _, channels, height, width = gradient.shape
    outputs, output_width = error.shape[2:]
    for row in prange(gradient.size // width):
        n, c, y = place_of_row(row, channels, height)
        total = gradient[n, c, y]
        total[:] = 0
        for i in range(kernel[0]):
            oy = y - i * dilation[0]
            if oy < 0 or oy >= outputs:
                continue
            for j in range(kernel[1]):
                begin = j * dilation[1]
                _add(total[begin : begin + output_width], error[n, c, oy])
        _divide(total, gradient.dtype.type(kernel[0] * kernel[1]))


@compiled_parallel
def _forward_strided(y, x, corners, cells):
    for plane in prange(len(y)):
        total, source = y[plane], x[plane]
        total[:] = 0
        for cell in range(len(cells)):
            for o in range(len(total)):
                total[o] += source[corners[o] + cells[cell]]
        _divide(total, y.dtype.type(len(cells)))


@compiled_parallel
def _backward_strided(gradient, error, corners, cells):
    for plane in prange(len(gradient)):
        total = gradient[plane]
        total[:] = 0
        for o in range(error.shape[1]):
            share = error[plane, o] / gradient.dtype.type(len(cells))
            for cell in range(len(cells)):
                total[corners[o] + cells[cell]] += share
