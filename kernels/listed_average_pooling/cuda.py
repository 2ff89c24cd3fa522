"""Average pooling of listed cells on the device: a thread for each number of the output.

Neighbouring threads have neighbouring channels of one window, whose rows are added up one after the
other, as ``kernels.average_pooling`` does. Backward goes cell by cell of the
window, one launch each, as max pooling's does: no atomics, and a fixed order of the sums.
"""

from functools import cache

from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.listed_average_pooling import backward_kernel, forward_kernel
from kernels.memory import cuda as memory


@cache
def _forward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def listed_average_pooling_forward(
        x,  # M*C
        rows,  # P*kh
        y,  # P*C
        channels,  # C
        size,  # (kh, kw)
        cells,  # kh * kw
    ):
        index = u32(cuda.grid(1))
        if index < y.size:
            p, c = divmod_u32(index, channels)
            total = dtype(0)
            for i in range(size[0]):
                at = u32(u32(rows[u32(p * u32(size[0]) + i)]) * u32(channels) + c)
                of_row = dtype(0)
                for _ in range(size[1]):
                    of_row += x[at]
                    at = u32(at + u32(channels))
                total += of_row
            y[index] = total / cells

    return listed_average_pooling_forward


@cache
def _backward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def listed_average_pooling_backward(
        error,  # P*C
        rows,  # P*kh
        gradient,  # M*C
        channels,  # C
        height,  # kh
        tap,  # (i, j)
        cells,  # kh * kw
    ):
        index = u32(cuda.grid(1))
        if index < error.size:
            p, c = divmod_u32(index, channels)
            row = u32(u32(rows[u32(p * u32(height) + u32(tap[0]))]) + u32(tap[1]))
            gradient[u32(row * u32(channels) + c)] += error[index] / cells

    return listed_average_pooling_backward


@operator
def forward(x, rows, kernel):
    """y, P x C x 1 x 1; arguments as ``kernels.listed_average_pooling.cpu``."""
    kernel = forward_kernel(x, rows, kernel)
    y = memory.empty((rows.shape[0], *x.shape[1:]), x.dtype)
    arrays = flat("x", x), flat("rows", rows), flat("y", y)
    cells = x.dtype.type(kernel[0] * kernel[1])
    launch_over(_forward_kernel(x.dtype.type), y.size, *arrays, x.shape[1], kernel, cells)
    return y


@operator
def backward(error, rows, kernel, cells):
    """dx, M x C x 1 x 1; arguments as ``kernels.listed_average_pooling.cpu``."""
    height, width = backward_kernel(error, rows, kernel, cells)
    gradient = memory.zeros((cells, *error.shape[1:]), error.dtype)
    arrays = flat("error", error), flat("rows", rows), flat("gradient", gradient)
    share = error.dtype.type(height * width)
    for cell in range(height * width):
        numbers = error.shape[1], height, divmod(cell, width), share
        launch_over(_backward_kernel(error.dtype.type), error.size, *arrays, *numbers)
    return gradient
