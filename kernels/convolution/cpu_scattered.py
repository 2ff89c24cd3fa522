"""The gather of ``cpu_correlation.py`` for pixels anywhere: tiles with channels along the lanes.

A tile takes the next pixels of a region in the order (image, row, column), wherever they lie: far
apart in a strided layer, in neighbouring images of a batch where a patch net's maps are 1 x 1.
"""

import numba
import numpy as np
from numba import prange

from kernels import simd
from kernels.compilation import compiled, compiled_parallel
from kernels.convolution.cpu_taps import packed
from kernels.work_sharing import queue, take

# Items that a region is split into, at least, where it has enough tiles; and tiles of one item
ITEMS = 64
TILES = 8


def correlate(out, source, weights, start, rows, columns, regions):
    """Fill the ``regions`` of ``out``; arguments as in ``cpu_correlation.correlate``."""
    batch, filters = out.shape[:2]
    lanes, together = simd.lanes(out.itemsize), simd.columns()
    channels = np.array(blocks(-(-filters // lanes)))
    table, items = [], []
    for r, s in regions:
        tiles = -(-batch * int(rows.count[r]) * int(columns.count[s]) // together)
        at_once = min(max(1, tiles // ITEMS), TILES)
        table.append((r, s, at_once))
        items.append(-(-tiles // at_once) * len(channels))
    _correlate(
        out.reshape(-1),
        out.shape,
        source.reshape(-1),
        source.shape,
        packed(weights, lanes),
        weights.shape[2:],
        np.append(start, np.zeros(simd.MAX_VECTORS * lanes, out.dtype)),
        channels,
        np.array(table),
        np.cumsum(items),
        (rows.start, rows.count, rows.taps, rows.entry, rows.source),
        (columns.start, columns.count, columns.taps, columns.entry, columns.source),
        (rows.step, columns.step),
        (rows.pitch, columns.pitch),
        lanes,
        together,
        queue(),
        numba.get_num_threads(),
    )


def blocks(vectors):
    """(first vector, vectors) of the tiles that share ``vectors`` of channels: 3s, but 2 + 2."""
    found, first = [], 0
    while first < vectors:
        left = vectors - first
        found.append((first, 2 if left == 4 else min(left, simd.MAX_VECTORS)))
        first += found[-1][1]
    return found


def _loops(vectors):
    """The innermost loops: ``vectors`` vectors of output channels of one tile of pixels."""

    @compiled
    def fill(out, to, plane, filters, source, at, channels, weights, start, first, taps, staged):
        entries, places = taps
        depth, pitch, source_plane = channels
        lanes = staged.shape[1] // simd.MAX_VECTORS
        tile = simd.tile_of_vectors(start, first * lanes, vectors)
        w, x = first * depth * pitch, 0
        for _ in range(depth):
            for t in range(len(places)):
                tile = simd.multiply_add(
                    tile, weights, w + entries[t], depth * pitch, source, x + places[t], at
                )
            w += pitch
            x += source_plane
        last = len(at) - 1
        if to[last] - to[0] == last and to[last] > to[last - 1]:
            corner = to[0] + first * lanes * plane
            simd.store_transposed(tile, out, corner, plane, filters - first * lanes)
        else:
            simd.store_vectors(tile, staged.reshape(-1), 0, staged.shape[1], len(at))
            for k in range(min(vectors * lanes, filters - first * lanes)):
                for p in range(len(at)):
                    out[to[p] + (first * lanes + k) * plane] = staged[p, k]

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
def _places(to, at, pixel, end, region, out_pitches, source_pitches):
    """Where the pixels of a tile lie; beyond the last, it is repeated."""
    rows, columns = region
    for p in range(len(to)):
        q = min(pixel + p, end - 1)
        n, y, x = q // (rows * columns), q // columns % rows, q % columns
        to[p] = n * out_pitches[0] + y * out_pitches[1] + x * out_pitches[2]
        at[p] = n * source_pitches[0] + y * source_pitches[1] + x * source_pitches[2]


@compiled_parallel
def _correlate(
    out,
    out_shape,
    source,
    source_shape,
    weights,
    kernel,
    start,
    blocks,
    regions,
    ends,
    row_segments,
    column_segments,
    steps,
    pitches,
    lanes,
    together,
    work,
    threads,
):
    batch, filters, height, width = out_shape
    _, depth, source_height, source_width = source_shape
    plane, source_plane = height * width, source_height * source_width
    area = kernel[0] * kernel[1]
    row_start, row_count, row_taps, row_entry, row_source = row_segments
    column_start, column_count, column_taps, column_entry, column_source = column_segments
    out_pitches = (filters * plane, steps[0] * width, steps[1])
    source_pitches = (depth * source_plane, pitches[0] * source_width, pitches[1])
    for _ in prange(threads):
        entries, places = np.empty((2, area), np.int64)
        to, at = np.empty((2, together), np.int64)
        staged = np.empty((together, simd.MAX_VECTORS * lanes), out.dtype)
        region, item = 0, take(work)
        while item < ends[-1]:
            while item >= ends[region]:
                region += 1
            index = item - (ends[region - 1] if region > 0 else 0)
            item = take(work)
            r, s, tiles = regions[region]
            taps = 0
            for a in range(row_taps[r]):
                for b in range(column_taps[s]):
                    entries[taps] = (row_entry[r, a] * kernel[1] + column_entry[s, b]) * lanes
                    places[taps] = row_source[r, a] * source_width + column_source[s, b]
                    taps += 1
            size = (row_count[r], column_count[s])
            first, v = blocks[index % len(blocks)]
            begin = index // len(blocks) * tiles * together
            end = min(begin + tiles * together, batch * size[0] * size[1])
            for pixel in range(begin, end, together):
                _places(to, at, pixel, end, size, out_pitches, source_pitches)
                to += row_start[r] * width + column_start[s]
                _fill(
                    v,
                    out,
                    to,
                    plane,
                    filters,
                    source,
                    at,
                    (depth, area * lanes, source_plane),
                    weights,
                    start,
                    first,
                    (entries[:taps], places[:taps]),
                    staged,
                )
