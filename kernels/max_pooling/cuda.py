"""Max pooling on the device.

    y[n, c, oy, ox] = f(max over i, j of x[n, c, oy*s + i*d, ox*s + j*d])

Forward with a vertical stride of 1, as in the dense form, a thread has a strip of outputs. It takes
the maximum of each row of a window once, for all of them, which reads (STRIP + kh - 1) * kw values
in place of STRIP * kh * kw; large windows go through shared memory instead (``cuda_staged``).
Windows of other strides share few rows or none: there a thread has one output. Backward, a thread
with a strip of inputs visits the windows that cover them, and adds the errors of those whose argmax
they are: no atomics. A kernel is compiled for each size of window, so that its loops unroll, but
not for each size of map. What both poolings share stands in ``kernels.device.windows``.

Comparisons select and never call max(), whose instruction drops NaN.

Bytes: forward the input is read once, and 5 bytes are written for each output (float32); backward
these are read, and the gradient is written once. Rows that several threads read come from the
cache.
"""

from functools import cache

import numpy as np

from kernels.activation import activation_of
from kernels.activation.cuda import function
from kernels.checks import Pair
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.device.maxima import wins
from kernels.device.windows import (
    STRIP,
    PoolingSizes,
    Strips,
    strip_gatherer,
    strip_of,
    strip_reducer,
    window_gatherer,
)
from kernels.max_pooling import argmax_dtype, backward_shape, cuda_staged, forward_shape
from kernels.memory import cuda as memory


@cache
def _strip_reducer(dtype, argmax_dtype, activation, window: Pair, strip: int):
    """The ``strip_reducer`` of maxima and their cells; outputs are (y, argmax), or y alone."""
    f = function(activation, dtype)
    rows, columns = window

    @device
    def reduce_row(x, at, step):
        top, column = x[at], u32(0)
        for j in range(1, columns):
            value = x[u32(at + u32(u32(j) * step))]
            if wins(value, top):
                top, column = value, u32(j)
        return top, column

    @device
    def take(maxima, v, i, result):
        (best, cell), (top, column) = maxima, result
        # Against -inf, ptxas would use FMNMX, which changes the bits of NaN
        if i == 0 or wins(top, best[v]):
            best[v] = top
            cell[v] = u32(u32(i * columns) + column)

    @device
    def write(maxima, v, outputs, at):
        (best, cell), (y, argmax) = maxima, outputs
        y[at] = f(best[v])
        argmax[at] = argmax_dtype(cell[v])

    @device
    def write_maximum(maxima, v, y, at):
        y[at] = f(maxima[0][v])

    return strip_reducer(rows, strip, reduce_row, take, write if argmax_dtype else write_maximum)


@cache
def _forward_kernel(dtype, argmax_dtype, activation, window: Pair, strip: int):
    """``argmax_dtype`` is None where no argmax is wanted."""
    reduce_strip = _strip_reducer(dtype, argmax_dtype, activation, window, strip)

    @kernel(ELEMENTWISE_THREADS)
    def max_pooling_maxima(
        x,  # N*C*H*W
        y,  # N*C*Ho*Wo
        strips,  # Strips of outputs
        g,  # PoolingSizes
    ):
        best = cuda.local.array(strip, dtype)
        cell = cuda.local.array(strip, u32)
        reduce_strip(x, (best, cell), y, strips, g)

    @kernel(ELEMENTWISE_THREADS)
    def max_pooling_forward(
        x,  # N*C*H*W
        y,  # N*C*Ho*Wo
        argmax,  # N*C*Ho*Wo
        strips,  # Strips of outputs
        g,  # PoolingSizes
    ):
        best = cuda.local.array(strip, dtype)
        cell = cuda.local.array(strip, u32)
        reduce_strip(x, (best, cell), (y, argmax), strips, g)

    return max_pooling_forward if argmax_dtype else max_pooling_maxima


@cache
def _dense_backward_kernel(dtype, window: Pair):
    """For stride 1: a thread has a strip of inputs."""
    rows, columns = window
    above = u32((STRIP - 1) * columns)

    @device
    def gather_row(sources, first, x, t, totals, g):
        error, argmax = sources
        for j in range(columns):
            # Beyond the left edge, positions wrap and are too large
            ox = u32(x - u32(u32(j) * u32(g.dilation[1])))
            if ox < u32(g.output[1]):
                at = u32(first + ox)
                of_window = error[at]
                # 0 if the cell (t - (STRIP - 1), j) won, columns if the one below it did, ...
                cell = u32(argmax[at] + above - u32(t * columns + j))
                for v in range(STRIP):
                    if cell == u32(v * columns):
                        totals[v] += of_window

    @device
    def write(gradient, at, total):
        gradient[at] = total

    gather_strip = strip_gatherer(rows, gather_row, write)

    @kernel(ELEMENTWISE_THREADS)
    def max_pooling_dense_backward(
        error,  # N*C*Ho*Wo
        argmax,  # N*C*Ho*Wo
        gradient,  # N*C*H*W
        strips,  # Strips of inputs
        g,  # PoolingSizes
    ):
        totals = cuda.local.array(STRIP, dtype)
        for v in range(STRIP):
            totals[v] = dtype(0)
        gather_strip((error, argmax), totals, gradient, strips, g)

    return max_pooling_dense_backward


@cache
def _backward_kernel(dtype):
    """For any stride: a thread has one input, which few windows cover."""

    @device
    def gather(sources, window, cell, total):
        error, argmax = sources
        return total + error[window] if u32(argmax[window]) == cell else total

    gather_windows = window_gatherer(gather)

    @kernel(ELEMENTWISE_THREADS)
    def max_pooling_backward(
        error,  # N*C*Ho*Wo
        argmax,  # N*C*Ho*Wo
        gradient,  # N*C*H*W
        g,  # PoolingSizes
    ):
        at = u32(cuda.grid(1))
        if at < gradient.size:
            gradient[at] = gather_windows((error, argmax), at, dtype(0), g)

    return max_pooling_backward


@operator
def forward(x, kernel, *, stride=1, dilation=1, activation=None, argmax=True):
    """(y, argmax): the first maximum of each window, or its first NaN, and its cell number.

    Args:
        x: N x C x H x W, float32 or float64.
        kernel, stride, dilation: an int or (y, x).
        activation: as in ``kernels.activation``, of the maxima; None leaves them as they are.
        argmax: whether it is wanted.

    Returns:
        y, N x C x Ho x Wo, and the cell numbers i * kw + j in ``argmax_dtype``, or None.
    """
    shape = forward_shape(x, kernel, stride, dilation, activation, argmax)
    activation = None if activation is None else activation_of(activation)
    cell_dtype = np.dtype(argmax_dtype(shape.window)).type if argmax else None
    y = memory.empty(shape.y, x.dtype)
    argmax_map = memory.empty(shape.y, cell_dtype) if argmax else None
    if cuda_staged.serves(shape.window):
        cuda_staged.forward(x, y, argmax_map, shape, activation)
        return y, argmax_map
    strip = strip_of(shape.window.stride[0])
    strips = Strips.of(shape, shape.output, strip)
    f = _forward_kernel(x.dtype.type, cell_dtype, activation, shape.window.kernel, strip)
    arrays = [flat("x", x), flat("y", y), *([flat("argmax", argmax_map)] if argmax else [])]
    launch_over(f, strips.threads, *arrays, strips, PoolingSizes.of(shape))
    return y, argmax_map


@operator
def backward(error, argmax, size, kernel, *, stride=1, dilation=1):
    """dx: each window's error, added to the cell that won it.

    Args:
        error: N x C x Ho x Wo, float32 or float64.
        argmax: what ``forward`` returned.
        size: (H, W) of the input.
        kernel, stride, dilation: an int or (y, x).

    Returns:
        N x C x H x W.
    """
    shape = backward_shape(error, size, kernel, stride, dilation, argmax)
    gradient = memory.empty(shape.x, error.dtype)
    arrays = flat("error", error), flat("argmax", argmax), flat("gradient", gradient)
    if shape.window.stride == (1, 1):
        strips = Strips.of(shape, shape.size, STRIP)
        f = _dense_backward_kernel(error.dtype.type, shape.window.kernel)
        launch_over(f, strips.threads, *arrays, strips, PoolingSizes.of(shape))
    else:
        launch_over(
            _backward_kernel(error.dtype.type), gradient.size, *arrays, PoolingSizes.of(shape)
        )
    return gradient
