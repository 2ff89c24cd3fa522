"""Activations in NumPy, float64."""

import numpy as np

from kernels import geometry


def forward(x, activation):
    """y = f(x), NCHW."""
    geometry.choice("activation", activation, geometry.ACTIVATIONS)
    geometry.check_array("x", x, (None,) * 4)
    x = x.astype(np.float64)
    if activation == "relu":
        return np.where(x <= 0, 0.0, x)
    if activation == "tanh":
        return np.tanh(x)
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def backward(error, y, activation, out=None):
    """dx = e * f'(x), with f' written in terms of y = f(x); into ``out`` where given."""
    geometry.activation_backward(error, y, activation, out)
    gradient = _backward(error.astype(np.float64), y.astype(np.float64), activation)
    if out is None:
        return gradient
    out[...] = gradient
    return out


def _backward(error, y, activation):
    if activation == "relu":
        return np.where(y <= 0, 0.0, error)
    if activation == "tanh":
        return error * (1 - y * y)
    return error * y * (1 - y)
