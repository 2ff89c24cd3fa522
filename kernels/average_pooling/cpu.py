"""Average pooling on the host: one row at a time, the cells of its windows in turn."""

from numba import prange

from kernels import geometry
from kernels.compilation import compiled_parallel
from kernels.memory import cpu as memory


def forward(x, kernel, *, stride=1, dilation=1):
    """y: the mean of each window, see ``kernels.average_pooling``.

    Args:
        x: N x C x H x W, float32 or float64.
        kernel, stride, dilation: ints or pairs (y, x).

    Returns:
        N x C x Ho x Wo like x. Workspace: none.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.pooling_forward(x, kernel, stride, dilation)
    y = memory.empty(shape.y, x.dtype)
    window = shape.window
    _forward(y, x, window.kernel, window.stride, window.dilation)
    return y


def backward(error, size, kernel, *, stride=1, dilation=1):
    """dx: each window's error, shared equally by its cells.

    Args:
        error: N x C x Ho x Wo, float32 or float64.
        size: (H, W) of the input.
        kernel, stride, dilation: ints or pairs (y, x).

    Returns:
        N x C x H x W. Workspace: none.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.pooling_backward(error, size, kernel, stride, dilation)
    gradient = memory.empty(shape.x, error.dtype)
    window = shape.window
    _backward(gradient, error, window.kernel, window.stride, window.dilation)
    return gradient


@compiled_parallel
def _forward(y, x, kernel, stride, dilation):
    _, channels, height, width = y.shape
    cells = y.dtype.type(kernel[0] * kernel[1])
    for row in prange(y.size // width):
        plane, oy = row // height, row % height
        n, c = plane // channels, plane % channels
        total = y[n, c, oy]
        total[:] = 0
        for i in range(kernel[0]):
            source = x[n, c, oy * stride[0] + i * dilation[0]]
            for j in range(kernel[1]):
                for ox in range(width):
                    total[ox] += source[ox * stride[1] + j * dilation[1]]
        for ox in range(width):
            total[ox] /= cells


@compiled_parallel
def _backward(gradient, error, kernel, stride, dilation):
    _, channels, height, width = gradient.shape
    outputs, output_width = error.shape[2:]
    cells = gradient.dtype.type(kernel[0] * kernel[1])
    for row in prange(gradient.size // width):
        plane, y = row // height, row % height
        n, c = plane // channels, plane % channels
        total = gradient[n, c, y]
        total[:] = 0
        for i in range(kernel[0]):
            oy = (y - i * dilation[0]) // stride[0]
            if oy * stride[0] != y - i * dilation[0] or oy < 0 or oy >= outputs:
                continue
            source = error[n, c, oy]
            for j in range(kernel[1]):
                for ox in range(output_width):
                    total[ox * stride[1] + j * dilation[1]] += source[ox]
        for x in range(width):
            total[x] /= cells
