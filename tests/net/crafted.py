"""Files of nets and runs, taken apart and put together by other code than the program's."""

import json
import math
import zlib

import numpy as np

from net import Net
from net.layers import BatchNorm, Convolution, Dropout, FullyConnected, ReLU
from net.learning.optimizers import Adam, Cosine
from net.learning.training import Trainer
from net.usage import LabelRule, Normalization, Usage

LAYERS = [
    Convolution(2, (3, 2), stride=(1, 2), name="first"),
    *(BatchNorm(), ReLU(inputs=("norm1",)), Dropout(0.2), FullyConnected(3, bias=False)),
]
KEY = "regularly-sparse"
USAGE = Usage(
    normalization=Normalization((0.5,), (2,)),
    class_names=("cell", "rim", "rest"),
    colors=((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    label_rule=LabelRule(unlabelled=255, values=(3, 1, 2)),
    border="zero",
    training={"images": 3, "curve": [0.5, 0.25], "note": None},
)


def small_net(backend="reference", **options):
    """Patch 5 x 4, three classes, parameters of its seed."""
    return Net(LAYERS, **{"channels": 1, "patch": (5, 4), "backend": backend} | options)


def small_run(net=None, optimizer=None, **options):
    """A run in the middle of an epoch; nothing was computed for it."""
    optimizer = optimizer or Adam(Cosine(0.01, 20))
    options = {"seed": 3, "class_weights": [1, 0.5, 0]} | options
    trainer = Trainer(net or small_net(), optimizer, **options)
    rng = np.random.default_rng(9)
    for array in trainer.slots.values():
        array[...] = rng.random(array.shape, np.float32)
    trainer.steps, trainer.losses = 7, [0.5, math.nan, math.inf]
    trainer.history = [{"epoch": 1, "step": 4, "loss": 0.1}, {"epoch": 2, "loss": math.nan}]
    return trainer


def parts(content):
    """(entries of the header, document, data)."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header.pop("__metadata__")[KEY])
    return header, document, content[8 + length :]


def whole(header, document, data):
    """A file with the right length and checksum; texts stand for themselves, as no JSON could."""
    if isinstance(document, dict) and "checksum" in document:
        document = {**document, "checksum": checksum(header, document, data)}
    text = document if isinstance(document, str) else _json(document)
    if isinstance(header, dict):
        header = _json({"__metadata__": {KEY: text}, **header})
    header = header.encode()
    return len(header).to_bytes(8, "little") + header + data


def checksum(header, document, data):
    """CRC-32 of the arrays in order of their names, then of the document without the checksum."""
    rest = {key: value for key, value in document.items() if key != "checksum"}
    try:
        spans = [slice(*header[name]["data_offsets"]) for name in sorted(header)]
        arrays = b"".join(data[span] for span in spans)
    except (TypeError, KeyError):
        arrays = b""  # so wrong that no checksum can be right
    return zlib.crc32(arrays + _json(rest).encode())


def _json(value):
    return json.dumps(value, separators=(",", ":"))


def spoiled(made, **values):
    """An optimiser or layer with values that its own checks refuse."""
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made
