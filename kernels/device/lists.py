"""What the poolings of lists share: which cell a thread has, and how it walks through windows.

Neighbours in the list of outputs read cells that are not neighbours, so threads follow the input
list instead. Each has a cell, in ``CHANNELS`` channels, and looks up its window once for all of
them. Forward it computes the output whose window begins there, if there is one: neighbouring
threads read neighbouring cells, and only the output is written apart (``list_reducer``). Backward
it adds up what the windows that read its cell give it, in the order of its taps: no atomics
(``list_gatherer``). Each is given the device functions that tell one pooling from another.
"""

from __future__ import annotations

from typing import NamedTuple

from kernels.checks import Pair
from kernels.device.api import cuda, device, u32
from kernels.device.indices import divmod_u32
from kernels.device.limits import ceil_division

CHANNELS = 4
"""Channels per thread."""


class ListSizes(NamedTuple):
    """Sizes of two lists and of the table (``kernels.listed_cells``) between them."""

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
def _cell_of(g):
    """(first channel, cell, whether there is one) of a thread."""
    group, m = divmod_u32(cuda.grid(1), g.cells)
    first = u32(group * u32(CHANNELS))
    return first, m, first < u32(g.channels)


@device
def _window_of(rows, g):
    """(first channel, output, whether there is one): the window that begins at a thread's cell."""
    first, m, exists = _cell_of(g)
    p, begins = u32(0), exists
    if exists:
        number = rows[u32(u32(g.outputs) + m)]
        p, begins = u32(number), number >= 0
    return first, p, begins


@device
def _reader(rows, i, j, m, g):
    """(output, whether there is one) whose window has the cell m at its tap (i, j)."""
    p, reads = u32(0), j <= m
    if reads:
        number = rows[u32(i * u32(g.columns) + u32(g.outputs) + m - j)]
        p, reads = u32(number), number >= 0
    return p, reads


@device
def output_index(c, p, g):
    """The index of output p in channel c in the list of outputs."""
    return u32(c * u32(g.outputs) + p)


def list_reducer(begin, take_row, write):
    """Device function (x, rows, sums, outputs, g): a thread's output, forward.

    Args:
        begin: (sums, n) before the window, in channel n of the thread.
        take_row: (sums, x, first, at, cell, g) adds a row of the window, in all channels from
            ``first`` on: it begins ``at`` a number of x, and with this cell of the window. Gives
            the cell behind the row, if the pooling counts cells.
        write: (sums, n, outputs, c, p, g) writes the output p in channel c, at ``output_index``.
    """

    @device
    def reduce_window(x, rows, sums, outputs, g):
        first, p, exists = _window_of(rows, g)
        if exists:
            for n in range(CHANNELS):
                begin(sums, n)
            i, cell = u32(0), u32(0)
            while i < u32(g.kernel[0]):
                at = u32(first * u32(g.cells) + u32(rows[u32(i * u32(g.columns) + p)]))
                cell = take_row(sums, x, first, at, cell, g)
                i = u32(i + u32(1))
            for n in range(CHANNELS):
                c = u32(first + u32(n))
                if c < u32(g.channels):
                    write(sums, n, outputs, c, p, g)

    return reduce_window


def list_gatherer(dtype, take):
    """Device function (sources, rows, totals, gradient, g): the gradient of a thread's cell.

    Args:
        dtype: the gradient's dtype.
        take: (sources, totals, n, at, cell) adds, in channel n of the thread, what the window at
            ``at`` gives to its cell.
    """

    @device
    def gather_windows(sources, rows, totals, gradient, g):
        first, m, exists = _cell_of(g)
        if exists:
            for n in range(CHANNELS):
                totals[n] = dtype(0)
            i, cell = u32(0), u32(0)
            while i < u32(g.kernel[0]):
                j = u32(0)
                while j < u32(g.kernel[1]):
                    p, reads = _reader(rows, i, j, m, g)
                    if reads:
                        for n in range(CHANNELS):
                            c = u32(first + u32(n))
                            if c < u32(g.channels):
                                take(sources, totals, n, output_index(c, p, g), cell)
                    j, cell = u32(j + u32(1)), u32(cell + u32(1))
                i = u32(i + u32(1))
            for n in range(CHANNELS):
                c = u32(first + u32(n))
                if c < u32(g.channels):
                    gradient[u32(c * u32(g.cells) + m)] = totals[n]

    return gather_windows
