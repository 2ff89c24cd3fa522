"""Activations on the device: y = f(x), and dx = e * f'(x) written in terms of y.

One thread for each element, neighbours in memory on neighbouring threads: two words moved for each
element forward, three backward. The convolution applies the same ``function`` to its sums.
"""

from functools import cache

from kernels.activation import check_backward, check_forward
from kernels.device.api import cuda, device, exp, kernel, tanh, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.memory import cuda as memory


@cache
def function(activation, dtype):
    """The device function y = f(x) for NumPy's scalar type ``dtype``; None is the identity."""
    zero, one = dtype(0), dtype(1)

    # Compare and select: the instruction behind max() drops NaN
    def relu(x):
        return zero if x <= zero else x

    def tangent(x):
        return tanh(x)

    def sigmoid(x):
        return one / (one + exp(-x))

    def identity(x):
        return x

    return device({"relu": relu, "tanh": tangent, "sigmoid": sigmoid, None: identity}[activation])


@cache
def derivative(activation, dtype):
    """The device function dx = e * f'(x) of an error e and y = f(x)."""
    zero, one = dtype(0), dtype(1)

    def relu(e, y):
        return zero if y <= zero else e

    def tangent(e, y):
        return e * (one - y * y)

    def sigmoid(e, y):
        return e * y * (one - y)

    return device({"relu": relu, "tanh": tangent, "sigmoid": sigmoid}[activation])


@cache
def _forward_kernel(activation, dtype):
    f = function(activation, dtype)

    @kernel(ELEMENTWISE_THREADS)
    def activation_forward(
        x,  # N*C*H*W
        y,  # N*C*H*W
    ):
        i = u32(cuda.grid(1))
        if i < y.size:
            y[i] = f(x[i])

    return activation_forward


@cache
def _backward_kernel(activation, dtype):
    f = derivative(activation, dtype)

    @kernel(ELEMENTWISE_THREADS)
    def activation_backward(
        error,  # N*C*H*W
        y,  # N*C*H*W
        gradient,  # N*C*H*W
    ):
        i = u32(cuda.grid(1))
        if i < y.size:
            gradient[i] = f(error[i], y[i])

    return activation_backward


@operator
def forward(x, activation, out=None):
    """y = f(x), NCHW, for ``activation`` in relu, tanh, sigmoid.

    ``out`` is an array like x to fill, x itself too; None makes one.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_forward(x, activation, out)
    y = memory.empty(x.shape, x.dtype) if out is None else out
    f = _forward_kernel(activation, x.dtype.type)
    launch_over(f, x.size, flat("x", x), flat("y", y))
    return y


@operator
def backward(error, y, activation, out=None):
    """dx = e * f'(x), with f' written in terms of y = f(x); all NCHW.

    ``out`` is an array like y to fill, y or error themselves too; None makes one.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    check_backward(error, y, activation, out)
    gradient = memory.empty(y.shape, y.dtype) if out is None else out
    f = _backward_kernel(activation, y.dtype.type)
    launch_over(f, y.size, flat("error", error), flat("y", y), flat("gradient", gradient))
    return gradient
