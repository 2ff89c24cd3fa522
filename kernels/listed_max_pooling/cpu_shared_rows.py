"""Max pooling of listed cells on the host, of large windows that share their rows.

A list is one long row of cells. So the maximum over a row of cells is taken once, wherever one may
begin, for all windows that have it; a window then joins as many of those as it has rows.
"""

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.host.compilation import compiled_parallel, inlined
from kernels.host.threads import CELL
from kernels.host.work_sharing import queue, take
from kernels.listed_max_pooling.cpu_workspace import ROWS, thread_numbers
from kernels.max_pooling.cpu_joins import Joins, entries, join_parts, maxima_of_row
from kernels.memory import cpu as memory

# Windows that a thread takes at once
WINDOWS = 64


def forward(y, argmax, x, rows, order, window, activation):
    """Fill ``y``, and ``argmax`` unless it is None: see ``kernels.listed_max_pooling.cpu``.

    Args:
        order: P, in which the windows are taken.
        window, activation: ``Window``; what the maxima go through, ``Numbered``.
    """
    (height, width), (cells, channels, *_) = window.kernel, x.shape
    values = memory.empty(((cells - width + 1) * channels,), x.dtype)
    numbers = None if argmax is None else memory.empty(values.shape, f"i{x.itemsize}")
    along = Joins.of_levels(width, channels, 1)
    room = thread_numbers(window, channels), (width - 1) * channels, channels
    shared = along, *room, queue(), numba.get_num_threads()
    _join_rows(values, numbers, x.reshape(-1), *shared, work=CELL * x.size * width)
    down = Joins.of([[*range(height)]], [[*range(0, window.cells, width)]])
    outputs = y.reshape(-1), None if argmax is None else argmax.reshape(-1)
    work = (CELL * height + activation.cost) * y.size
    maps = *outputs, values, numbers, rows, order
    _join_windows(*maps, down, channels, activation, work=work)


@compiled_parallel
def _join_rows(values, numbers, source, along, room, beyond, channels, items, threads):
    starts = len(values) // channels
    for _ in prange(threads):
        maxima = np.empty(room, source.dtype)
        item = take(items)
        while item * ROWS < starts:
            at = item * ROWS * channels
            size = min(ROWS * channels, len(values) - at)
            if numbers is None:
                maxima_of_row(maxima, None, 0, source, at, along, size, beyond)
            else:
                cells = np.empty(room, numbers.dtype)
                maxima_of_row(maxima, cells, 0, source, at, along, size, beyond)
                numbers[at : at + size] = cells[:size]
            values[at : at + size] = maxima[:size]
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
def _join_windows(y, argmax, values, numbers, rows, order, down, channels, activation):
    for part in prange(-(-len(rows) // WINDOWS)):
        listed, cells = entries(down.places, 0), entries(down.cells, 0)
        for place in range(part * WINDOWS, min((part + 1) * WINDOWS, len(rows))):
            p = order[place]
            to, places = p * channels, _places(rows, p, listed, channels)
            join_parts(y, argmax, to, values, numbers, down.parts[0], places, cells, channels)
            if activation.number != NONE:
                activate(y[to : to + channels], activation)
