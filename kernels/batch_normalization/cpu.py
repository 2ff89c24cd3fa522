"""Frozen batch normalisation on the host: a scale and a shift for each plane.

Planes are taken in blocks that fit the first-level cache, from which the activation and all three
gradients read them. Where maps have one cell each, as those of lists, a block is some maps: their
channels are neighbours.
"""

import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate, differentiate, numbered
from kernels.batch_normalization import check_backward, check_fold, check_forward
from kernels.foreign import operator
from kernels.host import simd
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.threads import ELEMENT_NS
from kernels.memory import cpu as memory

BLOCK = 1024
# Maps of one cell each whose sums a thread takes
MAPS = 4096


@operator
def forward(x, mean, variance, gamma, beta, epsilon, activation=None):
    """y = f((x - mean) / sqrt(variance + epsilon) * gamma + beta).

    Args:
        x: N x C x H x W, float32 or float64.
        mean, variance, gamma, beta: C, same dtype.
        epsilon: added to the variance.
        activation: None, or one as ``kernels.activation`` describes them.

    Returns:
        an array like x. Workspace: one vector of C.
    """
    check_forward(x, mean, variance, gamma, beta, epsilon, activation)
    y = memory.empty(x.shape, x.dtype)
    scale = _inverse_deviation(variance, epsilon) * gamma
    activation = numbered(activation, x.dtype)
    work = (2 * ELEMENT_NS + activation.cost) * x.size
    if x.shape[2:] == (1, 1):
        maps = y.reshape(-1), x.reshape(-1)
        _forward_of_cells(*maps, mean, scale, beta, activation, work=work)
    else:
        _forward(_planes(y), _planes(x), mean, scale, beta, activation, work=work)
    return y


@operator
def backward(error, x, mean, variance, gamma, epsilon, activation=None, y=None, out=None):
    """(dx, dgamma, dbeta), where e is the error of the output times f':

    dx = e * gamma / sqrt(variance + epsilon)
    dgamma = the sum over n, y, x of e * (x - mean) / sqrt(variance + epsilon)
    dbeta = the sum over n, y, x of e

    Args:
        error: N x C x H x W, float32 or float64.
        x: the input, same shape and dtype.
        mean, variance, gamma: C, same dtype.
        epsilon: added to the variance.
        activation: None, or one as ``kernels.activation`` describes them.
        y: the output, same shape and dtype, if there is an activation.
        out: an array like x to fill with dx, which may be error, x or y; None allocates one.

    Returns:
        an array like x, two vectors of C. Workspace: three blocks for each thread.
    """
    check_backward(error, x, mean, variance, gamma, epsilon, activation, y, out)
    gradient = memory.empty(x.shape, x.dtype) if out is None else out
    maps = gradient, error, x, x if activation is None else y
    deviation = _inverse_deviation(variance, epsilon)
    scales = mean, deviation * gamma
    activation, work = numbered(activation, x.dtype), 4 * ELEMENT_NS * x.size
    if x.shape[2:] == (1, 1):
        sums = memory.zeros((2, -(-len(x) // MAPS), len(mean)), x.dtype)
        _backward_of_cells(sums, *(m.reshape(-1) for m in maps), *scales, activation, work=work)
        products, errors = sums.sum(axis=1)
    else:
        products, errors = memory.empty((2, len(mean)), x.dtype)
        _backward(products, errors, *map(_planes, maps), *scales, activation, work=work)
    return gradient, products * deviation, errors


@operator
def fold(weights, bias, mean, variance, gamma, beta, epsilon):
    """Make a batch normalisation part of the convolution in front of it.

    Args:
        weights: K x C x kh x kw of the convolution, float32 or float64.
        bias: K, same dtype, or None.
        mean, variance, gamma, beta: K, same dtype.
        epsilon: added to the variance.

    Returns:
        (weights, bias) of a convolution that computes both, up to rounding.
    """
    check_fold(weights, bias, mean, variance, gamma, beta, epsilon)
    scale = _inverse_deviation(variance, epsilon) * gamma
    before = -mean if bias is None else bias - mean
    folded = memory.empty(weights.shape, weights.dtype)
    np.multiply(weights, scale[:, None, None, None], out=folded)
    return folded, before * scale + beta


def _inverse_deviation(variance, epsilon):
    return 1 / np.sqrt(variance + variance.dtype.type(epsilon))


def _planes(x):
    return x.reshape(*x.shape[:2], -1)


@compiled_parallel
def _forward(y, x, mean, scale, shift, activation):
    batch, channels, plane = x.shape
    blocks = -(-plane // BLOCK)
    for item in prange(batch * channels * blocks):
        n, c, begin = item // (channels * blocks), item // blocks % channels, item % blocks * BLOCK
        end = min(begin + BLOCK, plane)
        _normalize(y[n, c, begin:end], x[n, c, begin:end], mean[c], scale[c], shift[c])
        if activation.number != NONE:
            activate(y[n, c, begin:end], activation)


@inner
def _normalize(y, x, mean, scale, shift):
    for i in range(len(x)):
        y[i] = (x[i] - mean) * scale + shift


@compiled_parallel
def _forward_of_cells(y, x, mean, scale, shift, activation):
    channels = len(mean)
    block = max(1, BLOCK // channels) * channels
    for item in prange(-(-len(x) // block)):
        begin, end = item * block, min((item + 1) * block, len(x))
        for at in range(begin, end, channels):
            values, numbers = y[at : at + channels], x[at : at + channels]
            for c in range(channels):
                values[c] = (numbers[c] - mean[c]) * scale[c] + shift[c]
        if activation.number != NONE:
            activate(y[begin:end], activation)


@compiled_parallel
def _backward(all_products, all_errors, gradient, error, x, y, mean, scale, activation):
    batch, channels, plane = x.shape
    for c in prange(channels):
        products, errors = (
            np.zeros(min(BLOCK, plane), x.dtype),
            np.zeros(min(BLOCK, plane), x.dtype),
        )
        e = np.empty(min(BLOCK, plane), x.dtype)
        for n in range(batch):
            for begin in range(0, plane, BLOCK):
                end = min(begin + BLOCK, plane)
                if activation.number != NONE:
                    differentiate(e, error[n, c, begin:end], y[n, c, begin:end], activation)
                else:
                    simd.copy(e, 0, error[n, c], begin, end - begin)
                _add_up(products, errors, e, x[n, c, begin:end], mean[c])
                _scale(gradient[n, c, begin:end], e, scale[c])
        all_products[c], all_errors[c] = products.sum(), errors.sum()


@compiled_parallel
def _backward_of_cells(sums, gradient, error, x, y, mean, scale, activation):
    channels = len(mean)
    block = max(1, BLOCK // channels) * channels
    for part in prange(sums.shape[1]):
        products, errors = sums[0, part], sums[1, part]
        e = np.empty(block, x.dtype)
        last = min((part + 1) * MAPS * channels, len(x))
        for begin in range(part * MAPS * channels, last, block):
            end = min(begin + block, last)
            if activation.number != NONE:
                differentiate(e[: end - begin], error[begin:end], y[begin:end], activation)
            else:
                simd.copy(e, 0, error, begin, end - begin)
            for at in range(begin, end, channels):
                of_cell = e[at - begin : at - begin + channels]
                numbers, values = x[at : at + channels], gradient[at : at + channels]
                for c in range(channels):
                    products[c] += of_cell[c] * (numbers[c] - mean[c])
                    errors[c] += of_cell[c]
                for c in range(channels):
                    values[c] = of_cell[c] * scale[c]


@inner
def _add_up(products, errors, error, x, mean):
    for i in range(len(x)):
        products[i] += error[i] * (x[i] - mean)
        errors[i] += error[i]


@inner
def _scale(y, x, scale):
    for i in range(len(y)):
        y[i] = x[i] * scale
