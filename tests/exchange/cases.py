"""Nets that are exchanged with each framework, and what they are shown."""

import numpy as np

from net import Net
from net.layers import AveragePool, Convolution, Dropout, FullyConnected, ReLU
from tests.activations import layer_of
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


def with_activation(name, dtype):
    """A net with an activation."""
    layers = [Convolution(3, 2), layer_of(name), FullyConnected(2)]
    return randomized(Net(layers, channels=1, patch=4, dtype=dtype, backend="cpu"))


def patches_of(net, image):
    """N x C x p x p: those of all pixels of an image, row by row."""
    windows = np.lib.stride_tricks.sliding_window_view(image, net.patch, (1, 2))
    whole = windows.transpose(1, 2, 0, 3, 4)
    return np.ascontiguousarray(whole.reshape(-1, net.channels, *net.patch))
