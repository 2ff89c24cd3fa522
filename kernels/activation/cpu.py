"""Activations on the host, over flat blocks that fit the cache.

Loops are vectorised for arrays that are identical or do not overlap: so a block is first copied,
and then computed in place.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from kernels.activation import activation_of, check_backward, check_forward
from kernels.foreign import operator
from kernels.host import simd
from kernels.host.compilation import compiled, compiled_parallel, inlined
from kernels.host.exponentials import exp, expm1, tanh
from kernels.host.threads import ELEMENT_NS, EXPONENTIAL_NS
from kernels.memory import cpu as memory

BLOCK = 4096


@operator
def forward(x, activation, out=None):
    """y = f(x).

    Args:
        x: N x C x H x W, float32 or float64.
        activation: one of ``kernels.activation.ACTIVATIONS``; an ``Activation`` if it has a
            parameter.
        out: an array like x to fill, which may be x; None allocates one.

    Returns:
        an array like x. Workspace: none.
    """
    check_forward(x, activation, out)
    y = memory.empty(x.shape, x.dtype) if out is None else out
    activation = numbered(activation, x.dtype)
    _forward(y.reshape(-1), x.reshape(-1), activation, work=activation.cost * x.size)
    return y


@operator
def backward(error, y, activation, out=None):
    """dx = e * f'(x), with f' written in terms of y = f(x).

    Args:
        error: N x C x H x W, float32 or float64.
        y: the activation's output, same shape and dtype.
        activation: as in ``forward``.
        out: an array like y to fill, which may be y or error; None allocates one.

    Returns:
        an array like y. Workspace: none.
    """
    check_backward(error, y, activation, out)
    gradient = memory.empty(y.shape, y.dtype) if out is None else out
    maps = gradient.reshape(-1), error.reshape(-1), y.reshape(-1)
    _backward(*maps, numbered(activation, y.dtype), work=2 * ELEMENT_NS * y.size)
    return gradient


class Numbered(NamedTuple):
    """An activation as compiled code knows it."""

    number: int
    parameter: np.floating

    @property
    def cost(self) -> float:
        """About how many nanoseconds a thread takes for one f(x)."""
        return _COSTS[self.number]


NONE = -1
"""The number of no activation at all."""


@lru_cache(1024)
def numbered(activation, dtype):
    """``activation``, or None for none, for maps of ``dtype``."""
    if activation is None:
        return Numbered(NONE, dtype.type(0))
    activation = activation_of(activation)
    return Numbered(_FORMULAS[activation.name].number, dtype.type(activation.parameter or 0))


@compiled_parallel
def _forward(y, x, activation):
    for block in prange(-(-len(y) // BLOCK)):
        first, end = block * BLOCK, min((block + 1) * BLOCK, len(y))
        simd.copy(y, first, x, first, end - first)
        activate(y[first:end], activation)


@compiled
def activate(y, activation):
    """Replace ``y``, a run of numbers, by f(y).

    Args:
        activation: ``Numbered``; if its number is unknown, y becomes NaN.
    """
    _ACTIVATE(y, activation)


@compiled_parallel
def _backward(gradient, error, y, activation):
    for block in prange(-(-len(y) // BLOCK)):
        part = slice(block * BLOCK, min((block + 1) * BLOCK, len(y)))
        differentiate(gradient[part], error[part].copy(), y[part].copy(), activation)


@compiled
def differentiate(gradient, error, y, activation):
    """Fill ``gradient``, a run of numbers that does not overlap the others, with e * f'(x).

    Args:
        activation: ``Numbered``; if its number is unknown, the gradient becomes NaN.
    """
    _DIFFERENTIATE(gradient, error, y, activation)


@inlined
def _relu(x, _):
    return type(x)(0) if x <= 0 else x


@inlined
def _relu_derivative(e, y, _):
    return type(e)(0) if y <= 0 else e


@inlined
def _tanh(x, _):
    return tanh(x)


@inlined
def _tanh_derivative(e, y, _):
    return e * (type(y)(1) - y * y)


@inlined
def _sigmoid(x, _):
    # exp(-|x|) never overflows
    one, power = type(x)(1), exp(-abs(x))
    return (power if x < 0 else one) / (one + power)


@inlined
def _sigmoid_derivative(e, y, _):
    return e * y * (type(y)(1) - y)


@inlined
def _leaky_relu(x, slope):
    return slope * x if x <= 0 else x


@inlined
def _leaky_relu_derivative(e, y, slope):
    return slope * e if y <= 0 else e


@inlined
def _elu(x, alpha):
    below = alpha * expm1(-abs(x))
    return below if x <= 0 else x


@inlined
def _elu_derivative(e, y, alpha):
    return e * (y + alpha) if y <= 0 else e


class Formulas(NamedTuple):
    """An activation on the host.

    Attributes:
        number: what compiled code knows it by, at least 0; each has its own.
        function: y of x and the parameter.
        derivative: dx of an error e, y and the parameter.
        cost: about how many nanoseconds a thread takes for one y.
    """

    number: int
    function: Callable
    derivative: Callable
    cost: float


_FORMULAS = {
    "relu": Formulas(0, _relu, _relu_derivative, ELEMENT_NS),
    "tanh": Formulas(1, _tanh, _tanh_derivative, EXPONENTIAL_NS),
    "sigmoid": Formulas(2, _sigmoid, _sigmoid_derivative, EXPONENTIAL_NS),
    "leaky_relu": Formulas(3, _leaky_relu, _leaky_relu_derivative, ELEMENT_NS),
    "elu": Formulas(4, _elu, _elu_derivative, EXPONENTIAL_NS),
}
_COSTS = {NONE: 0} | {one.number: one.cost for one in _FORMULAS.values()}


def _activation_loop(number, function, otherwise):
    @inlined
    def loop(y, activation):
        if activation.number == number:
            for i in range(len(y)):
                y[i] = function(y[i], activation.parameter)
        else:
            otherwise(y, activation)

    return loop


def _derivative_loop(number, derivative, otherwise):
    @inlined
    def loop(gradient, error, y, activation):
        if activation.number == number:
            for i in range(len(y)):
                gradient[i] = derivative(error[i], y[i], activation.parameter)
        else:
            otherwise(gradient, error, y, activation)

    return loop


@inlined
def _unknown_activation(y, activation):
    y[:] = np.nan


@inlined
def _unknown_derivative(gradient, error, y, activation):
    gradient[:] = np.nan


_ACTIVATE, _DIFFERENTIATE = _unknown_activation, _unknown_derivative
for _one in _FORMULAS.values():
    _ACTIVATE = _activation_loop(_one.number, _one.function, _ACTIVATE)
    _DIFFERENTIATE = _derivative_loop(_one.number, _one.derivative, _DIFFERENTIATE)
