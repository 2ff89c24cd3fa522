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


def backward(error, y, activation):
    """dx = e * f'(x), with f' written in terms of y = f(x)."""
    geometry.activation_backward(error, y, activation)
    error, y = error.astype(np.float64), y.astype(np.float64)
    if activation == "relu":
        return np.where(y <= 0, 0.0, error)
    if activation == "tanh":
        return error * (1 - y * y)
    return error * y * (1 - y)
