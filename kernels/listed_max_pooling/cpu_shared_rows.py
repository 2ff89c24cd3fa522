"""Max pooling of listed cells on the host, of large windows that share their rows.

A list is one long row of cells. So the maximum over a row of cells is taken once, wherever one may
begin, for all windows that have it; a window then joins as many of those as it has rows. One
group of channels is taken after the other, so that the maxima take a fraction of the map.
"""

from typing import NamedTuple

import numba
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.host.buffers import aligned
from kernels.host.compilation import compiled_parallel, inlined
from kernels.host.simd import copy
from kernels.host.threads import ELEMENT_NS
from kernels.host.work_sharing import queue, take
from kernels.listed_max_pooling.cpu_workspace import ROWS, channel_groups, thread_numbers
from kernels.max_pooling import argmax_dtype
from kernels.max_pooling.cpu_joins import Joins, entries, join_parts, maxima_of_row
from kernels.memory import cpu as memory
from kernels.window import Window

# Windows that a thread takes at once
WINDOWS = 64


class _ChannelGroup(NamedTuple):
    """Some channels of lists, and how far a row of a window goes."""

    channels: int
    first: int
    count: int
    width: int


def forward(y, argmax, x, rows, order, window, activation):
    """Fill ``y`` and ``argmax``: see ``kernels.listed_max_pooling.cpu``.

    Args:
        order: P, in which the windows are taken.
        window, activation: ``Window``; what the maxima go through, ``Numbered``.
    """
    (height, width), (cells, channels, *_) = window.kernel, x.shape
    of_channels, starts = channel_groups(channels, x.itemsize), cells - width + 1
    largest = max(count for _, count in of_channels)
    all_values = memory.empty((starts * largest,), x.dtype)
    all_numbers = memory.empty((starts * largest,), argmax_dtype(Window((1, width))))
    down = Joins.of([[*range(height)]], [[*range(0, window.cells, width)]])
    outputs = y.reshape(-1), argmax.reshape(-1)
    for first, count in of_channels:
        values, numbers = all_values[: starts * count], all_numbers[: starts * count]
        of = _ChannelGroup(channels, first, count, width)
        along, elements = Joins.of_levels(width, count, 1), thread_numbers(window, count)
        shared = along, of, elements, queue(), numba.get_num_threads()
        _join_rows(values, numbers, x.reshape(-1), *shared, work=ELEMENT_NS * cells * count * width)
        work = (ELEMENT_NS * height + activation.cost) * len(rows) * count
        _join_windows(*outputs, values, numbers, rows, order, down, of, activation, work=work)


@compiled_parallel
def _join_rows(values, numbers, source, along, of, elements, items, threads):
    starts, beyond = len(values) // of.count, (of.width - 1) * of.count
    for _ in prange(threads):
        cells, maxima = aligned(elements, source.dtype), aligned(elements, source.dtype)
        of_cells = aligned(elements, numbers.dtype)
        item = take(items)
        while item * ROWS < starts:
            begin = item * ROWS
            count = min(ROWS, starts - begin)
            for cell in range(count + of.width - 1):
                at = (begin + cell) * of.channels + of.first
                copy(cells, cell * of.count, source, at, of.count)
            at, size = begin * of.count, count * of.count
            maxima_of_row(maxima, of_cells, 0, cells, 0, along, size, beyond)
            values[at : at + size] = maxima[:size]
            numbers[at : at + size] = of_cells[:size]
            item = take(items)


@inlined
def _places(rows, p, listed, channels):
    """Where the maxima of a window's rows lie; ``listed`` says which rows, as ``entries``."""
    a, b, c, d, e, f, g, h, i = listed
    return (
        *(rows[p, a] * channels, rows[p, b] * channels, rows[p, c] * channels),
        *(rows[p, d] * channels, rows[p, e] * channels, rows[p, f] * channels),
        *(rows[p, g] * channels, rows[p, h] * channels, rows[p, i] * channels),
    )


@compiled_parallel
def _join_windows(y, argmax, values, numbers, rows, order, down, of, activation):
    for part in prange(-(-len(rows) // WINDOWS)):
        listed, cells = entries(down.places, 0), entries(down.cells, 0)
        for place in range(part * WINDOWS, min((part + 1) * WINDOWS, len(rows))):
            p = order[place]
            to, places = p * of.channels + of.first, _places(rows, p, listed, of.count)
            join_parts(y, argmax, to, values, numbers, down.parts[0], places, cells, of.count)
            if activation.number != NONE:
                activate(y[to : to + of.count], activation)
