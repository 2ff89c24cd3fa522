"""Compiles the host's kernels for one dtype, for the processes that share the tests.

``python -m tests.warm_up DTYPE`` runs a net whose layers take most kernels. Otherwise each of those
processes would compile them for itself.
"""

import sys

import numpy as np

from net import Dense, Net, Scan
from net.layers import (
    AveragePool,
    BatchNorm,
    Convolution,
    Crop,
    Dropout,
    FullyConnected,
    MaxPool,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from net.learning.optimizers import SGD, Adam
from net.learning.training import Trainer

LAYERS = [
    *(Convolution(20, 3), Tanh(), MaxPool(2, stride=1), Convolution(3, 2), BatchNorm(), ReLU()),
    *(AveragePool(2), Dropout(0.5), Crop((0, 1, 1, 0)), MaxPool(2), Convolution(50, 1), Sigmoid()),
    *(FullyConnected(3), Softmax()),
]


def main(dtype: str) -> None:
    """Run forward, backward and training in both forms."""
    net = Net(LAYERS, channels=2, patch=16, dtype=dtype, backend="cpu")
    image = np.random.default_rng(0).random((2, 40, 37)).astype(dtype)
    for border in ("zero", "reflect"):
        scores = Dense(net, border).forward(image)
        mask = scores[0] > np.median(scores[0])
        Dense(net, border).gradients(image, scores, mask, image_gradient=True, everywhere=True)
        few = mask & (np.random.default_rng(1).random(mask.shape) < 0.01)
        Dense(net, border).gradients(image, scores, few, image_gradient=True)
        pixels = np.argwhere(mask)[:20]
        Scan(net, border).gradients(image, scores[:, :20, 0].T.copy(), pixels, image_gradient=True)
    for optimizer in (SGD(0.1), Adam(0.1)):
        Trainer(net, optimizer).step(image, mask.astype(int), mask)


if __name__ == "__main__":
    main(sys.argv[1])
