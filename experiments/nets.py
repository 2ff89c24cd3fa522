"""Zoo nets as the experiments use them: seeded, with biases, calibrated on the photograph."""

import numpy as np

from experiments.photographs import astronaut
from net import Net, calibrate, zoo


def prepared(name: str, *, seed: int, backend: str, dtype: str = "float32") -> Net:
    """The net ``name`` with random weights, random biases and shifts, and statistics of a photo."""
    net = zoo.build(name, seed=seed, backend=backend, dtype=dtype)
    state, rng = net.state(), np.random.default_rng(seed)
    for parameter, values in state.items():
        if parameter.endswith((".bias", ".beta")):
            state[parameter] = rng.normal(0, 0.1, values.shape)
    net.load_state(state)
    size = tuple(p + 64 for p in net.patch)
    calibrate(net, [astronaut(net.channels, size, dtype)])
    return net


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    """max|a - b| / max|b|."""
    return float(np.abs(a - b).max() / np.abs(b).max())
