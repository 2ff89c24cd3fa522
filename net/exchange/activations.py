"""What each activation is in other frameworks, for all readers and writers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kernels.activation import Activation, activation_of
from net.layers import ELU, ActivationLayer, LeakyReLU, ReLU, Sigmoid, Tanh


class Counterpart(NamedTuple):
    """An activation, as PyTorch and ONNX have it.

    Attributes:
        layer: makes the layer; it takes PyTorch's parameter by PyTorch's name, and has its default.
        module: name of the module in ``torch.nn``; it takes the parameter, if there is one.
        function: name of the function in ``torch`` or ``torch.nn.functional``; with a ``_`` behind
            it, it works in place.
        arguments: names of the function's arguments; a module has attributes of these names.
        operator: name of ONNX's operator; it takes the parameter as its attribute ``alpha``.
        below: with a parameter, the activation is x above 0, and below it the parameter times this
            function of x, whose nodes it adds: ONNX's attributes are float32 whatever the maps are.
    """

    layer: Callable[..., ActivationLayer]
    module: str
    function: str
    arguments: tuple[str, ...]
    operator: str
    below: Callable | None = None


def _leaky_relu(negative_slope=0.01):
    return LeakyReLU(negative_slope) if negative_slope else ReLU()


def _elu(alpha=1.0):
    return ELU(alpha)


def _itself(nodes, x):
    return x


def _exponential_less_1(nodes, x):
    return nodes.add("Sub", [nodes.add("Exp", [x]), np.array(1, nodes.dtype)])


_LEAKY = ("input", "negative_slope", "inplace")
COUNTERPARTS: dict[str, Counterpart] = {
    "relu": Counterpart(ReLU, "ReLU", "relu", ("input", "inplace"), "Relu"),
    "tanh": Counterpart(Tanh, "Tanh", "tanh", ("input",), "Tanh"),
    "sigmoid": Counterpart(Sigmoid, "Sigmoid", "sigmoid", ("input",), "Sigmoid"),
    "leaky_relu": Counterpart(
        *(_leaky_relu, "LeakyReLU", "leaky_relu", _LEAKY), *("LeakyRelu", _itself)
    ),
    "elu": Counterpart(
        *(_elu, "ELU", "elu", ("input", "alpha", "inplace")), *("Elu", _exponential_less_1)
    ),
}
"""By names of ``kernels.activation.ACTIVATIONS``; one that is missing is not exchanged."""


def counterpart_of(activation: str | Activation) -> Counterpart | None:
    """What an activation is elsewhere; None where it is not exchanged."""
    return COUNTERPARTS.get(activation_of(activation).name)
