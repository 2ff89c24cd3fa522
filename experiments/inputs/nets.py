"""Nets as the experiments use them: seeded, with biases, calibrated on the photograph."""

import numpy as np

from experiments.inputs.photographs import astronaut
from net import Net, calibrate, zoo
from net.layers import Convolution, FullyConnected, MaxPool, ReLU

FAMILY = "family-"


def prepared(name: str, *, seed: int, backend: str, dtype: str = "float32") -> Net:
    """The net ``name`` with random weights, random biases and shifts, and statistics of a photo.

    Args:
        name: of the zoo, or ``"family-P"`` for the net of ``family(P)``.
        seed: of all that is random.
        backend, dtype: as ``net.Net``.
    """
    options = {"seed": seed, "backend": backend, "dtype": dtype}
    if name.startswith(FAMILY):
        net = family(int(name.removeprefix(FAMILY)), **options)
    else:
        net = zoo.build(name, **options)
    state, rng = net.state(), np.random.default_rng(seed)
    for parameter, values in state.items():
        if parameter.endswith((".bias", ".beta")):
            state[parameter] = rng.normal(0, 0.1, values.shape)
    net.load_state(state)
    size = tuple(p + 64 for p in net.patch)
    calibrate(net, [astronaut(net.channels, size, dtype)])
    return net


def family(patch: int, **options) -> Net:
    """A grey net for patches of any size, by one rule.

    Until at most 8 x 8 cells are left: 24 kernels of 5 x 5 where the rest is even, else of 4 x 4;
    ReLU; max 2. Then fully connected, 64 and 8. So nothing is cut off, and R = p.
    """
    layers, rest = [], patch
    while rest > 8:
        kernel = 5 if rest % 2 == 0 else 4
        layers += [Convolution(24, kernel), ReLU(), MaxPool(2)]
        rest = (rest - kernel + 1) // 2
    layers += [FullyConnected(64), ReLU(), FullyConnected(8)]
    return Net(layers, channels=1, patch=patch, **options)
