"""Choosing the pixels to learn from: the mask on the error map."""

from __future__ import annotations

import numpy as np

from kernels import checks, foreign
from kernels.cross_entropy import UNLABELLED


def balanced_mask(labels: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """A mask of about ``pixels`` random labelled pixels, equally many of each class that occurs.

    A class with too few pixels gives all it has; the others share what it leaves.

    Args:
        labels: ints, H x W or a list of P, ``UNLABELLED`` (-1) where unknown.
        pixels: how many to choose; exactly as many are chosen, or all labelled ones if fewer.
        rng: decides.

    Returns:
        bool, in the shape of the labels.

    Raises:
        TypeError, ValueError: an argument is none of these, or no pixel has a label.

    >>> labels = np.array([[0, 0, 0, 0, 1, -1]])
    >>> balanced_mask(labels, 3, np.random.default_rng(0)).sum(where=labels == 0)
    np.int64(2)
    """
    labels = foreign.host_array("labels", labels)
    axes = 1 if getattr(labels, "ndim", 2) == 1 else 2
    checks.array("labels", labels, (None,) * axes, checks.INTS, any_layout=True)
    checks.count("pixels", pixels)
    checks.instance("rng", rng, np.random.Generator)
    flat = labels.ravel()
    classes = np.unique(flat[flat != UNLABELLED])
    if len(classes) == 0:
        raise ValueError("labels hold no labelled pixel; expected at least one")
    if classes[0] < 0:
        raise ValueError(f"labels hold {classes[0]}; expected classes from 0, or {UNLABELLED}")
    places = [rng.permutation(np.flatnonzero(flat == k)) for k in classes]
    mask = np.zeros(flat.size, bool)
    pixels_left = pixels
    for classes_left, of_class in zip(range(len(places), 0, -1), sorted(places, key=len)):
        number = min(len(of_class), pixels_left // classes_left)
        mask[of_class[:number]] = True
        pixels_left -= number
    return mask.reshape(labels.shape)
