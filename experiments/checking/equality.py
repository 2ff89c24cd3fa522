"""A net of the zoo in both forms: the same bits, and the same gradients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from experiments.inputs.nets import prepared
from experiments.inputs.photographs import astronaut
from experiments.measuring.forms import BORDER, LIMITS, compared
from net import Dense

NET, SIZE, PIXELS = "lenet28", (48, 56), 20


def checks(ops) -> Iterator[tuple[str, object]]:
    """See ``experiments.checking``."""
    yield f"{NET}, dense and patch by patch", partial(_forms, ops.name)
    yield f"{NET}, at chosen pixels", partial(_mask, ops.name)


def _forms(backend):
    row = compared(NET, "float32", SIZE, PIXELS, backend, seed=0)
    return (
        f"{row['scores_equal_bits']:.0%} of the scores of {row['pixels']} pixels are the same "
        f"bits; gradients differ by {row['gradients_difference']:.1e} (at most "
        f"{LIMITS['float32']:.0e})"
    )


def _mask(backend):
    net = prepared(NET, seed=0, backend=backend)
    image, dense = astronaut(net.channels, SIZE, "float32"), Dense(net, BORDER)
    mask = np.random.default_rng(0).random(SIZE) < 0.02
    whole, chosen = dense.forward(image), dense.forward(image, mask)
    if not (whole[:, mask] == chosen[:, mask]).all():
        raise ValueError("scores at chosen pixels are not the bits of the whole map's")
    return f"{mask.sum()} scores are the bits of the whole map's"
