"""Choosing pixels of an error map: the mask of Li, Zhao & Wang 2014, section 3.

    y[n, k, y, x] = e[n, k, y, x] where mask[n, y, x], else 0

A value outside the mask is dropped whatever it is, NaN included.
"""

from kernels import checks


def check_apply(error, mask) -> None:
    """Check an error map N x K x H x W and its mask N x H x W (bool)."""
    checks.array("error", error, (None,) * 4)
    n, _, h, w = error.shape
    checks.array("mask", mask, (n, h, w), ("bool",))
