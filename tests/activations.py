"""One of each activation that is registered, as the operators take them."""

import pytest

from kernels.activation import ACTIVATIONS, Activation

# A parameter that float32 holds exactly
EACH = [
    name if parameter is None else Activation(name, 0.375)
    for name, parameter in ACTIVATIONS.items()
]
each_activation = pytest.mark.parametrize("activation", EACH, ids=list(ACTIVATIONS))

UNKNOWN = "activation is 'gelu'; expected one of " + ", ".join(map(repr, ACTIVATIONS))
