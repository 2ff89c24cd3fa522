"""Convolution on the host, in register tiles of output channels x pixels (``kernels.host.simd``).

There are loops for stride 1 (``cpu_rows.py``) and its input gradient (``cpu_rows_of_errors.py``),
for any stride (``cpu_scattered.py``), and for the weight gradient (``cpu_gradient_weights.py``).
Forward, both sum the taps of each output in the order (channel, i, j) with fused multiply-adds, so
that both forms of a net give the same bits.
"""

import numpy as np
from numba import prange

from kernels import checks
from kernels.activation.cpu import numbered
from kernels.convolution import (
    cpu_rows,
    cpu_rows_of_errors,
    cpu_scattered,
    forward_shape,
    gradient_input_shape,
    gradient_weights_shape,
)
from kernels.convolution.cpu_choice import in_rows, in_rows_of_errors
from kernels.convolution.cpu_gradient_weights import accumulate
from kernels.convolution.cpu_taps import Taps
from kernels.convolution.cpu_weights import packed
from kernels.convolution.cpu_workspace import tile_shape
from kernels.foreign import operator
from kernels.host import simd
from kernels.host.compilation import compiled_parallel
from kernels.host.maps import by_cell
from kernels.host.threads import ELEMENT_NS
from kernels.memory import cpu as memory

# Maps of one cell each that a thread sums
MAPS = 4096


@operator
def forward(x, weights, bias=None, *, stride=1, dilation=1, activation=None):
    """y = f(b + w * x), see ``kernels.convolution``.

    Args:
        x: input, N x C x H x W, float32 or float64.
        weights: K x C x kh x kw, same dtype.
        bias: K, same dtype, or None.
        stride, dilation: ints or pairs (y, x).
        activation: None, or one as ``kernels.activation`` describes them.

    Returns:
        N x K x Ho x Wo. Workspace: a packed copy of the weights.
    """
    shape = forward_shape(x, weights, bias, stride, dilation, activation)
    y = memory.empty(shape.y, x.dtype)
    if shape.covers_map:
        shape = shape.flattened()
    window, out, source = shape.window, y.reshape(shape.y), x.reshape(shape.x)
    weights = weights.reshape(shape.weights)
    lanes = simd.lanes(x.itemsize)
    outputs = shape.filters, shape.output
    if in_rows(shape.batch, shape.channels, *outputs, window, (1, 1), lanes):
        weights = packed(weights, tile_shape(shape.filters)[1])
        maps = out, source, weights, window.kernel, bias
        cpu_rows.correlate(*maps, window.dilation, (0, 0), numbered(activation, x.dtype))
    else:
        weights = packed(weights, lanes)
        axes = tuple(zip(shape.output, window.kernel, window.stride, window.dilation))
        maps = out, source, weights, window.kernel, bias
        cpu_scattered.correlate(*maps, Taps.reading, axes, numbered(activation, x.dtype))
    return y


@operator
def gradient_input(error, weights, size, *, stride=1, dilation=1):
    """dx, see ``kernels.convolution``.

    Args:
        error: N x K x Ho x Wo, float32 or float64.
        weights: K x C x kh x kw, same dtype.
        size: (H, W) of the input.
        stride, dilation: ints or pairs (y, x).

    Returns:
        N x C x H x W. Workspace: a packed copy of the weights.
    """
    shape = gradient_input_shape(error, weights, size, stride, dilation)
    gradient = memory.empty(shape.x, error.dtype)
    if shape.covers_map:
        shape = shape.flattened()
    window, out, source = shape.window, gradient.reshape(shape.x), error.reshape(shape.y)
    weights = weights.reshape(shape.weights)
    no_activation = numbered(None, error.dtype)
    inside = tuple(a / b for a, b in zip(shape.output, shape.size))
    lanes = simd.lanes(error.itemsize)
    outputs = shape.channels, shape.size
    of_errors = in_rows_of_errors(shape.x, shape.y, window, lanes)
    rows = of_errors or in_rows(shape.batch, shape.filters, *outputs, window, inside, lanes)
    rows = rows and np.isfinite(weights).all()
    if rows and of_errors:
        cpu_rows_of_errors.correlate(out, source, weights, window)
    elif rows:
        group = tile_shape(shape.channels)[1]
        weights = packed(weights, group, transposed=True, flipped=True)
        origin = tuple((1 - k) * d for k, d in zip(window.kernel, window.dilation))
        maps = out, source, weights, window.kernel, None
        cpu_rows.correlate(*maps, window.dilation, origin, no_activation)
    else:
        weights = packed(weights, lanes, transposed=True)
        sizes = shape.size, shape.output
        axes = tuple(zip(*sizes, window.kernel, window.stride, window.dilation))
        maps = out, source, weights, window.kernel, None
        cpu_scattered.correlate(*maps, Taps.read_by, axes, no_activation)
    return gradient


@operator
def gradient_weights(x, error, kernel, *, stride=1, dilation=1):
    """dw, see ``kernels.convolution``.

    Args:
        x: input, N x C x H x W, float32 or float64.
        error: N x K x Ho x Wo, same dtype.
        kernel: (kh, kw).
        stride, dilation: ints or pairs (y, x).

    Returns:
        K x C x kh x kw. Workspace: at most 16 partial sums of the size of the result, in at most
        64 MB unless a single one takes more; 2,048 pixels of packed errors for each thread.
    """
    shape = gradient_weights_shape(x, error, kernel, stride, dilation)
    gradient = memory.empty(shape.weights, x.dtype)
    if shape.covers_map:
        shape = shape.flattened()
    accumulate(gradient.reshape(-1), x.reshape(-1), error.reshape(-1), shape)
    return gradient


@operator
def gradient_bias(error):
    """db: the sum of N x K x Ho x Wo errors over all but the channels; K, same dtype."""
    checks.array("error", error, (None,) * 4)
    batch, channels, *size = error.shape
    if size == [1, 1]:
        partial = memory.zeros((-(-batch // MAPS), channels), error.dtype)
        _sum_maps(partial, *by_cell(error), work=ELEMENT_NS * error.size)
        return partial.sum(axis=0)
    gradient = memory.empty(channels, error.dtype)
    _sum_channels(gradient, error, work=ELEMENT_NS * error.size)
    return gradient


@compiled_parallel
def _sum_channels(out, error):
    batch, channels, height, width = error.shape
    for k in prange(channels):
        columns = np.zeros(width, error.dtype)
        for n in range(batch):
            for y in range(height):
                for x in range(width):
                    columns[x] += error[n, k, y, x]
        out[k] = columns.sum()


@compiled_parallel
def _sum_maps(partial, error):
    for part in prange(len(partial)):
        total = partial[part]
        for n in range(part * MAPS, min((part + 1) * MAPS, len(error))):
            values = error[n]
            for k in range(len(total)):
                total[k] += values[k]
