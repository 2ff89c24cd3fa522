"""A net of the zoo with trained weights, which lie beside the code: it labels coins.

It learned from the left half of ``skimage.data.coins()`` and has seen nothing of the right half.
The truth is a rule, too (``inputs.scribbles.coins``). ``python -m experiments demo --train`` makes
the weights anew, and the record of how they were made.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np

from experiments.inputs.scribbles import coins
from net import Dense, Net, load, zoo
from net.files import write_atomically
from net.images import net_input
from net.learning.metrics import Metrics
from net.learning.records import TrainingWarning
from net.learning.runs import train
from net.usage import Usage

NAME, BORDER = "authors133", "reflect"
CLASSES = ("background", "coin")
FOLDER = Path(__file__).parents[1] / "weights"
NET, RECORD = FOLDER / f"{NAME}-coins.safetensors", FOLDER / f"{NAME}-coins.json"
STEPS, PIXELS = 600, 200
"""Steps of training, and the pixels that each learns from."""


def trained(backend: str) -> Net:
    """The net with its trained weights.

    >>> trained("reference").usage.class_names
    ('background', 'coin')
    """
    return load(NET, backend=backend)


def photograph() -> np.ndarray:
    """``skimage.data.coins()`` as the net takes it before normalisation: 3 x H x W uint8, grey."""
    return np.repeat(coins()[0][None], 3, axis=0)


def halves(columns: int) -> dict[str, slice]:
    """The columns that were learned from, and those that were not."""
    return {"learned from": slice(0, columns // 2), "never seen": slice(columns // 2, columns)}


def scores(net: Net) -> dict[str, dict[str, float]]:
    """Accuracy, and intersection over union of the coins, of each half."""
    classes, _ = Dense(net, BORDER).predict(net_input(net, photograph(), "first"))
    truth, by_half = coins()[1].astype(int) - 1, {}
    for name, half in halves(truth.shape[1]).items():
        metrics = Metrics.of([truth[:, half]], [classes[:, half]], len(CLASSES))
        by_half[name] = {"accuracy": metrics.accuracy, "iou": float(metrics.iou[1])}
    return by_half


def make(backend: str, seed: int, record: dict) -> None:
    """Train the net, about three minutes on two cores, and write its file and its record.

    Args:
        record: of the machine and the code, taken while these are as they were committed.
    """
    image, truth = photograph(), coins()[1]
    half = halves(truth.shape[1])["learned from"]
    net = zoo.build(NAME, classes=len(CLASSES), seed=seed, backend=backend)
    net.usage = Usage(class_names=CLASSES, border=BORDER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)  # the other half tells what it learned
        train(
            *(net, [image[:, :, half]], [truth[:, half]]),
            **{"axes": "first", "steps": STEPS, "pixels": PIXELS, "seed": seed},
        )
    net.save(NET)
    record = record | {"net": NAME, "seed": seed, "scores": scores(net)}
    record |= {"sha256": hashlib.sha256(NET.read_bytes()).hexdigest()}
    write_atomically(RECORD, (json.dumps(record, indent=2) + "\n").encode())
