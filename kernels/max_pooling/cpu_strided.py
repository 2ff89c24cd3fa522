"""Max pooling with a stride on the host: cell by cell, on vectors of neighbouring windows.

Columns that lie a stride apart are first brought together: columns 0, s, 2s ... of a map, then 1,
s + 1 ... and so on. In such a part of a map, cell (i, j) of neighbouring windows is a run of
numbers. Maxima and their cells stay in registers until a window is done.

An item of work is a band of a map, or some small maps. Vectors go along a row of windows, or
through the whole item in one run where its rows are too short; what lies between the windows is
thrown away.
"""

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.host.buffers import aligned
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.simd import copy
from kernels.host.threads import ELEMENT_NS
from kernels.host.vectors import first, lanes_of, larger, store
from kernels.host.work_sharing import queue, take
from kernels.max_pooling.cpu_workspace import strided_item


class _PartSizes(NamedTuple):
    """Sizes of the maps, the work, and the parts of a map that are brought together."""

    planes: int
    height: int
    width: int
    plane: int  # numbers of an input map
    band_step: int  # from the first number of a band to the next one's
    maps: int  # of an item
    bands: int  # of a map
    rows: int  # of a band
    read: int  # numbers that a band reads
    parts: int  # of a map
    map_elements: int  # from one map of an item to the next in a part
    part_elements: int
    row_elements: int  # from one row of windows to the next
    step: int  # from one window to the next
    in_runs: bool  # whether vectors go along each row


def forward(y, argmax, x, window, activation):
    """Fill ``y``, and ``argmax`` unless it is None.

    Args:
        activation: what the maxima go through, ``Numbered`` (see ``kernels.activation.cpu``).
    """
    sizes, places = _plan(y.shape, x.shape, window, x.itemsize)
    work = y.size * (ELEMENT_NS * window.cells + activation.cost)
    shared = x.reshape(-1), places, sizes, activation, queue(), numba.get_num_threads()
    if argmax is None:
        _forward(y.reshape(-1), *shared, work=work)
    else:
        _forward_with_argmax(y.reshape(-1), argmax.reshape(-1), *shared, work=work)


@lru_cache(1024)
def _plan(out, source, window, itemsize):
    """(``_PartSizes``, where the cells of the first window lie)."""
    (batch, channels, height, width), (h, w) = out, source[2:]
    item = strided_item(window, (batch * channels, height, width), w, itemsize)
    (sy, _), (dy, dx) = window.stride, window.dilation
    (i, j), parts = np.indices(window.kernel), item.parts
    offsets = (i * dy * w + j * dx).ravel()
    sizes = _PartSizes(
        *(batch * channels, height, width, h * w, item.rows * sy * w),
        *(item.maps, -(-height // item.rows), item.rows, item.read, parts),
        *(item.map_elements, item.part_elements, item.row_elements, item.step, item.in_runs),
    )
    return sizes, offsets % parts * item.part_elements + offsets // parts


@inner
def _bring_together(together, to, part_elements, parts, x, at, count):
    """Copy ``count`` numbers from ``x[at]`` on: number p to place p // parts of part p % parts."""
    if parts == 2:  # a constant stride becomes vector code
        half = count // 2
        even, odd, pairs = together[to:], together[to + part_elements :], x[at:]
        for p in range(half):
            even[p] = pairs[2 * p]
            odd[p] = pairs[2 * p + 1]
        if count % 2 == 1:
            even[half] = pairs[count - 1]
        return
    for part in range(parts):
        target, source = together[to + part * part_elements :], x[at + part :]
        for p in range((count - part + parts - 1) // parts):
            target[p] = source[p * parts]


@inner
def _fill_run(values, numbers, to, together, begin, length, places):
    """The maxima of ``length`` neighbouring windows, whose first cells lie from ``begin`` on in
    their part, and the numbers of their cells; the last vector goes beyond them."""
    for o in range(0, length, lanes_of(values)):
        best = first(together, places[0] + begin + o, False)
        for cell in range(1, len(places)):
            best = larger(best, together, places[cell] + begin + o, cell)
        store(values, to + o, best[0])
        if numbers is not None:
            store(numbers, to + o, best[1])


@inner
def _take_rows(out, to, results, maps, rows, sizes):
    """Copy an item's results to where its outputs begin."""
    if sizes.in_runs:
        copy(out, to, results, 0, maps * rows * sizes.width)
        return
    for plane in range(maps):
        for row in range(rows):
            at = plane * sizes.map_elements + row * sizes.row_elements
            for o in range(sizes.width):
                out[to + o] = results[at + o * sizes.step]
            to += sizes.width


@inner
def _take_items(y, argmax, x, values, numbers, places, sizes, activation, items):
    """A thread's work."""
    together = aligned(sizes.parts * sizes.part_elements, x.dtype)
    count = -(-sizes.planes // sizes.maps) * sizes.bands
    item = take(items)
    while item < count:
        plane, band = item // sizes.bands * sizes.maps, item % sizes.bands
        maps, row = min(sizes.maps, sizes.planes - plane), band * sizes.rows
        rows, at = min(sizes.rows, sizes.height - row), band * sizes.band_step
        for m in range(maps):
            begin, to = (plane + m) * sizes.plane + at, m * sizes.map_elements
            read = min(sizes.read, sizes.plane - at)
            _bring_together(together, to, sizes.part_elements, sizes.parts, x, begin, read)
        if sizes.in_runs:
            # What a row's last vector writes beyond the row, the next row overwrites
            for r in range(maps * rows):
                begin = r // rows * sizes.map_elements + r % rows * sizes.row_elements
                to = r * sizes.width
                _fill_run(values, numbers, to, together, begin, sizes.width, places)
        else:
            length = (maps - 1) * sizes.map_elements + (rows - 1) * sizes.row_elements
            length += (sizes.width - 1) * sizes.step + 1
            _fill_run(values, numbers, 0, together, 0, length, places)
        out = (plane * sizes.height + row) * sizes.width
        _take_rows(y, out, values, maps, rows, sizes)
        if argmax is not None:
            _take_rows(argmax, out, numbers, maps, rows, sizes)
        if activation.number != NONE:
            activate(y[out : out + maps * rows * sizes.width], activation)
        item = take(items)


@compiled_parallel
def _forward(y, x, places, sizes, activation, items, threads):
    for _ in prange(threads):
        values = aligned(sizes.part_elements, x.dtype)
        _take_items(y, None, x, values, None, places, sizes, activation, items)


@compiled_parallel
def _forward_with_argmax(y, argmax, x, places, sizes, activation, items, threads):
    for _ in prange(threads):
        values = aligned(sizes.part_elements, x.dtype)
        numbers = aligned(sizes.part_elements, argmax.dtype)
        _take_items(y, argmax, x, values, numbers, places, sizes, activation, items)
