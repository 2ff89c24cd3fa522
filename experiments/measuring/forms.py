"""Both forms of a net of the zoo on the same pixels of a photograph, compared."""

from __future__ import annotations

import numpy as np

from experiments.inputs.nets import prepared
from experiments.inputs.photographs import astronaut
from experiments.measuring.exactness import NotEqual, relative_difference
from net import Dense, Scan

BORDER = "reflect"
LIMITS = {"float64": 1e-12, "float32": 1e-5}
"""Largest differences over the largest value, by dtype."""


def compared(name: str, dtype: str, size, sampled: int, backend: str, *, seed: int) -> dict:
    """A row on both forms of a net of the zoo.

    Args:
        size: rows and columns of the image.
        sampled: pixels that are chosen at random.

    Raises:
        NotEqual: a difference is above its limit, or float32 scores are not bitwise equal.
    """
    net = prepared(name, seed=seed, backend=backend, dtype=dtype)
    image = astronaut(net.channels, size, dtype)
    pixels = _pixels(size, sampled, np.random.default_rng(seed))
    row = {"net": name, "dtype": dtype, "border": BORDER, "rows": size[0], "columns": size[1]}
    row |= {"pixels": len(pixels)} | _compare(net, image, pixels, seed)
    _check(row)
    return row


def _pixels(size, number, rng) -> np.ndarray:
    """``number`` random pixels and the four corners, each once."""
    corners = np.array([(y, x) for y in (0, size[0] - 1) for x in (0, size[1] - 1)])
    chosen = np.stack(np.unravel_index(rng.permutation(size[0] * size[1])[:number], size), axis=1)
    return np.unique(np.concatenate([corners, chosen]), axis=0)


def _compare(net, image, pixels, seed) -> dict:
    dense, scan = Dense(net, BORDER), Scan(net, BORDER)
    at = (slice(None), pixels[:, 0], pixels[:, 1])
    scores, by_patch = dense.forward(image), scan.forward(image, pixels)
    error = np.random.default_rng(seed + 1).standard_normal(scores.shape).astype(net.dtype)
    mask = np.zeros(scores.shape[1:], bool)
    mask[at[1:]] = True
    ours = dense.gradients(image, error, mask, everywhere=True).parameters
    theirs = scan.gradients(image, np.ascontiguousarray(error[at].T), pixels).parameters
    differences = {name: relative_difference(ours[name], theirs[name]) for name in theirs}
    worst = max(differences, key=differences.get)
    return {
        "scores_difference": relative_difference(scores[at].T, by_patch),
        "scores_equal_bits": float((by_patch == scores[at].T).mean()),
        "gradients_difference": differences[worst],
        "gradients_worst": worst,
    }


def _check(row):
    limit = LIMITS[row["dtype"]]
    large = max(row["scores_difference"], row["gradients_difference"]) > limit
    if large or (row["dtype"] == "float32" and row["scores_equal_bits"] < 1):
        raise NotEqual(f"dense and patch-by-patch results differ: {row}")
