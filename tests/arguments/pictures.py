"""Arguments of what reads images and labels: ``net.pictures``."""

from pathlib import Path

import numpy as np

from net import pictures
from net.pictures.labels import read_values
from net.usage import LabelRule
from tests.arguments.entries import NONE, SIZE, Call, Entry, labels


def _of_file(function, **arguments):
    """A call with the path of a label image."""

    def fresh():
        np.save("image.npy", labels())
        return Call(function, {"path": "image.npy", **arguments})

    return fresh


def _of_files():
    np.save("image.npy", labels())
    return Call(pictures.normalization_of, {"paths": ["image.npy"], "axes": "first", "channels": 1})


def _of_folders(function, *names):
    def fresh():
        for name in names:
            Path(f"{name}.there").mkdir(exist_ok=True)
            Path(f"{name}.there", "a.png").touch()
        return Call(function, {name: f"{name}.there" for name in names})

    return fresh


RULE = LabelRule(unlabelled=255)
CALLS = {
    "net.pictures.reading.read": Entry(
        _of_file(pictures.read, axes="first", channels=1), {"axes": NONE, "channels": NONE}
    ),
    "net.pictures.reading.shape_of": Entry(
        _of_file(pictures.shape_of, axes="first", channels=1), {"axes": NONE, "channels": NONE}
    ),
    "net.pictures.labels.read_values": Entry(_of_file(read_values, rule=RULE)),
    "net.pictures.labels.read_labels": Entry(
        _of_file(pictures.read_labels, rule=RULE, classes=2, size=SIZE), {"size": NONE}
    ),
    "net.pictures.labels.read_mask": Entry(_of_file(pictures.read_mask, size=SIZE), {"size": NONE}),
    "net.pictures.normalization.normalization_of": Entry(
        _of_files, {"axes": NONE, "channels": NONE}, called={"paths": "path"}
    ),
    "net.pictures.folders.pictures_in": Entry(_of_folders(pictures.pictures_in, "folder")),
    "net.pictures.folders.matched": Entry(_of_folders(pictures.matched, "images", "labels")),
}
