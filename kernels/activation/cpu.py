"""Activations on the host, over flat blocks that fit the cache."""

import math

import numpy as np
from numba import prange

from kernels import geometry
from kernels.compilation import compiled, compiled_parallel
from kernels.memory import cpu as memory

BLOCK = 4096


def forward(x, activation):
    """y = f(x).

    Args:
        x: N x C x H x W, float32 or float64.
        activation: ``"relu"``, ``"tanh"`` or ``"sigmoid"``.

    Returns:
        an array like x. Workspace: none.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.choice("activation", activation, geometry.ACTIVATIONS)
    geometry.check_array("x", x, (None,) * 4)
    y = memory.empty(x.shape, x.dtype)
    _forward(y.reshape(-1), x.reshape(-1), geometry.ACTIVATIONS.index(activation))
    return y


def activate(y, activation):
    """Replace y by f(y): the end of an operator with a fused activation."""
    _forward(y.reshape(-1), y.reshape(-1), geometry.ACTIVATIONS.index(activation))


def backward(error, y, activation):
    """dx = e * f'(x), with f' written in terms of y = f(x).

    Args:
        error: N x C x H x W, float32 or float64.
        y: the activation's output, same shape and dtype.
        activation: ``"relu"``, ``"tanh"`` or ``"sigmoid"``.

    Returns:
        an array like y. Workspace: none.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.activation_backward(error, y, activation)
    gradient = memory.empty(y.shape, y.dtype)
    index = geometry.ACTIVATIONS.index(activation)
    _backward(gradient.reshape(-1), error.reshape(-1), y.reshape(-1), index)
    return gradient


@compiled_parallel
def _forward(y, x, activation):
    for block in prange(-(-len(y) // BLOCK)):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, len(y)))
        _forward_block(y[part], x[part], activation)


@compiled
def _forward_block(y, x, activation):
    one = y.dtype.type(1)
    if activation == 0:
        for i in range(len(y)):
            y[i] = 0 if x[i] <= 0 else x[i]
    elif activation == 1:
        if y.itemsize == 4:
            for i in range(len(y)):
                y[i] = _tanh_float32(x[i])
        else:
            for i in range(len(y)):
                y[i] = math.tanh(x[i])
    else:
        for i in range(len(y)):
            y[i] = one / (one + math.exp(-x[i]))


@compiled
def _tanh_float32(x):
    """tanh to 2 units in the last place, 8 times faster than the C library's.

    Its Taylor series up to x^9 near 0, (1 - exp(-2|x|)) / (1 + exp(-2|x|)) elsewhere.
    """
    f = np.float32
    size, square = abs(x), x * x
    power = math.exp(f(-2) * size)
    large = math.copysign((f(1) - power) / (f(1) + power), x)
    series = f(2 / 15) + square * (f(-17 / 315) + square * f(62 / 2835))
    small = x * (f(1) + square * (f(-1 / 3) + square * series))
    return small if size < f(0.25) else large


@compiled_parallel
def _backward(gradient, error, y, activation):
    for block in prange(-(-len(y) // BLOCK)):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, len(y)))
        _backward_block(gradient[part], error[part], y[part], activation)


@compiled
def _backward_block(gradient, error, y, activation):
    one = y.dtype.type(1)
    if activation == 0:
        for i in range(len(y)):
            gradient[i] = 0 if y[i] <= 0 else error[i]
    elif activation == 1:
        for i in range(len(y)):
            gradient[i] = error[i] * (one - y[i] * y[i])
    else:
        for i in range(len(y)):
            gradient[i] = error[i] * y[i] * (one - y[i])
