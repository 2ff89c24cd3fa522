"""Padding (zero or reflect) and cropping of N x C x H x W maps, and their gradients.

Margins are (top, left, bottom, right) in cells. ``reflect`` is ``numpy.pad``'s: the border cell is
not repeated, and margins wider than the map reflect again and again. The gradient of a reflection
gathers, for each cell, the errors of all its images.
"""

from kernels import checks
from kernels.checks import Margins

PADDING_MODES = ("zero", "reflect")


def padded_shape(x, by: Margins, mode: str) -> tuple[int, int, int, int]:
    """Shape of ``x`` padded by (top, left, bottom, right); checks the arguments."""
    checks.array("x", x, (None,) * 4)
    checks.choice("mode", mode, PADDING_MODES)
    top, left, bottom, right = checks.margins("margins", by)
    n, c, h, w = x.shape
    return (n, c, h + top + bottom, w + left + right)


def unpadded_shape(error, by: Margins, mode: str) -> tuple[int, int, int, int]:
    """Shape of the map whose padded error map is ``error``; checks the arguments."""
    checks.choice("mode", mode, PADDING_MODES)
    return _without_margins("error", error, by)


def cropped_shape(x, by: Margins) -> tuple[int, int, int, int]:
    """Shape of ``x`` without its (top, left, bottom, right) margins; checks the arguments."""
    return _without_margins("x", x, by)


def _without_margins(name, array, by):
    checks.array(name, array, (None,) * 4)
    top, left, bottom, right = checks.margins("margins", by)
    n, c, h, w = array.shape
    if top + bottom >= h or left + right >= w:
        raise ValueError(
            f"margins is {tuple(by)}; expected to leave at least one row and column of {h} x {w}"
        )
    return (n, c, h - top - bottom, w - left - right)
