"""Frozen batch normalisation in NumPy, float64."""

import numpy as np

from kernels.activation import reference as activations
from kernels.batch_normalization import check_backward, check_fold, check_forward
from kernels.foreign import operator


@operator
def forward(x, mean, variance, gamma, beta, epsilon, activation=None):
    """y = f((x - mean) / sqrt(variance + epsilon) * gamma + beta)."""
    check_forward(x, mean, variance, gamma, beta, epsilon, activation)
    y = _normalized(x, mean, variance, epsilon) * _maps(gamma) + _maps(beta)
    return y if activation is None else activations.forward(y, activation)


@operator
def backward(error, x, mean, variance, gamma, epsilon, activation=None, y=None, out=None):
    """(dx, dgamma, dbeta), where e is the error of the output times f':
    e * gamma / sqrt(variance + epsilon), in ``out`` if given, and the sums over n, y, x of
    e * (x - mean) / sqrt(variance + epsilon) and of e."""
    check_backward(error, x, mean, variance, gamma, epsilon, activation, y, out)
    error = error.astype(np.float64)
    if activation is not None:
        error = activations.backward(error, y.astype(np.float64), activation)
    dgamma = (error * _normalized(x, mean, variance, epsilon)).sum(axis=(0, 2, 3))
    dx = error * (_maps(gamma) / np.sqrt(_maps(variance) + epsilon))
    if out is not None:
        out[...] = dx
    return dx if out is None else out, dgamma, error.sum(axis=(0, 2, 3))


@operator
def fold(weights, bias, mean, variance, gamma, beta, epsilon):
    """(weights, bias) of one convolution that computes a convolution and its normalisation."""
    check_fold(weights, bias, mean, variance, gamma, beta, epsilon)
    scale = gamma / np.sqrt(variance.astype(np.float64) + epsilon)
    before = 0 if bias is None else bias
    return weights * scale[:, None, None, None], (before - mean) * scale + beta


def _normalized(x, mean, variance, epsilon):
    return (x - _maps(mean)) / np.sqrt(_maps(variance) + epsilon)


def _maps(vector):
    """A vector of one number per channel, in float64, that broadcasts over N x C x H x W."""
    return vector.astype(np.float64)[:, None, None]
