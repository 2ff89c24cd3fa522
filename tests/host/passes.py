"""What the processes of these tests run: importable, so that it can be pickled."""

import numpy as np

from net import Dense, Net
from net.layers import BatchNorm, Softmax

IMAGE = np.random.default_rng(0).standard_normal((3, 20, 30), np.float32)


def dense(backend="cpu"):
    """A net that is compiled quickly, with parameters of its own."""
    net = Net([BatchNorm(), Softmax()], channels=3, patch=1, backend=backend)
    net.load_state({name: array + np.float32([1, 2, 3]) for name, array in net.state().items()})
    return Dense(net)


def bits(dense):
    """Of the scores of ``IMAGE``."""
    return dense.forward(IMAGE).tobytes()


def own_bits(_):
    """Of a net that is made where it runs."""
    return bits(dense())
