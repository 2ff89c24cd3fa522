"""Activations on the device: y = f(x), and dx = e * f'(x) written in terms of y.

One thread for each element, neighbours in memory on neighbouring threads: two words moved for each
element forward, three backward. The convolution applies the same ``function`` to its sums.
"""

from functools import cache

from kernels.activation import activation_of, check_backward, check_forward
from kernels.device.api import cuda, device, exp, expm1, kernel, tanh, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.memory import cuda as memory


def _relu(dtype, _):
    zero = dtype(0)

    # Compare and select: the instruction behind max() drops NaN
    def function(x):
        return zero if x <= zero else x

    def derivative(e, y):
        return zero if y <= zero else e

    return function, derivative


def _tanh(dtype, _):
    one = dtype(1)

    def function(x):
        return tanh(x)

    def derivative(e, y):
        return e * (one - y * y)

    return function, derivative


def _sigmoid(dtype, _):
    one = dtype(1)

    def function(x):
        return one / (one + exp(-x))

    def derivative(e, y):
        return e * y * (one - y)

    return function, derivative


def _leaky_relu(dtype, slope):
    zero, slope = dtype(0), dtype(slope)

    def function(x):
        return slope * x if x <= zero else x

    def derivative(e, y):
        return slope * e if y <= zero else e

    return function, derivative


def _elu(dtype, alpha):
    zero, alpha = dtype(0), dtype(alpha)

    def function(x):
        return alpha * expm1(x) if x <= zero else x

    def derivative(e, y):
        return e * (y + alpha) if y <= zero else e

    return function, derivative


# For each, y of x, and dx of an error e and y; a parameter becomes a constant of the kernel
_FORMULAS = {
    "relu": _relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
}


def _identity(x):
    return x


@cache
def function(activation, dtype):
    """The device function y = f(x) for NumPy's scalar type ``dtype``; None is the identity."""
    return device(_identity if activation is None else _formulas(activation, dtype)[0])


@cache
def derivative(activation, dtype):
    """The device function dx = e * f'(x) of an error e and y = f(x)."""
    return device(_formulas(activation, dtype)[1])


def _formulas(activation, dtype):
    activation = activation_of(activation)
    return _FORMULAS[activation.name](dtype, activation.parameter)


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
    """y = f(x), NCHW, for one of ``kernels.activation.ACTIVATIONS``.

    ``out`` is an array like x to fill, x itself too; None makes one.
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
    """
    check_backward(error, y, activation, out)
    gradient = memory.empty(y.shape, y.dtype) if out is None else out
    f = _backward_kernel(activation, y.dtype.type)
    launch_over(f, y.size, flat("error", error), flat("y", y), flat("gradient", gradient))
    return gradient
