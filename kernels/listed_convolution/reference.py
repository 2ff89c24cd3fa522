"""Convolution of listed cells in NumPy, float64: the definition, one tap at a time."""

import numpy as np

from kernels.activation import reference as activations
from kernels.foreign import operator
from kernels.listed_convolution import (
    forward_shape,
    gradient_input_shape,
    gradient_weights_shape,
)


@operator
def forward(x, rows, weights, bias=None, *, activation=None):
    """y[p, k] = f(b[k] + sum_c,i,j w[k, c, i, j] * x[rows[p, i] + j, c])."""
    shape = forward_shape(x, rows, weights, bias, activation)
    cells, y = x[:, :, 0, 0].astype(np.float64), np.zeros(shape.y[:2])
    for i, j in np.ndindex(shape.kernel):
        y += cells[rows[:, i] + j] @ weights[:, :, i, j].astype(np.float64).T
    if bias is not None:
        y += bias.astype(np.float64)
    y = y.reshape(shape.y)
    return y if activation is None else activations.forward(y, activation)


@operator
def gradient_input(error, rows, weights, cells):
    """dx[m, c] = sum over k and (p, i, j) with rows[p, i] + j = m of w[k, c, i, j] * e[p, k]."""
    shape = gradient_input_shape(error, rows, weights, cells)
    gradient = np.zeros(shape.x[:2])
    for i, j in np.ndindex(shape.kernel):
        products = error[:, :, 0, 0].astype(np.float64) @ weights[:, :, i, j].astype(np.float64)
        np.add.at(gradient, rows[:, i] + j, products)
    return gradient.reshape(shape.x)


@operator
def gradient_weights(x, rows, error, kernel):
    """dw[k, c, i, j] = sum_p e[p, k] * x[rows[p, i] + j, c]."""
    shape = gradient_weights_shape(x, rows, error, kernel)
    cells, gradient = x[:, :, 0, 0].astype(np.float64), np.zeros(shape.weights)
    for i, j in np.ndindex(shape.kernel):
        gradient[:, :, i, j] = error[:, :, 0, 0].astype(np.float64).T @ cells[rows[:, i] + j]
    return gradient
