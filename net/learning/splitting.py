"""Honest validation: on whole images, or on a block of one that no training patch touches."""

from __future__ import annotations

import numpy as np

from kernels import checks
from kernels.checks import Pair
from kernels.cross_entropy import UNLABELLED


def by_image(number: int, share: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Numbers of the images to learn from and of those to validate on, drawn at random.

    Args:
        number: number of images, at least 2.
        share: share of the images to validate on, above 0 and below 1; at least one is, and one is
            not.
        seed: seed of the draw.

    >>> by_image(5, share=0.3)
    ([0, 1, 3], [2, 4])
    """
    number = checks.count("number", number, 2)
    share = checks.number("share", share, positive=True, below=1)
    rng = np.random.default_rng(checks.count("seed", seed, 0))
    validated = min(max(1, round(share * number)), number - 1)
    drawn = rng.permutation(number).tolist()
    return sorted(drawn[validated:]), sorted(drawn[:validated])


def by_block(labels: np.ndarray, share: float, gap: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Labels of one image to learn from, and those of a block at one of its sides to validate on.

    Between the two lie ``gap`` rows or columns whose labels are dropped. Where that is the net's
    patch, no patch of a training pixel, turned or not, shares a pixel of the image with one of a
    validation pixel: otherwise the net would have seen what it is asked about.

    Of the four sides the one is taken whose block and rest are most alike: the one where the
    smallest share of any class's labels that lies in the block or in the rest is largest.

    Args:
        labels: H x W ints, ``UNLABELLED`` (-1) where unknown.
        share: share of the labelled pixels that the block is to have, above 0 and below 1.
        gap: rows and columns.

    Returns:
        two maps like ``labels``.

    Raises:
        TypeError, ValueError: an argument is none of these, or at each side a class would be
            missing in the block or in the rest: then label more, or give images to validate on.

    >>> labels = np.tile([0, 1], (10, 8))
    >>> train, validation = by_block(labels, share=0.3, gap=(2, 2))
    >>> [np.unique(np.nonzero(part >= 0)[0]).tolist() for part in (train, validation)]
    [[0, 1, 2, 3, 4], [7, 8, 9]]
    """
    checks.array("labels", labels, (None, None), checks.INTS, any_layout=True)
    share = checks.number("share", share, positive=True, below=1)
    gap = checks.pair("gap", gap, 0)
    classes = np.unique(labels[labels != UNLABELLED])
    if len(classes) == 0:
        raise ValueError("labels hold no labelled pixel; expected at least one")
    best, most = None, 0.0
    for axis, at_end in ((0, True), (0, False), (1, True), (1, False)):
        parts = _split(labels, share, axis, at_end, gap[axis])
        least = min(_least_share(labels, part, classes) for part in parts)
        if least > most:
            best, most = parts, least
    if best is None:
        raise ValueError(
            f"labels cannot be split into a block and the rest, {gap[0]} rows or {gap[1]} columns "
            "apart, with every class in both; expected labels in more places, images of "
            "their own to validate on, or no validation (None; --validation 0)"
        )
    return best


def _split(labels, share, axis, at_end, gap):
    """The rest and the block at one side, the maps otherwise unlabelled."""
    lines = np.moveaxis(labels, axis, 0)
    lines = lines[::-1] if at_end else lines
    counts = (lines != UNLABELLED).sum(axis=1).cumsum()
    length = int(np.searchsorted(counts, share * counts[-1])) + 1
    rest, block = lines.copy(), lines.copy()
    rest[: length + gap] = UNLABELLED
    block[length:] = UNLABELLED
    return tuple(np.moveaxis(part[::-1] if at_end else part, 0, axis) for part in (rest, block))


def _least_share(labels, part, classes):
    return min((part == k).sum() / (labels == k).sum() for k in classes)
