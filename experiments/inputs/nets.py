"""The nets that the experiments run: seeded, with biases, calibrated on a photograph."""

import numpy as np

from experiments.inputs.photographs import astronaut
from net import Net, calibrate, zoo
from net.layers import Convolution, FullyConnected, MaxPool, ReLU
from net.summary import multiply_adds

FAMILY = "family-"
QUICK = ("lenet28", "strided67")
"""The nets of the zoo that are measured with ``--quick``."""
LARGEST_PASS = 1.3e11
"""Multiply-adds of a dense pass forward on a host, unless an experiment affords more."""


def prepared(name: str, *, seed: int, backend: str, dtype: str = "float32") -> Net:
    """The net ``name`` with random weights, biases and shifts, calibrated on a photograph.

    Args:
        name: as ``built``.
        seed: of all random numbers.
        backend, dtype: as ``net.Net``.
    """
    net = built(name, seed=seed, backend=backend, dtype=dtype)
    state, rng = net.state(), np.random.default_rng(seed)
    for parameter, values in state.items():
        if parameter.endswith((".bias", ".beta")):
            state[parameter] = rng.normal(0, 0.1, values.shape)
    net.load_state(state)
    size = tuple(p + 64 for p in net.patch)
    calibrate(net, [astronaut(net.channels, size, dtype)])
    return net


def built(name: str, **options) -> Net:
    """The net ``name`` of the zoo, or ``"family-P"``; ``options`` as ``net.Net``."""
    if name.startswith(FAMILY):
        return family(int(name.removeprefix(FAMILY)), **options)
    return zoo.build(name, **options)


def affordable(
    name: str, sizes: tuple[int, ...], backend: str, most: float = LARGEST_PASS
) -> tuple[int, ...]:
    """Those of ``sizes`` at which a dense pass forward takes ``most`` multiply-adds or fewer.

    Where none does, the smallest, halved until it does. Only hosts are spared like this: a GPU
    does in a second what takes them minutes.

    Args:
        name: of the net, as ``built``.
        sizes: rows and columns of labelled pixels, ascending.
        backend: where it runs.

    >>> affordable("n4", (128, 256, 512), "cpu", 2e10)
    (128, 256)
    >>> affordable("greentea102", (128, 256, 512), "cpu", 2e11)
    (64,)
    """
    if backend == "cuda":
        return sizes
    net = built(name, backend="reference")

    def work(size):
        return sum(multiply_adds(net, node, (size, size))[1] for node in net.nodes.values())

    while not (fitting := tuple(size for size in sizes if work(size) <= most)):
        sizes = (sizes[0] // 2,)
    return fitting


def family(patch: int, **options) -> Net:
    """A grey net for patches of any size, by one rule.

    Until the map is at most 8 x 8: a convolution with 24 filters, 5 x 5 where the map is even and
    else 4 x 4; ReLU; max pooling by 2. Then full connections to 64 and to 8. So no window is cut
    off, and the receptive field is the patch.
    """
    layers, rest = [], patch
    while rest > 8:
        kernel = 5 if rest % 2 == 0 else 4
        layers += [Convolution(24, kernel), ReLU(), MaxPool(2)]
        rest = (rest - kernel + 1) // 2
    layers += [FullyConnected(64), ReLU(), FullyConnected(8)]
    return Net(layers, channels=1, patch=patch, **options)
