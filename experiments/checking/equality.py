"""Nets in both forms, and over the cells that some pixels need: the same bits and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from experiments.checking.operators import difference
from experiments.inputs.nets import prepared
from experiments.inputs.photographs import astronaut
from experiments.measuring.forms import BORDER, LIMITS, compared
from net import Dense, Net, Scan
from net.layers import AveragePool, Crop, FullyConnected

NET, SMALL = "lenet28", "a small net"
SIZE, PIXELS = (48, 56), 20
STROKE = 20, slice(10, 32)
"""Chosen beside two corners. So few pixels take fewer cells than the whole image on any backend."""


def checks(ops) -> Iterator[tuple[str, object]]:
    """See ``experiments.checking``."""
    yield f"{NET}, dense and patch by patch", partial(_forms, ops.name)
    for name, build in ((NET, partial(prepared, NET, seed=0)), (SMALL, _small)):
        yield f"{name}, at chosen pixels and patch by patch", partial(_chosen, build, ops.name)


def _forms(backend):
    row = compared(NET, "float32", SIZE, PIXELS, backend, seed=0)
    return (
        f"{row['scores_equal_bits']:.0%} of the scores of {row['pixels']} pixels are the same "
        f"bits; {_said(row['gradients_difference'])}"
    )


def _said(worst):
    return f"gradients differ by {worst:.1e} (at most {LIMITS['float32']:.0e})"


def _small(backend):
    """What ``NET`` lacks: average pooling, and a crop, which selects cells."""
    layers = [AveragePool(2), Crop((0, 1, 1, 0)), FullyConnected(3)]
    return Net(layers, channels=1, patch=8, backend=backend)


def _chosen(build, backend):
    net = build(backend=backend)
    image, dense, scan = astronaut(1, SIZE, net.dtype), Dense(net, BORDER), Scan(net, BORDER)
    mask = np.zeros(SIZE, bool)
    mask[0, 0] = mask[-1, -1] = mask[STROKE] = True
    pixels = np.argwhere(mask)
    if not np.array_equal(dense.forward(image, mask)[:, mask].T, scan.forward(image, pixels)):
        raise ValueError("scores at chosen pixels are not the bits of those patch by patch")
    shape = net.output.channels, *SIZE
    error = np.random.default_rng(0).standard_normal(shape, net.dtype)
    ours = dense.gradients(image, error, mask, image_gradient=True)
    vectors = np.ascontiguousarray(error[:, mask].T)
    theirs = scan.gradients(image, vectors, pixels, image_gradient=True)
    pairs = [(ours.parameters[name], theirs.parameters[name]) for name in theirs.parameters]
    worst = max(difference(*pair) for pair in [*pairs, (ours.image, theirs.image)])
    if worst > LIMITS["float32"]:
        raise ValueError(_said(worst))
    return f"{len(pixels)} scores are the same bits; {_said(worst)}"
