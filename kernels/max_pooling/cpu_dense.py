"""Max pooling of stride 1 on the host: maxima of maxima, on vectors of neighbouring outputs.

A small window's cells are joined at once. Of a large one, the maximum over a row is taken once for
all windows that share the row, and that over a few neighbours once for all that contain them
(``cpu_joins.py``), for the columns of a window first, then for its rows.

Rows are taken in order, as memory is read fastest, and rows of maxima lie in rings, as many as the
next level still needs.
"""

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.host.buffers import aligned
from kernels.host.compilation import compiled_parallel, inlined, inner
from kernels.host.threads import ELEMENT_NS
from kernels.host.vectors import lanes_of
from kernels.host.work_sharing import queue, take
from kernels.max_pooling.cpu_joins import Joins, entries, join_parts, maxima_of_row, moved
from kernels.max_pooling.cpu_workspace import at_once, bands, row_elements, thread_rows


class _BandSizes(NamedTuple):
    """Sizes of the maps, the window and the work."""

    height: int
    width: int
    input_height: int
    input_width: int
    before: int  # rows of the input that an item takes before its first row of outputs is complete
    bands: int  # of a map, each an item of work
    band: int  # rows of outputs of one, at most
    items: int
    row_elements: int  # numbers of a row of a ring
    thread_elements: int  # 0 where all cells are joined at once


class _Maxima(NamedTuple):
    """Maxima, and the numbers of their cells, or None where these are not wanted."""

    values: np.ndarray
    numbers: np.ndarray | None


def forward(y, argmax, x, window, activation):
    """Fill ``y``, and ``argmax`` unless it is None, for a ``window`` of stride 1.

    Args:
        activation: what the maxima go through, ``Numbered`` (see ``kernels.activation.cpu``).
    """
    sizes, row, column = _plan(y.shape, x.shape, window, x.itemsize)
    work = ELEMENT_NS * x.size * sum(window.kernel) + activation.cost * y.size
    shared = row, column, sizes, activation, queue(), numba.get_num_threads()
    y, x = y.reshape(-1), x.reshape(-1)
    if argmax is None:
        _forward(y, x, *shared, work=work)
    else:
        number = np.empty(0, f"i{x.itemsize}")
        _forward_with_argmax((y, argmax.reshape(-1)), x, number, *shared, work=work)


@lru_cache(1024)
def _plan(out, source, window, itemsize):
    """(``_BandSizes``, ``Joins`` of a row's cells, of a column's)."""
    (batch, channels, height, width), (*_, input_height, input_width) = out, source
    (rows, columns), (down, across) = window.kernel, window.dilation
    row = Joins.of_levels(columns, across, 1)
    column = Joins.of_levels(rows, down, columns)
    elements, before, together = 0, (rows - 1) * down, at_once(window, width, itemsize)
    if together:
        places = [i * down * input_width + j * across for i in range(rows) for j in range(columns)]
        row, before = Joins.of([places], [list(range(window.cells))]), 0
    else:
        elements = row_elements(input_width, itemsize)
    of_a_map = bands(batch * channels, height, window)
    sizes = _BandSizes(
        *(height, width, input_height, input_width, before),
        bands=of_a_map,
        band=-(-height // of_a_map),
        items=batch * channels * of_a_map,
        row_elements=elements,
        thread_elements=elements * thread_rows(window),
    )
    return sizes, row, column


@inlined
def _wrapped(row, rows):
    return row - rows if row >= rows else row


@inlined
def _rows_of_ring(ring, pitch, oldest, rows, offsets):
    a, b, c, d, e, f, g, h, i = moved(oldest, offsets)
    return (
        ring + _wrapped(a, rows) * pitch,
        ring + _wrapped(b, rows) * pitch,
        ring + _wrapped(c, rows) * pitch,
        ring + _wrapped(d, rows) * pitch,
        ring + _wrapped(e, rows) * pitch,
        ring + _wrapped(f, rows) * pitch,
        ring + _wrapped(g, rows) * pitch,
        ring + _wrapped(h, rows) * pitch,
        ring + _wrapped(i, rows) * pitch,
    )


@inlined
def _copy(target, to, source, at, count):
    """``target[to : to + count] = source[at : at + count]``, unless there is no target."""
    if target is not None:
        for o in range(count):
            target[to + o] = source[at + o]


@inlined
def _maxima_of_rows(outputs, out, rings, joins, newest, row, sizes):
    """Take along a row of an item, which lies in the first ring; where windows end there, fill the
    row of the outputs that begins at ``out``."""
    (y, argmax), (values, numbers) = outputs, rings
    lanes, pitch, levels, ring = lanes_of(values), sizes.row_elements, len(joins.parts), 0
    whole = -(-sizes.width // lanes) * lanes
    for q in range(levels):
        offsets, cells = entries(joins.places, q), entries(joins.cells, q)
        parts, rows = joins.parts[q], offsets[-1] + 1
        row -= offsets[-1]
        if row < 0:
            return
        places = _rows_of_ring(ring, pitch, _wrapped(newest[q] + 1, rows), rows, offsets)
        ring += rows * pitch
        if q < levels - 1:
            newest[q + 1] = _wrapped(newest[q + 1] + 1, joins.places[q + 1, -1] + 1)
            to = ring + newest[q + 1] * pitch
            join_parts(values, numbers, to, values, numbers, parts, places, cells, whole)
        elif sizes.width >= lanes:
            join_parts(y, argmax, out, values, numbers, parts, places, cells, sizes.width)
        else:
            join_parts(values, numbers, ring, values, numbers, parts, places, cells, whole)
            _copy(y, out, values, ring, sizes.width)
            _copy(argmax, out, numbers, ring, sizes.width)


@inner
def _band(outputs, x, rings, across, down, sizes, activation, item):
    """An item of work: some rows of a map of outputs."""
    (y, argmax), (values, numbers) = outputs, rings
    plane, band = divmod(item, sizes.bands)
    first = band * sizes.band
    end = min(first + sizes.band, sizes.height)
    at = (plane * sizes.input_height + first) * sizes.input_width
    out = (plane * sizes.height + first) * sizes.width
    # Behind all rings: a row for the outputs of a narrow map, and one for its inputs
    staged = sizes.thread_elements - sizes.row_elements
    newest, beyond = np.full(len(down.parts), -1), sizes.input_width - sizes.width
    for row in range(end - first + sizes.before if first < end else 0):
        if sizes.thread_elements == 0:
            places, cells = moved(at, entries(across.places, 0)), entries(across.cells, 0)
            join_parts(y, argmax, out, x, None, across.parts[0], places, cells, sizes.width)
        else:
            newest[0] = _wrapped(newest[0] + 1, down.places[0, -1] + 1)
            to = newest[0] * sizes.row_elements
            if sizes.width >= lanes_of(x):
                maxima_of_row(values, numbers, to, x, at, across, sizes.width, beyond)
            else:
                _copy(values, staged, x, at, sizes.input_width)
                maxima_of_row(*(values, numbers, to, values, staged, across, sizes.width, beyond))
            _maxima_of_rows(outputs, out, rings, down, newest, row, sizes)
        at += sizes.input_width
        if row >= sizes.before:
            if activation.number != NONE:
                activate(y[out : out + sizes.width], activation)
            out += sizes.width


@compiled_parallel
def _forward(y, x, across, down, sizes, activation, items, threads):
    for _ in prange(threads):
        outputs, rings = _Maxima(y, None), _Maxima(aligned(sizes.thread_elements, x.dtype), None)
        item = take(items)
        while item < sizes.items:
            _band(outputs, x, rings, across, down, sizes, activation, item)
            item = take(items)


@compiled_parallel
def _forward_with_argmax(outputs, x, number, across, down, sizes, activation, items, threads):
    """
    Args:
        outputs: (y, argmax), flat.
        number: an array of the dtype that the numbers of cells have in rings.
    """
    for _ in prange(threads):
        values = aligned(sizes.thread_elements, x.dtype)
        rings = _Maxima(values, aligned(sizes.thread_elements, number.dtype))
        item = take(items)
        while item < sizes.items:
            _band(outputs, x, rings, across, down, sizes, activation, item)
            item = take(items)
