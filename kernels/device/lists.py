"""What the poolings of lists share: a thread has one cell of the source, in some channels."""

from __future__ import annotations

from typing import NamedTuple

from kernels.checks import Pair
from kernels.device.api import cuda, device, u32
from kernels.device.indices import divmod_u32
from kernels.device.limits import ceil_division

CHANNELS = 4
"""Channels of a thread, which looks up its window once for all of them."""


class ListSizes(NamedTuple):
    """Of two lists, and of the table (``kernels.listed_cells``) by which one reads the other."""

    channels: int
    outputs: int  # P
    cells: int  # M
    columns: int  # P + M, of the table
    kernel: Pair

    @classmethod
    def of(cls, channels: int, outputs: int, cells: int, kernel: Pair) -> ListSizes:
        """The sizes of a pooling."""
        return cls(channels, outputs, cells, outputs + cells, kernel)

    @property
    def threads(self) -> int:
        """Threads to launch."""
        return ceil_division(self.channels, CHANNELS) * self.cells


@device
def cell_of(g):
    """(first channel, cell, whether there is one) of a thread."""
    group, m = divmod_u32(cuda.grid(1), g.cells)
    first = u32(group * u32(CHANNELS))
    return first, m, first < u32(g.channels)


@device
def window_of(rows, g):
    """(first channel, output, whether there is one): the window that begins at a thread's cell."""
    first, m, exists = cell_of(g)
    p, begins = u32(0), exists
    if exists:
        number = rows[u32(u32(g.outputs) + m)]
        p, begins = u32(number), number >= 0
    return first, p, begins


@device
def reader(rows, i, j, m, g):
    """(output, whether there is one) whose window has the cell m at its tap (i, j)."""
    p, reads = u32(0), j <= m
    if reads:
        number = rows[u32(i * u32(g.columns) + u32(g.outputs) + m - j)]
        p, reads = u32(number), number >= 0
    return p, reads
