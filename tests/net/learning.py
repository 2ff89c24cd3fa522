"""A small net that learns, random examples, and a run of training that several files test with."""

import numpy as np

from net import Net
from net.layers import Convolution, Dropout, FullyConnected, MaxPool, ReLU, Tanh
from net.learning.fitting import fit
from net.learning.optimizers import Adam, Cosine
from net.learning.training import Trainer
from tests.net.nets import random_image

LAYERS = [
    *(Convolution(6, 3), ReLU(), MaxPool(2), Dropout(0.3)),
    *(Convolution(8, 3, stride=2), Tanh(), Dropout(0.2)),
    *(FullyConnected(12), ReLU(), Dropout(0.5), FullyConnected(3)),
]


def small_net(backend="cpu", dtype="float32"):
    """Patch 17, three classes, strided and with dropout."""
    return Net(LAYERS, channels=1, patch=17, backend=backend, dtype=dtype)


def random_labels(size, classes, seed=5):
    """Labels, some unknown."""
    return np.random.default_rng(seed).integers(-1, classes, size)


def examples(number=4, classes=3, size=(24, 21)):
    """Random images with random labels."""
    images = [
        random_image(small_net("reference"), size, seed).astype("f4") for seed in range(number)
    ]
    return images, [random_labels(size, classes, seed) for seed in range(number)]


def run_for(epochs, path=None, trainer=None, **options):
    """Train the small net on four images: four steps an epoch."""
    trainer = trainer or Trainer(small_net(), Adam(Cosine(0.01, 20)), seed=3)
    data = examples()
    options = {"pixels": 40, "validation": data, "progress": False} | options
    fit(trainer, data, epochs=epochs, checkpoint=path, **options)
    return trainer
