"""Frozen batch normalisation on the host: a scale and a shift for each plane."""

import numpy as np
from numba import prange

from kernels import geometry
from kernels.compilation import compiled_parallel
from kernels.memory import cpu as memory


def forward(x, mean, variance, gamma, beta, epsilon):
    """y = (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    Args:
        x: N x C x H x W, float32 or float64.
        mean, variance, gamma, beta: C, same dtype.
        epsilon: added to the variance.

    Returns:
        an array like x. Workspace: one vector of C.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.per_channel(x, mean=mean, variance=variance, gamma=gamma, beta=beta)
    y = memory.empty(x.shape, x.dtype)
    _forward(y, x, mean, _inverse_deviation(variance, epsilon) * gamma, beta)
    return y


def backward_input(error, variance, gamma, epsilon, out=None):
    """dx = e * gamma / sqrt(variance + epsilon).

    Args:
        error: N x C x H x W, float32 or float64.
        variance, gamma: C, same dtype.
        epsilon: added to the variance.
        out: an array like error to fill, error itself too; None makes one.

    Returns:
        an array like error. Workspace: one vector of C.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.normalization_backward(error, variance, gamma, out)
    gradient = memory.empty(error.shape, error.dtype) if out is None else out
    _scale(gradient, error, _inverse_deviation(variance, epsilon) * gamma)
    return gradient


def backward_parameters(error, x, mean, variance, epsilon):
    """(dgamma, dbeta): sums over n, y, x of e * (x - mean) / sqrt(variance + epsilon) and of e.

    Args:
        error: N x C x H x W, float32 or float64.
        x: the input, same shape and dtype.
        mean, variance: C, same dtype.
        epsilon: added to the variance.

    Returns:
        two vectors of C. Workspace: two rows for each thread.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.same_map(error=error, x=x)
    geometry.per_channel(x, mean=mean, variance=variance)
    gamma = memory.empty(mean.shape, x.dtype)
    beta = memory.empty(mean.shape, x.dtype)
    _sums(gamma, beta, error, x, mean, _inverse_deviation(variance, epsilon))
    return gamma, beta


def _inverse_deviation(variance, epsilon):
    return 1 / np.sqrt(variance + variance.dtype.type(epsilon))


@compiled_parallel
def _forward(y, x, mean, scale, shift):
    batch, channels, height, width = x.shape
    for row in prange(batch * channels * height):
        n, c, r = row // (channels * height), row // height % channels, row % height
        for i in range(width):
            y[n, c, r, i] = (x[n, c, r, i] - mean[c]) * scale[c] + shift[c]


@compiled_parallel
def _scale(y, x, scale):
    batch, channels, height, width = x.shape
    for row in prange(batch * channels * height):
        n, c, r = row // (channels * height), row // height % channels, row % height
        for i in range(width):
            y[n, c, r, i] = x[n, c, r, i] * scale[c]


@compiled_parallel
def _sums(gamma, beta, error, x, mean, inverse_deviation):
    batch, channels, height, width = x.shape
    for c in prange(channels):
        products = np.zeros(width, x.dtype)
        errors = np.zeros(width, x.dtype)
        for n in range(batch):
            for r in range(height):
                for i in range(width):
                    products[i] += error[n, c, r, i] * (x[n, c, r, i] - mean[c])
                    errors[i] += error[n, c, r, i]
        gamma[c] = products.sum() * inverse_deviation[c]
        beta[c] = errors.sum()
