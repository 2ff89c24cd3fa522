"""Tables in plain text."""

from kernels.checks import Pair


def aligned(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A line for the headings and one for each row, in columns as wide as their widest cell.

    >>> print(aligned(("layer", "R"), [("conv1", "5x5"), ("max1", "6x6")]))
    layer  R
    conv1  5x5
    max1   6x6
    """
    lines = [headings, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )


def by(pair: Pair) -> str:
    """A pair (y, x) as a cell, such as ``5x3``."""
    return f"{pair[0]}x{pair[1]}"
