"""Pointwise nonlinearities: ``relu``, ``tanh``, ``sigmoid``, and their gradients from the output y.

    relu: y = x where not x <= 0, else 0;   dx = e where not y <= 0, else 0
    tanh: y = tanh x;                       dx = e * (1 - y*y)
    sigmoid: y = 1 / (1 + exp(-x));         dx = e * y * (1 - y)

NaN passes through all of them, and ``relu`` passes the error where y is NaN.
"""

from kernels import checks

ACTIVATIONS = ("relu", "tanh", "sigmoid")


def check_forward(x, activation, out=None) -> None:
    """Check the arguments of an activation."""
    checks.choice("activation", activation, ACTIVATIONS)
    checks.same_map(x=x, **({} if out is None else {"out": out}))


def check_backward(error, y, activation, out=None) -> None:
    """Check the arguments of an activation's gradient."""
    checks.choice("activation", activation, ACTIVATIONS)
    checks.same_map(error=error, y=y, **({} if out is None else {"out": out}))
