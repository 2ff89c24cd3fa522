"""Convolution on the device: the public functions.

One kernel for each direction, with a stride and a dilation, serves the patch net and its dense
form; a window that covers the whole map is a matrix product. See the modules named ``cuda_*``
beside this one, and ``docs/kernels.md``, which leads to them from one thread an output. Results do
not depend on the tile, except for the order in which the gradient by the weights is summed.
"""

from kernels import checks
from kernels.convolution import (
    cuda_forward,
    cuda_gradient_input,
    cuda_gradient_weights,
    cuda_matrix,
    forward_shape,
    gradient_input_shape,
    gradient_weights_shape,
)
from kernels.convolution.cuda_tiles import choose_tile, product_of
from kernels.cuda_sums import channel_sums
from kernels.device.arrays import operator


@operator
def forward(x, weights, bias=None, *, stride=1, dilation=1, activation=None, tile=None):
    """y[n, k, o] = f(b[k] + sum_c,i w[k, c, i] * x[n, c, o*s + i*d]).

    Workspace: a copy of the weights, filters rounded up to fours, and an offset for each tap.

    Args:
        x: N x C x H x W, float32 or float64, like the other arrays.
        weights: K x C x kh x kw.
        bias: K, or None.
        stride, dilation: an int or (y, x).
        activation: None, or one as ``kernels.activation`` describes them.
        tile: the ``Tile`` to use; None chooses one.

    Returns:
        N x K x Ho x Wo.
    """
    shape = forward_shape(x, weights, bias, stride, dilation, activation)
    tile = tile or choose_tile(*product_of("forward", shape), x.dtype.itemsize)
    if shape.covers_map:
        return cuda_matrix.forward(x, weights, bias, shape, activation, tile)
    return cuda_forward.forward(x, weights, bias, shape, activation, tile)


@operator
def gradient_input(error, weights, size, *, stride=1, dilation=1, tile=None):
    """dx[n, c, y] = sum over k and all (o, i) with o*s + i*d = y of w[k, c, i] * e[n, k, o].

    Workspace: a copy of the weights, transposed, channels rounded up to fours.

    Args:
        error: N x K x Ho x Wo, float32 or float64, like the weights.
        weights: K x C x kh x kw.
        size: (H, W) of the input.
        stride, dilation: an int or (y, x).
        tile: the ``Tile`` to use; None chooses one.

    Returns:
        N x C x H x W.
    """
    shape = gradient_input_shape(error, weights, size, stride, dilation)
    tile = tile or choose_tile(*product_of("gradient_input", shape), error.dtype.itemsize)
    if shape.covers_map:
        return cuda_matrix.gradient_input(error, weights, shape, tile)
    if shape.window.kernel == (1, 1) and shape.output == shape.size:
        return cuda_forward.gradient_input(error, weights, shape, tile)
    return cuda_gradient_input.gradient_input(error, weights, shape, tile)


@operator
def gradient_weights(x, error, kernel, *, stride=1, dilation=1, tile=None):
    """dw[k, c, i] = sum_n,o e[n, k, o] * x[n, c, o*s + i*d].

    Workspace: partial sums, at most 64 MB.

    Args:
        x: N x C x H x W, float32 or float64, like the error.
        error: N x K x Ho x Wo.
        kernel: (kh, kw) of the weights.
        stride, dilation: an int or (y, x).
        tile: the ``Tile`` to use; None chooses one.

    Returns:
        K x C x kh x kw.
    """
    shape = gradient_weights_shape(x, error, kernel, stride, dilation)
    tile = tile or choose_tile(*product_of("gradient_weights", shape), x.dtype.itemsize)
    if shape.covers_map:
        return cuda_matrix.gradient_weights(x, error, shape, tile)
    return cuda_gradient_weights.gradient_weights(x, error, shape, tile)


@operator
def gradient_bias(error):
    """db[k] = sum_n,o e[n, k, o]: K sums of N x K x Ho x Wo, float32 or float64.

    Workspace: partial sums, one of each channel for some thousand pixels.
    """
    checks.array("error", error, (None,) * 4)
    return channel_sums(error)
