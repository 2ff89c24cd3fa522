"""The gather of ``cpu_correlation.py`` for wide rows: tiles with pixels along the lanes.

An item of work is a piece of a few rows, as far apart as the taps are, so that they share most of
what they read. Their source rows are first copied side by side into a panel that fits the
second-level cache: a long run of each row, read once, and no two in the same cache sets, as rows of
maps a power of two apart are. Where a panel cannot hold all input channels, it holds some of them
after the other, and the sums wait in between.
"""

import numba
import numpy as np
from numba import prange

from kernels import simd
from kernels.compilation import compiled, compiled_parallel
from kernels.convolution.cpu_taps import packed
from kernels.work_sharing import queue, take

ROWS = 4
WIDTH = 288
PANEL_BYTES = 256 * 2**10
# Items that the work is split into, at least, where there are enough rows
ITEMS = 32


def correlate(out, source, weights, start, rows, columns, regions):
    """Fill the ``regions`` of ``out``; arguments as in ``cpu_correlation.correlate``."""
    batch = out.shape[0]
    depth, kh, kw = weights.shape[1:]
    lanes, together = simd.lanes(out.itemsize), simd.columns()
    at_once = min(ROWS, max(1, batch * int(rows.count.sum()) // ITEMS)) if kh > 1 else 1
    items, table, taps = [], [], [(0, 0, 0)]
    for number, (r, s) in enumerate(regions):
        first, spacing = len(taps), rows.spacing(r)
        items.append(
            _items(number, batch, rows.count[r], columns.count[s], spacing, at_once, lanes)
        )
        taps += _taps(rows, columns, r, s, kw)
        (top, bottom), (left, right) = rows.reach(r), columns.reach(s)
        height = (bottom - top) // spacing if len(taps) > first else -1
        places = (rows.start[r], columns.start[s], top, left, height, spacing, right - left)
        table.append((*places, first, len(taps)))
    items, table = np.concatenate(items), np.array(table)
    widest = int(items[:, 5].max())
    panel_row = ((widest + int(table[:, 6].max()) + 15) // 16 | 1) * 16
    panel_plane = (int(table[:, 4].max()) + at_once) * panel_row
    parts = -(-depth // max(1, PANEL_BYTES // (max(1, panel_plane) * out.itemsize)))
    _correlate(
        out.reshape(-1),
        out.shape,
        source.reshape(-1),
        source.shape,
        packed(weights, together),
        kh * kw,
        np.append(start, np.zeros(together, out.dtype)),
        items,
        table,
        np.array(taps),
        -(-depth // parts),
        panel_plane,
        (at_once, widest),
        (lanes, together),
        queue(),
        numba.get_num_threads(),
    )


def _items(number, batch, height, width, spacing, at_once, lanes):
    """Rows (region, image, first row, rows, first column, columns) of one region."""
    y = np.arange(height)
    y = y[y // spacing % at_once == 0]
    heights = np.minimum(at_once, -(-(height - y) // spacing))
    pieces = -(-width // WIDTH)
    x = np.arange(pieces) * width // pieces // lanes * lanes
    widths = np.diff(np.append(x, width))
    n, a, b = (index.ravel() for index in np.indices((batch, len(y), pieces)))
    return np.stack([np.full_like(n, number), n, y[a], heights[a], x[b], widths[b]], axis=1)


def _taps(rows, columns, r, s, kw):
    """The taps (entry of the kernel, row and column of the panel) of a region, in order."""
    (top, _), (left, _), spacing = rows.reach(r), columns.reach(s), rows.spacing(r)
    return [
        (i * kw + j, (y - top) // spacing, x - left)
        for i, y in zip(rows.entry[r, : rows.taps[r]], rows.source[r])
        for j, x in zip(columns.entry[s, : columns.taps[s]], columns.source[s])
    ]


def _loops(vectors):
    """The innermost loops: all output channels of ``vectors`` vectors of pixels.

    Sums start from ``start`` or, where input channels went before, from ``sums``.
    """

    @compiled
    def fill(
        out, to, pitch, filters, sums, panel, at, plane, weights, channels, start, taps, tile_shape
    ):
        entries, places = taps
        before, sums_at, sums_pitch = sums
        first_channel, count, depth, area = channels
        lanes, together = tile_shape
        for first in range(0, filters, together):
            if first_channel == 0:
                tile = simd.tile_of_numbers(start, first, vectors)
            else:
                tile = simd.tile_of_columns(
                    before, sums_at + first * sums_pitch, sums_pitch, vectors
                )
            x, w = at, (first * depth + first_channel * together) * area
            for _ in range(count):
                for t in range(len(places)):
                    tile = simd.multiply_add(
                        tile, panel, x + places[t], lanes, weights, w + entries[t], None
                    )
                x += plane
                w += area * together
            simd.store_vectors(tile, out, to + first * pitch, pitch, filters - first)

    return fill


_FILL_1, _FILL_2, _FILL_3 = _loops(1), _loops(2), _loops(3)


@compiled
def _fill(vectors, *place):
    if vectors == 3:
        _FILL_3(*place)
    elif vectors == 2:
        _FILL_2(*place)
    else:
        _FILL_1(*place)


@compiled
def _copy_rows(panel, source, at, channels, plane, rows, row_pitch, wide, width):
    to = 0
    for c in range(channels):
        for row in range(rows):
            begin = at + c * plane + row * row_pitch
            for x in range(width):
                panel[to + x] = source[begin + x]
            to += wide


@compiled_parallel
def _correlate(
    out,
    out_shape,
    source,
    source_shape,
    weights,
    area,
    start,
    items,
    regions,
    taps,
    at_once,
    panel_plane,
    piece,
    tile_shape,
    work,
    threads,
):
    _, filters, height, width = out_shape
    _, depth, source_height, source_width = source_shape
    plane, source_plane = height * width, source_height * source_width
    lanes, together = tile_shape
    sums_pitch = piece[0] * piece[1] if at_once < depth else 0
    channel_groups = -(-filters // together) * together
    for _ in prange(threads):
        panel = np.empty(at_once * panel_plane, out.dtype)
        before, after = np.empty((2, channel_groups * sums_pitch), out.dtype)
        entries, places = np.empty((2, area), np.int64)
        item = take(work)
        while item < len(items):
            region, n, y, rows, x, columns = items[item]
            item = take(work)
            top, left, source_top, source_left, reach, spacing, span, first, end = regions[region]
            wide = ((columns + span + 15) // 16 | 1) * 16
            for t in range(end - first):
                entries[t] = taps[first + t, 0] * together
                places[t] = taps[first + t, 1] * wide + taps[first + t, 2]
            region_taps = (entries[: end - first], places[: end - first])
            to = n * filters * plane + (top + y) * width + left + x
            at = n * depth * source_plane + (source_top + y) * source_width + source_left + x
            panel_rows = reach + rows if end > first else 0
            for c in range(0, depth, at_once):
                count = min(at_once, depth - c)
                _copy_rows(
                    panel,
                    source,
                    at + c * source_plane,
                    count,
                    source_plane,
                    panel_rows,
                    spacing * source_width,
                    wide,
                    columns + span,
                )
                last = c + count == depth
                for row in range(rows):
                    done = 0
                    while done < columns:
                        v = min(simd.MAX_VECTORS, -(-(columns - done) // lanes), columns // lanes)
                        done = min(done, columns - v * lanes)
                        sums_at = row * piece[1] + done
                        _fill(
                            v,
                            out if last else after,
                            to + row * spacing * width + done if last else sums_at,
                            plane if last else sums_pitch,
                            filters,
                            (before, sums_at, sums_pitch),
                            panel,
                            row * wide + done,
                            panel_rows * wide,
                            weights,
                            (c, count, depth, area),
                            start,
                            region_taps,
                            tile_shape,
                        )
                        done += v * lanes
                before, after = after, before
