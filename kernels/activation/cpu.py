"""Activations on the host, over flat blocks that fit the cache, each in its own place: the
compiler's vector loops want arrays that are one and the same, or far apart.
"""

import math

import numpy as np
from numba import prange

from kernels.activation import ACTIVATIONS, check_backward, check_forward
from kernels.host import simd
from kernels.host.compilation import compiled, compiled_parallel
from kernels.memory import cpu as memory

BLOCK = 4096
# ln(2) as a number of few bits, whose small multiples are exact, and the rest
LN2_HIGH = 0.693359375
LN2_LOW = LN2_HIGH - math.log(2)


def forward(x, activation, out=None):
    """y = f(x).

    Args:
        x: N x C x H x W, float32 or float64.
        activation: ``"relu"``, ``"tanh"`` or ``"sigmoid"``.
        out: an array like x to fill, x itself too; None makes one.

    Returns:
        an array like x. Workspace: none.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_forward(x, activation, out)
    y = memory.empty(x.shape, x.dtype) if out is None else out
    _forward(y.reshape(-1), x.reshape(-1), number(activation))
    return y


def backward(error, y, activation, out=None):
    """dx = e * f'(x), with f' written in terms of y = f(x).

    Args:
        error: N x C x H x W, float32 or float64.
        y: the activation's output, same shape and dtype.
        activation: ``"relu"``, ``"tanh"`` or ``"sigmoid"``.
        out: an array like y to fill, y or error themselves too; None makes one.

    Returns:
        an array like y. Workspace: none.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_backward(error, y, activation, out)
    gradient = memory.empty(y.shape, y.dtype) if out is None else out
    index = number(activation)
    _backward(gradient.reshape(-1), error.reshape(-1), y.reshape(-1), index)
    return gradient


def number(activation):
    """What compiled code knows an activation by; -1 is none."""
    return -1 if activation is None else ACTIVATIONS.index(activation)


@compiled_parallel
def _forward(y, x, activation):
    for block in prange(-(-len(y) // BLOCK)):
        first, end = block * BLOCK, min((block + 1) * BLOCK, len(y))
        simd.copy(y, first, x, first, end - first)
        activate(y[first:end], activation)


@compiled
def activate(y, activation):
    """Replace ``y``, one run of numbers, by f(y): also the end of a convolution's tile.

    Args:
        activation: its ``number``.
    """
    if activation == 0:
        for i in range(len(y)):
            y[i] = 0 if y[i] <= 0 else y[i]
    elif activation == 1 and y.itemsize == 4:
        for i in range(len(y)):
            y[i] = _tanh(y[i])
    elif activation == 1:
        for i in range(len(y)):
            y[i] = math.tanh(y[i])
    elif y.itemsize == 4:
        for i in range(len(y)):
            y[i] = _sigmoid(y[i], _exp(-abs(y[i])))
    else:
        for i in range(len(y)):
            y[i] = _sigmoid(y[i], math.exp(-abs(y[i])))


@compiled
def _sigmoid(x, power):
    """1 / (1 + exp(-x)) from power = exp(-|x|), which never overflows."""
    one = type(x)(1)
    return (power if x < 0 else one) / (one + power)


@compiled
def _reduced(x):
    """(n, r) with x = n * ln(2) + r and |r| <= ln(2) / 2, of a float32 number."""
    f = np.float32
    n = np.floor(simd.fma(x, f(1 / math.log(2)), f(0.5)))
    return np.int32(n), simd.fma(n, f(LN2_LOW), simd.fma(n, f(-LN2_HIGH), x))


@compiled
def _expm1_series(r):
    """exp(r) - 1 for |r| <= ln(2) / 2: its Taylor series up to r^7."""
    f = np.float32
    s = simd.fma(r, f(1 / 5040), f(1 / 720))
    s = simd.fma(r, s, f(1 / 120))
    s = simd.fma(r, s, f(1 / 24))
    s = simd.fma(r, s, f(1 / 6))
    s = simd.fma(r, s, f(1 / 2))
    return simd.fma(r * r, s, r)


@compiled
def _exp(x):
    """exp(x) of a float32 number up to 0, to 1 unit in the last place.

    2^n is put together in two factors, so that the smallest powers are exact, too.
    """
    f = np.float32
    n, r = _reduced(f(-104) if x < f(-104) else x)
    half = np.int32(n >> 1)
    power = (f(1) + _expm1_series(r)) * simd.power_of_two(half)
    return power * simd.power_of_two(np.int32(n - half))


@compiled
def _tanh(x):
    """tanh(x) of a float32 number, to 3 units in the last place.

    tanh |x| = -e / (2 + e) with e = exp(-2|x|) - 1, which does not cancel near 0.
    """
    f = np.float32
    power = -abs(x + x)
    n, r = _reduced(f(-40) if power < f(-40) else power)
    scale = simd.power_of_two(n)
    e = simd.fma(_expm1_series(r), scale, scale - f(1))
    return math.copysign(e / (f(2) + e), x)


@compiled_parallel
def _backward(gradient, error, y, activation):
    for block in prange(-(-len(y) // BLOCK)):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, len(y)))
        differentiate(gradient[part], error[part].copy(), y[part].copy(), activation)


@compiled
def differentiate(gradient, error, y, activation):
    """Fill ``gradient``, a run of numbers apart from the others, with e * f'(x).

    Args:
        activation: its ``number``.
    """
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
