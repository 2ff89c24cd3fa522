"""Nets that look at patches, and their dense form: every pixel of an image in one pass.

``Net`` links and checks a description; ``Scan`` runs it patch by patch; ``Dense`` runs it on whole
images, with the same parameters and the same results. ``calibrate`` sets the statistics of batch
normalisations. ``net.zoo`` holds the networks of the tables. ``from_torch``, ``to_torch`` and
``to_onnx`` exchange nets with other frameworks. ``net.PixelClassifier`` learns from images and
label images behind scikit-learn's interface; it needs the extra ``learn``.

>>> import numpy as np
>>> from net import Dense, Scan, zoo
>>> net = zoo.build("lenet28", backend="cpu")
>>> image = np.random.default_rng(0).random((1, 30, 31), np.float32)
>>> scores = Dense(net).forward(image)
>>> scores.shape
(10, 3, 4)
>>> bool((scores[:, 2, 1] == Scan(net).forward(image, np.array([[2, 1]]))[0]).all())
True
"""

from net.calibration import calibrate
from net.dense import Dense, Gradients
from net.exchange.onnx_writing import to_onnx
from net.exchange.torch_reading import from_torch
from net.exchange.torch_writing import to_torch
from net.graph import Net
from net.learning.checkpoint import BadCheckpoint
from net.learning.checkpoint import load_net as load
from net.maps import NotConvertible
from net.scanning import Scan

__all__ = [
    "BadCheckpoint",
    "Dense",
    "Gradients",
    "Net",
    "NotConvertible",
    "Scan",
    "calibrate",
    "from_torch",
    "load",
    "to_onnx",
    "to_torch",
]


def __getattr__(name):
    """``PixelClassifier`` alone needs scikit-learn, and is imported where it is asked for."""
    if name == "PixelClassifier":
        from net.learning.classifier import PixelClassifier

        return PixelClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
