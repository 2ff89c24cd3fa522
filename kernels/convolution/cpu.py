"""Convolution on the host, in register tiles of output channels x pixels (``kernels/simd.py``).

The forward pass and the input gradient are one gather over tables of taps
(``cpu_correlation.py``); the weight gradient runs over pixels (``cpu_gradient_weights.py``).
"""

import numpy as np
from numba import prange

from kernels import geometry
from kernels.activation.cpu import activate
from kernels.compilation import compiled_parallel
from kernels.convolution.cpu_correlation import correlate
from kernels.convolution.cpu_gradient_weights import accumulate
from kernels.convolution.cpu_taps import Taps
from kernels.memory import cpu as memory


def forward(x, weights, bias=None, *, stride=1, dilation=1, activation=None):
    """y = f(b + w * x), see ``kernels.convolution``.

    Args:
        x: input, N x C x H x W, float32 or float64.
        weights: K x C x kh x kw, same dtype.
        bias: K, same dtype, or None.
        stride, dilation: ints or pairs (y, x).
        activation: None, ``"relu"``, ``"tanh"`` or ``"sigmoid"``.

    Returns:
        N x K x Ho x Wo. Workspace: a packed copy of the weights.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.convolution_forward(x, weights, bias, stride, dilation, activation)
    y = memory.empty(shape.y, x.dtype)
    if shape.covers_map:
        shape = shape.flattened()
    (sy, sx), (dy, dx), (kh, kw) = shape.window.stride, shape.window.dilation, shape.window.kernel
    rows = Taps.reading(shape.output[0], kh, sy, dy)
    columns = Taps.reading(shape.output[1], kw, sx, dx)
    start = np.zeros(shape.filters, x.dtype) if bias is None else bias
    weights = weights.reshape(shape.weights)
    correlate(y.reshape(shape.y), x.reshape(shape.x), weights, start, rows, columns)
    if activation is not None:
        activate(y, activation)
    return y


def gradient_input(error, weights, size, *, stride=1, dilation=1):
    """dx, see ``kernels.convolution``.

    Args:
        error: N x K x Ho x Wo, float32 or float64.
        weights: K x C x kh x kw, same dtype.
        size: (H, W) of the input.
        stride, dilation: ints or pairs (y, x).

    Returns:
        N x C x H x W. Workspace: a packed copy of the weights.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.convolution_gradient_input(error, weights, size, stride, dilation)
    gradient = memory.empty(shape.x, error.dtype)
    if shape.covers_map:
        shape = shape.flattened()
    (sy, sx), (dy, dx), (kh, kw) = shape.window.stride, shape.window.dilation, shape.window.kernel
    rows = Taps.read_by(shape.size[0], shape.output[0], kh, sy, dy)
    columns = Taps.read_by(shape.size[1], shape.output[1], kw, sx, dx)
    start = np.zeros(shape.channels, error.dtype)
    weights = weights.reshape(shape.weights).swapaxes(0, 1)
    correlate(gradient.reshape(shape.x), error.reshape(shape.y), weights, start, rows, columns)
    return gradient


def gradient_weights(x, error, kernel, *, stride=1, dilation=1):
    """dw, see ``kernels.convolution``.

    Args:
        x: input, N x C x H x W, float32 or float64.
        error: N x K x Ho x Wo, same dtype.
        kernel: (kh, kw).
        stride, dilation: ints or pairs (y, x).

    Returns:
        K x C x kh x kw. Workspace: at most 16 partial sums of the size of the result, and at most
        64 MB of them if that is more than one; 256 pixels of packed errors for each thread.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.convolution_gradient_weights(x, error, kernel, stride, dilation)
    gradient = memory.empty(shape.weights, x.dtype)
    if shape.covers_map:
        shape = shape.flattened()
    accumulate(gradient.reshape(-1), x.reshape(-1), error.reshape(-1), shape)
    return gradient


def gradient_bias(error):
    """db: the sum of N x K x Ho x Wo errors over all but the channels; K, same dtype.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.check_array("error", error, (None,) * 4)
    gradient = memory.empty(error.shape[1], error.dtype)
    _sum_channels(gradient, error)
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
