"""A small net with its usage, images for it, and the command line."""

import subprocess
import sys

import numpy as np
from PIL import Image

from net import Net
from net.layers import Convolution, FullyConnected, MaxPool, ReLU
from net.usage import Normalization, Usage

LAYERS = [Convolution(4, (3, 2)), ReLU(), MaxPool(2), FullyConnected(3)]
USAGE = Usage(
    normalization=Normalization((100, 110, 120), (50, 51, 52.5)),
    class_names=("cell", "rim", "rest"),
    training={"images": ["a.png"], "epochs": 3},
)


def saved_net(path, usage=USAGE, **options):
    net = Net(LAYERS, **{"channels": 3, "patch": (6, 7), "backend": "cpu"} | options)
    net.usage = usage
    net.save(path)
    return net


def saved_image(path, size=(41, 53), seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(image).save(path)
    return image


def shell(folder, *command, **options):
    """Run ``python -m net`` in a folder, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "net", *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        **options,
    )
