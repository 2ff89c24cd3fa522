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
        return
    power = np.empty_like(y)
    for i in range(len(y)):
        power[i] = -abs(x[i]) * (3 - activation)
    if y.itemsize == 4:
        _exponentiate(power)
    else:
        for i in range(len(y)):
            power[i] = math.exp(power[i])
    if activation == 1 and y.itemsize == 4:
        for i in range(len(y)):
            y[i] = _tanh(x[i], power[i])
    elif activation == 1:
        for i in range(len(y)):
            y[i] = math.tanh(x[i])
    else:
        for i in range(len(y)):
            y[i] = (power[i] if x[i] < 0 else one) / (one + power[i])


@compiled
def _exponentiate(x):
    """Replace float32 numbers up to 0 by exp(x), to 1 unit in the last place.

    exp(x) = 2^n exp(r) with |r| <= ln(2) / 2: exp(r) is its Taylor series up to r^7, and 2^n is
    put together from bits, in two factors, so that the smallest powers are exact, too.
    """
    f = np.float32
    low_bits, high_bits = np.empty(len(x), np.int32), np.empty(len(x), np.int32)
    low, high = low_bits.view(f), high_bits.view(f)
    for i in range(len(x)):
        clipped = f(-104) if x[i] < f(-104) else x[i]
        n = np.floor(clipped * f(1 / math.log(2)) + f(0.5))
        x[i] = (clipped - n * f(0.693359375)) + n * f(0.693359375 - math.log(2))
        whole = np.int32(n)
        low_bits[i] = ((whole >> 1) + 127) << 23
        high_bits[i] = (whole - (whole >> 1) + 127) << 23
    for i in range(len(x)):
        r = x[i]
        series = f(1 / 720) + r * f(1 / 5040)
        series = f(1 / 6) + r * (f(1 / 24) + r * (f(1 / 120) + r * series))
        series = f(1) + r * (f(1) + r * (f(1 / 2) + r * series))
        x[i] = series * low[i] * high[i]


@compiled
def _tanh(x, power):
    """tanh(x) from power = exp(-2|x|), to 3 units in the last place.

    Where that cancels, near 0, its Taylor series up to x^13.
    """
    f = np.float32
    large = (f(1) - power) / (f(1) + power)
    square = x * x
    small = f(-1382 / 155925) + square * f(21844 / 6081075)
    small = f(-17 / 315) + square * (f(62 / 2835) + square * small)
    small = f(1) + square * (f(-1 / 3) + square * (f(2 / 15) + square * small))
    return x * small if abs(x) < f(0.35) else (-large if x < 0 else large)


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
