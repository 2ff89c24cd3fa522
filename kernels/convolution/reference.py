"""Convolution in NumPy, float64: the definition, one tap at a time."""

import numpy as np

from kernels import checks
from kernels.activation import reference as activations
from kernels.convolution import forward_shape, gradient_input_shape, gradient_weights_shape
from kernels.foreign import operator


@operator
def forward(x, weights, bias=None, *, stride=1, dilation=1, activation=None):
    """y[n, k, o] = f(b[k] + sum_c,i w[k, c, i] * x[n, c, o*s + i*d])."""
    shape = forward_shape(x, weights, bias, stride, dilation, activation)
    y = np.zeros(shape.y)
    for i, j, rows, columns in shape.window.taps(shape.output):
        window = x[:, :, rows, columns].astype(np.float64)
        y += np.einsum("nchw,kc->nkhw", window, weights[:, :, i, j].astype(np.float64))
    if bias is not None:
        y += bias.astype(np.float64)[:, None, None]
    return y if activation is None else activations.forward(y, activation)


@operator
def gradient_input(error, weights, size, *, stride=1, dilation=1):
    """dx[n, c, y] = sum over k and all (o, i) with o*s + i*d = y of w[k, c, i] * e[n, k, o]."""
    shape = gradient_input_shape(error, weights, size, stride, dilation)
    gradient = np.zeros(shape.x)
    for i, j, rows, columns in shape.window.taps(shape.output):
        gradient[:, :, rows, columns] += np.einsum(
            "nkhw,kc->nchw", error.astype(np.float64), weights[:, :, i, j].astype(np.float64)
        )
    return gradient


@operator
def gradient_weights(x, error, kernel, *, stride=1, dilation=1):
    """dw[k, c, i] = sum_n,o e[n, k, o] * x[n, c, o*s + i*d]."""
    shape = gradient_weights_shape(x, error, kernel, stride, dilation)
    gradient = np.zeros(shape.weights)
    for i, j, rows, columns in shape.window.taps(shape.output):
        window = x[:, :, rows, columns].astype(np.float64)
        gradient[:, :, i, j] = np.einsum("nkhw,nchw->kc", error.astype(np.float64), window)
    return gradient


@operator
def gradient_bias(error):
    """db[k] = sum_n,o e[n, k, o]."""
    checks.array("error", error, (None,) * 4)
    return error.astype(np.float64).sum(axis=(0, 2, 3))
