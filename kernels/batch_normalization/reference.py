"""Frozen batch normalisation in NumPy, float64."""

import numpy as np

from kernels import geometry


def forward(x, mean, variance, gamma, beta, epsilon):
    """y = (x - mean) / sqrt(variance + epsilon) * gamma + beta."""
    geometry.per_channel(x, mean=mean, variance=variance, gamma=gamma, beta=beta)
    return _normalized(x, mean, variance, epsilon) * _maps(gamma) + _maps(beta)


def backward_input(error, variance, gamma, epsilon, out=None):
    """dx = e * gamma / sqrt(variance + epsilon); into ``out`` where given."""
    geometry.normalization_backward(error, variance, gamma, out)
    gradient = error * (_maps(gamma) / np.sqrt(_maps(variance) + epsilon))
    if out is None:
        return gradient
    out[...] = gradient
    return out


def backward_parameters(error, x, mean, variance, epsilon):
    """(dgamma, dbeta): the sums over n, y, x of e * (x - mean) / sqrt(variance + epsilon) and e."""
    geometry.same_map(error=error, x=x)
    geometry.per_channel(x, mean=mean, variance=variance)
    gamma = (error * _normalized(x, mean, variance, epsilon)).sum(axis=(0, 2, 3))
    return gamma, error.astype(np.float64).sum(axis=(0, 2, 3))


def _normalized(x, mean, variance, epsilon):
    return (x - _maps(mean)) / np.sqrt(_maps(variance) + epsilon)


def _maps(vector):
    """One value for each channel, as float64 that spreads over N x C x H x W."""
    return vector.astype(np.float64)[:, None, None]
