"""Nets that are exchanged with each framework, and what they are shown."""

import numpy as np

from kernels.activation import ACTIVATIONS
from net import Net
from net.exchange.activations import COUNTERPARTS
from net.layers import (
    ActivationLayer,
    AveragePool,
    Convolution,
    Dropout,
    FullyConnected,
    ReLU,
)
from tests.net.cases import NAMED, NetCase
from tests.net.nets import randomized

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
CASES = NAMED | {
    "spaced means": NetCase(
        [
            *(Convolution(2, 2, stride=2), ReLU(), AveragePool(2, 1, dilation=(2, 1))),
            *(Dropout(0.5), FullyConnected(2)),
        ],
        *(1, (9, 8)),
    )
}
EXCHANGED = [name for name, counterpart in COUNTERPARTS.items() if counterpart]
"""Activations."""


def with_activation(name, dtype):
    """A net with an activation, whose parameter float32 holds exactly."""
    (kind,) = (kind for kind in ActivationLayer.__subclasses__() if kind.kind == name)
    parameter = {} if ACTIVATIONS[name] is None else {ACTIVATIONS[name]: 0.375}
    layers = [Convolution(3, 2), kind(**parameter), FullyConnected(2)]
    return randomized(Net(layers, channels=1, patch=4, dtype=dtype, backend="cpu"))


def patches_of(net, image):
    """N x C x p x p: those of all pixels of an image, row by row."""
    windows = np.lib.stride_tricks.sliding_window_view(image, net.patch, (1, 2))
    whole = windows.transpose(1, 2, 0, 3, 4)
    return np.ascontiguousarray(whole.reshape(-1, net.channels, *net.patch))
