"""Seeded initial parameters.

``he``: He et al., ICCV 2015. ``glorot``: Glorot & Bengio, AISTATS 2010.
"""

from math import prod

import numpy as np


def _he(rng, shape):
    """Normal, variance 2 / fan-in: keeps the variance of ReLU nets."""
    return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)


def _glorot(rng, shape):
    """Uniform, variance 2 / (fan-in + fan-out): for tanh and sigmoid."""
    area = np.prod(shape[2:])
    limit = np.sqrt(6 / ((shape[0] + shape[1]) * area))
    return rng.uniform(-limit, limit, shape)


FILL = {"bias": 0, "gamma": 1, "beta": 0}
INITIALIZERS = {"he": _he, "glorot": _glorot}


def parameters(nodes, dtype, seed, initializer):
    """Host arrays by name: weights drawn in the order of the nodes, biases zero, gamma one."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for node in nodes:
        for name, shape in node.parameters.items():
            part = name.removeprefix(f"{node.name}.")
            if part == "weights":
                arrays[name] = INITIALIZERS[initializer](rng, shape).astype(dtype)
            else:
                arrays[name] = np.full(shape, FILL[part], dtype)
    return arrays


def peak_bytes(nodes, dtype):
    """What ``parameters`` takes at most: all of them, and the largest as it is drawn."""
    sizes = [prod(shape) for node in nodes for shape in node.parameters.values()]
    drawn = np.dtype(np.float64).itemsize * max(sizes, default=0)
    return sum(sizes) * np.dtype(dtype).itemsize + drawn
