"""Arguments of what labels images of any size: ``net.large``."""

from uuid import uuid4

import dask.array
import numpy as np

from net import large
from tests.arguments.entries import (
    ANY_NUMBERS,
    NONE,
    SIZE,
    Call,
    Entry,
    because,
    image,
    small_net,
)

UNIT = because("axes of extent 1 are passed over", "itself, with an axis more")
UNITS = because("one pixel, whose axes of extent 1 are passed over", "array of rank 5")
A_FUNCTION = because("a function", "lambda")
COMMON = {"border": "zero", "probabilities": "uint8", "axes": "first", "memory": "64 GB"}
COMMON_TAKES = {"border": NONE, "probabilities": NONE, "axes": NONE, "memory": NONE}


def _into_a_file(function, **arguments):
    """A call that writes what nobody has written."""

    def fresh():
        given = {"image": image(), "net": small_net(), "out": f"{uuid4()}.npy", "client": None}
        return Call(function, given | COMMON | {"where": np.ones(SIZE)} | arguments)

    return fresh


def _lazy():
    lazy_image = dask.array.from_array(image())
    return Call(large.lazy, {"image": lazy_image, "net": small_net(), **COMMON})


TAKES = {
    "image": ANY_NUMBERS | UNIT,
    "where": ANY_NUMBERS | UNIT | NONE,
    "client": NONE,
    **COMMON_TAKES,
}
CALLS = {
    "net.large.labelling.plan": Entry(_into_a_file(large.plan), TAKES),
    "net.large.labelling.label": Entry(
        _into_a_file(large.label, progress=lambda *_: None),
        TAKES | {"progress": NONE | A_FUNCTION},
    ),
    "net.large.views.View": Entry(
        lambda: Call(large.View, {"image": image(), "net": small_net(), "axes": "first"}),
        {"image": ANY_NUMBERS | UNIT | UNITS, "axes": NONE},
    ),
    "net.large.lazy.lazy": Entry(_lazy, COMMON_TAKES),
}
