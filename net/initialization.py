"""Seeded initial parameters.

``he``: He et al., ICCV 2015. ``glorot``: Glorot & Bengio, AISTATS 2010.
"""

import numpy as np

from net.layers import BatchNorm


def _he(rng, shape):
    """Normal, variance 2 / fan-in: keeps the variance of ReLU nets."""
    return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)


def _glorot(rng, shape):
    """Uniform, variance 2 / (fan-in + fan-out): for tanh and sigmoid."""
    area = np.prod(shape[2:])
    limit = np.sqrt(6 / ((shape[0] + shape[1]) * area))
    return rng.uniform(-limit, limit, shape)


INITIALIZERS = {"he": _he, "glorot": _glorot}


def shapes(nodes):
    """Shapes of the parameters and of the statistics, by name, in the order of the nodes."""
    parameters, statistics = {}, {}
    for node in nodes:
        per_channel = (node.output.channels,)
        if node.has_weights:
            parameters[f"{node.name}.weights"] = node.weights_shape
            if node.layer.bias:
                parameters[f"{node.name}.bias"] = per_channel
        elif isinstance(node.layer, BatchNorm):
            parameters |= {f"{node.name}.gamma": per_channel, f"{node.name}.beta": per_channel}
            statistics |= {f"{node.name}.mean": per_channel, f"{node.name}.variance": per_channel}
    return parameters, statistics


def arrays(nodes, dtype, seed, initializer):
    """Host arrays of ``shapes``: weights drawn in the order of the nodes, the rest neutral."""
    rng = np.random.default_rng(seed)

    def initial(name, shape):
        kind = name.rsplit(".", 1)[1]
        if kind == "weights":
            return INITIALIZERS[initializer](rng, shape).astype(dtype)
        return np.full(shape, kind in ("gamma", "variance"), dtype)

    return tuple({name: initial(name, s) for name, s in part.items()} for part in shapes(nodes))
