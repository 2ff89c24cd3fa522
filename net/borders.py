"""Which pixels a patch reads around its own, and what stands where the image ends."""

from __future__ import annotations

from kernels.checks import Margins, Pair

BORDERS = ("valid", "zero", "reflect")


def patch_margins(patch: Pair) -> Margins:
    """Rows and columns of the patch (top, left, bottom, right) of its pixel.

    >>> patch_margins((28, 5))
    (13, 2, 14, 2)
    """
    before = [(p - 1) // 2 for p in patch]
    return (*before, *(p - 1 - b for p, b in zip(patch, before)))


def halo(patch: Pair, receptive_field: Pair) -> Margins:
    """Rows and columns (top, left, bottom, right) that a label depends on around its pixel.

    A program that cuts an image into regions has to read that much beyond each of them.

    >>> halo((28, 5), (28, 3))
    (13, 2, 14, 0)
    """
    top, left, *_ = patch_margins(patch)
    after = [max(0, r - 1 - b) for r, b in zip(receptive_field, (top, left))]
    return (top, left, *after)
