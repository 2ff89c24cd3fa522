"""One of each activation that is registered, as the operators take them, and its layer."""

import pytest

from kernels.activation import ACTIVATIONS, Activation
from net import description, layers

# A parameter that float32 holds exactly
PARAMETER = 0.375
EACH = [
    name if parameter is None else Activation(name, PARAMETER)
    for name, parameter in ACTIVATIONS.items()
]
each_activation = pytest.mark.parametrize("activation", EACH, ids=list(ACTIVATIONS))

UNKNOWN = "activation is 'gelu'; expected one of " + ", ".join(map(repr, ACTIVATIONS))

KINDS = [getattr(layers, name) for name in description.LAYERS.names]
LAYERS = {kind.kind: kind for kind in KINDS if issubclass(kind, layers.ActivationLayer)}
"""The kinds of layers that are activations, by the names of these."""


def layer_of(name, parameter=PARAMETER, **options):
    """The layer of an activation; ``parameter`` is for those that have one."""
    if ACTIVATIONS[name] is not None:
        options[ACTIVATIONS[name]] = parameter
    return LAYERS[name](**options)
