"""Pointwise nonlinearities y = f(x), and their gradients dx = e * f'(x), written in terms of y.

    relu: y = x where not x <= 0, else 0;                  dx = e where not y <= 0, else 0
    tanh: y = tanh x;                                      dx = e * (1 - y*y)
    sigmoid: y = 1 / (1 + exp(-x));                        dx = e * y * (1 - y)
    leaky_relu: y = x where not x <= 0, else slope * x;    dx = e where not y <= 0, else slope * e
    elu: y = x where not x <= 0, else alpha * (exp(x) - 1);
                                             dx = e where not y <= 0, else e * (y + alpha)

NaN passes through all of them. Where y is NaN, relu, leaky_relu and elu pass the error.

``ACTIVATIONS`` lists them. ``reference.py``, ``cpu.py`` and ``cuda.py`` each have a table of their
formulas, which serves this operator and all operators that end in an activation.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels import checks

ACTIVATIONS = {"relu": None, "tanh": None, "sigmoid": None, "leaky_relu": "slope", "elu": "alpha"}
"""What the parameter of each activation is called, if it has one."""


@dataclass(frozen=True)
class Activation:
    """An activation and its parameter. One without a parameter may be given by its name alone.

    Attributes:
        name: one of ``ACTIVATIONS``.
        parameter: the slope of ``leaky_relu`` or the alpha of ``elu``, a number above 0: otherwise
            the output would not tell the derivative.

    Example:
        ``convolution.forward(x, weights, activation=Activation("elu", 1.0))``
    """

    name: str
    parameter: float | None = None


def activation_of(activation: str | Activation) -> Activation:
    """``activation``, checked, as an ``Activation``.

    Raises:
        ValueError: an unknown name, or a parameter that is missing, superfluous, no number, or not
            above 0 in float32.
    """
    given = activation if isinstance(activation, Activation) else Activation(activation)
    if not isinstance(given.name, str) or given.name not in ACTIVATIONS:
        expected = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation is {given.name!r}; expected one of {expected}")
    parameter = ACTIVATIONS[given.name]
    if parameter is None and given.parameter is None:
        return given
    if parameter is None:
        raise ValueError(f"activation is {given!r}; expected {given.name!r} without a parameter")
    if not isinstance(activation, Activation):
        raise ValueError(
            f"activation is {given.name!r}; expected Activation({given.name!r}, {parameter})"
        )
    value = checks.number(parameter, given.parameter, positive=True)
    return Activation(given.name, value)


def check_forward(x, activation, out=None) -> None:
    """Check the arguments of an activation."""
    activation_of(activation)
    checks.same_map(x=x, **({} if out is None else {"out": out}))


def check_backward(error, y, activation, out=None) -> None:
    """Check the arguments of an activation's gradient."""
    activation_of(activation)
    checks.same_map(error=error, y=y, **({} if out is None else {"out": out}))
