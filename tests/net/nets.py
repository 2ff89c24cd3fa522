"""Nets, images and pixels that several files test with."""

from dataclasses import replace

import numpy as np

from net import Net
from net.layers import Convolution, FullyConnected, MaxPool
from net.zoo import build

# Mostly positive inputs for the ReLUs: few are zero everywhere.
RANGES = {
    "bias": (0, 0.5),
    "gamma": (0.5, 1.5),
    "beta": (0, 0.5),
    "mean": (-0.5, 0),
    "variance": (0.5, 1.5),
}


def reduced(name, filters=2, **options):
    """A net of the zoo with at most ``filters`` channels anywhere."""
    full = build(name, backend="reference")
    layers = [_narrowed(layer, filters) for layer in full.layers]
    channels = min(full.channels, filters)
    return Net(layers, channels=channels, patch=full.patch, initializer="glorot", **options)


def miniature(name, **options):
    """A net of the zoo with two channels and kernels of 2 x 2: its strides, so its spacings.

    For the simulator, which runs some thousand multiply-adds a second. Pools keep their windows.
    """
    layers, patch = [], 1
    for layer in reversed(reduced(name, backend="reference").layers):
        if isinstance(layer, Convolution):
            layer = replace(layer, kernel=min(layer.kernel, 2))
            patch = (patch - 1) * layer.stride + layer.kernel
        elif isinstance(layer, MaxPool):
            patch = (patch - 1) * (layer.stride or layer.kernel) + layer.kernel
        layers.insert(0, layer)
    return Net(layers, channels=1, patch=patch, initializer="glorot", **options)


def _narrowed(layer, filters):
    match layer:
        case Convolution():
            return replace(layer, filters=min(layer.filters, filters))
        case FullyConnected():
            return replace(layer, features=min(layer.features, filters))
    return layer


def randomized(net, seed=1):
    """``net`` with biases, gammas, betas and statistics that differ from channel to channel."""
    rng = np.random.default_rng(seed)
    state = net.state()
    for name, array in state.items():
        part = name.rpartition(".")[2]
        if part in RANGES:
            state[name] = rng.uniform(*RANGES[part], array.shape)
    net.load_state(state)
    return net


def random_image(net, size, seed=2):
    """C x H x W of the net's dtype."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((net.channels, *size)).astype(net.dtype)


def corners_and_more(size, more, seed=3):
    """n x 2 pixels of a map of ``size``, in random order: its corners and up to ``more`` others."""
    rng = np.random.default_rng(seed)
    pixels = rng.permutation(np.indices(size).reshape(2, -1).T)
    corner = ((pixels == 0) | (pixels == np.subtract(size, 1))).all(axis=1)
    return rng.permutation(np.concatenate([pixels[corner], pixels[~corner][:more]]))
