"""Average pooling on the device.

    y[n, c, oy, ox] = sum over i of (sum over j of x[n, c, oy*s + i*d, ox*s + j*d]) / (kh * kw)

Each window adds up its rows, one after the other. With a vertical stride of 1, as in the dense
form, a thread has a strip of outputs, and adds up a row once for all of them. Backward, a thread
has a strip of inputs, and adds the errors of the windows that cover them: no atomics. What both
poolings share stands in ``kernels.device.windows``.

Bytes: each map once; what several threads read comes from the cache.
"""

from functools import cache

from kernels.checks import Pair
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.device.windows import (
    STRIP,
    PoolingSizes,
    Strips,
    strip_gatherer,
    strip_of,
    strip_reducer,
    window_gatherer,
)
from kernels.memory import cuda as memory
from kernels.window import PoolingShape


@cache
def _forward_kernel(dtype, window: Pair, strip: int):
    rows, columns = window
    cells = dtype(rows * columns)

    @device
    def reduce_row(x, at, step):
        total = dtype(0)
        for j in range(columns):
            total += x[u32(at + u32(u32(j) * step))]
        return total

    @device
    def take(totals, v, i, result):
        totals[v] += result

    @device
    def write(totals, v, y, at):
        y[at] = totals[v] / cells

    reduce_strip = strip_reducer(rows, strip, reduce_row, take, write)

    @kernel(ELEMENTWISE_THREADS)
    def average_pooling_forward(
        x,  # N*C*H*W
        y,  # N*C*Ho*Wo
        strips,  # Strips of outputs
        g,  # PoolingSizes
    ):
        totals = cuda.local.array(strip, dtype)
        for v in range(strip):
            totals[v] = dtype(0)
        reduce_strip(x, totals, y, strips, g)

    return average_pooling_forward


@cache
def _dense_backward_kernel(dtype, window: Pair):
    """For stride 1: a thread has a strip of inputs."""
    rows, columns = window
    cells = dtype(rows * columns)

    @device
    def gather_row(error, first, x, t, totals, g):
        of_row = dtype(0)
        for j in range(columns):
            # Beyond the left edge, positions wrap and are too large
            ox = u32(x - u32(u32(j) * u32(g.dilation[1])))
            if ox < u32(g.output[1]):
                of_row += error[u32(first + ox)]
        for v in range(STRIP):
            if 0 <= t + v - (STRIP - 1) < rows:
                totals[v] += of_row

    @device
    def write(gradient, at, total):
        gradient[at] = total / cells

    gather_strip = strip_gatherer(rows, gather_row, write)

    @kernel(ELEMENTWISE_THREADS)
    def average_pooling_dense_backward(
        error,  # N*C*Ho*Wo
        gradient,  # N*C*H*W
        strips,  # Strips of inputs
        g,  # PoolingSizes
    ):
        totals = cuda.local.array(STRIP, dtype)
        for v in range(STRIP):
            totals[v] = dtype(0)
        gather_strip(error, totals, gradient, strips, g)

    return average_pooling_dense_backward


@cache
def _backward_kernel(dtype):
    """For any stride: a thread has one input, which few windows cover."""

    @device
    def gather(error, window, cell, total):
        return total + error[window]

    gather_windows = window_gatherer(gather)

    @kernel(ELEMENTWISE_THREADS)
    def average_pooling_backward(
        error,  # N*C*Ho*Wo
        gradient,  # N*C*H*W
        cells,  # of a window
        g,  # PoolingSizes
    ):
        at = u32(cuda.grid(1))
        if at < gradient.size:
            gradient[at] = gather_windows(error, at, dtype(0), g) / cells

    return average_pooling_backward


@operator
def forward(x, kernel, *, stride=1, dilation=1):
    """y: the mean of each window of x, N x C x H x W in float32 or float64: N x C x Ho x Wo."""
    shape = PoolingShape.of_input(x, kernel, stride, dilation)
    y = memory.empty(shape.y, x.dtype)
    strip = strip_of(shape.window.stride[0])
    strips = Strips.of(shape, shape.output, strip)
    f = _forward_kernel(x.dtype.type, shape.window.kernel, strip)
    launch_over(f, strips.threads, flat("x", x), flat("y", y), strips, PoolingSizes.of(shape))
    return y


@operator
def backward(error, size, kernel, *, stride=1, dilation=1):
    """dx, N x C x H x W for ``size`` (H, W): each window's error, shared equally by its cells."""
    shape = PoolingShape.of_error(error, size, kernel, stride, dilation)
    gradient = memory.empty(shape.x, error.dtype)
    number, arrays = error.dtype.type, (flat("error", error), flat("gradient", gradient))
    if shape.window.stride == (1, 1):
        strips = Strips.of(shape, shape.size, STRIP)
        f = _dense_backward_kernel(number, shape.window.kernel)
        launch_over(f, strips.threads, *arrays, strips, PoolingSizes.of(shape))
    else:
        cells = number(shape.window.cells)
        launch_over(_backward_kernel(number), gradient.size, *arrays, cells, PoolingSizes.of(shape))
    return gradient
