"""How the host takes maxima over listed cells, and what that takes of memory.

Nothing here is compiled, so that a pass can be planned where nothing can be.
"""

from itertools import pairwise

import numpy as np

from kernels.host.vectors import BYTES
from kernels.max_pooling import argmax_dtype
from kernels.max_pooling.cpu_workspace import MOST_PARTS
from kernels.window import Window

LARGE_ABOVE = 16
"""Windows with more cells are taken in the order of the cells and, if they share rows, take row
maxima first, so that the map is not read once per cell."""
ROWS = 64
"""Rows of cells whose maxima a thread takes at once."""
MOST_CHANNEL_GROUPS = 4
"""Groups of channels, one after the other."""


def shares_rows(
    window: Window, outputs: int, cells: int, channels: int, itemsize: int, argmax: bool
) -> bool:
    """Whether maxima over rows of cells are taken first: of large windows which, together, have at
    least as many rows as there are cells for one to begin at. Not where no pass backward follows,
    which keeps no map: there these maxima would be its peak of memory."""
    rows = outputs * window.kernel[0]
    fits = window.kernel[0] <= MOST_PARTS and channels * itemsize >= BYTES
    return argmax and fits and window.cells > LARGE_ABOVE and rows >= cells > 0


def channel_groups(channels: int, itemsize: int) -> list[tuple[int, int]]:
    """(first, count) of the channels that are taken together: at least a vector of them, and few
    enough that the maxima of a group are a fraction of the map."""
    parts = max(1, min(MOST_CHANNEL_GROUPS, channels * itemsize // BYTES))
    ends = [channels * part // parts for part in range(parts + 1)]
    return [(first, end - first) for first, end in pairwise(ends)]


def thread_numbers(window: Window, channels: int) -> int:
    """Numbers that a thread works in, which takes the maxima over ``ROWS`` rows."""
    return (ROWS + window.kernel[1] - 1) * channels + BYTES


def workspace(
    window: Window, outputs: int, cells: int, channels: int, itemsize: int, argmax: bool
) -> tuple[tuple[int, ...], int, int]:
    """(bytes of each array that a forward pass works in, of a thread, parts of the work): the order
    of the windows, and the maxima over rows with the numbers of their cells."""
    order = 8 * outputs
    if not shares_rows(window, outputs, cells, channels, itemsize, argmax):
        return (order,), 0, 1
    largest = max(count for _, count in channel_groups(channels, itemsize))
    starts, numbers = cells - window.kernel[1] + 1, thread_numbers(window, largest)
    of_cell = np.dtype(argmax_dtype(Window((1, window.kernel[1])))).itemsize
    maxima = starts * largest * itemsize, starts * largest * of_cell
    return (order, *maxima), numbers * (2 * itemsize + of_cell), -(-starts // ROWS)
