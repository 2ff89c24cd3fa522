"""Any stride on the host: tiles with channels along the lanes, one gather over tables of taps.

A tile takes the next pixels of a region in the order (image, row, column), wherever they lie: far
apart in a strided layer, in neighbouring images of a batch where a patch net's maps are 1 x 1.
"""

from functools import lru_cache

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.host import simd
from kernels.host.compilation import compiled, compiled_parallel
from kernels.host.simd import COLUMNS
from kernels.host.work_sharing import queue, take

# Items that a region is split into, at least, where it has enough tiles. Arrays handed to compiled
# code are counted, by all threads in one place: the fewer items, the better
ITEMS = 64


def correlate(out, source, weights, kernel, start, rows, columns, activation):
    """Fill ``out``, N x K x H x W, from ``source``, N x C x h x w.

    Args:
        weights: packed in groups of ``simd.lanes()``.
        kernel: (kh, kw).
        start: K, what each channel's sums start from.
        rows, columns: ``Taps`` of both axes.
        activation: what the sums go through, ``Numbered`` (see ``kernels.activation.cpu``).
    """
    lanes = simd.lanes(out.itemsize)
    _correlate(
        out.reshape(-1),
        out.shape,
        source.reshape(-1),
        source.shape,
        weights,
        kernel,
        np.append(start, np.zeros(simd.MAX_VECTORS * lanes, out.dtype)),
        *_shares(*out.shape[:2], rows, columns, lanes),
        (rows.start, rows.count, rows.taps, rows.entry, rows.source),
        (columns.start, columns.count, columns.taps, columns.entry, columns.source),
        (rows.step, columns.step),
        (rows.pitch, columns.pitch),
        lanes,
        activation,
        queue(),
        numba.get_num_threads(),
    )


@lru_cache(1024)
def _shares(batch, filters, rows, columns, lanes):
    """How the work is shared out: blocks (first vector, vectors) of channels, regions (segment of
    rows, segment of columns, tiles of one item), and the items up to the end of each region."""
    blocks, regions, items = simd.blocks(-(-filters // lanes)), [], []
    for r, s in np.ndindex(len(rows.count), len(columns.count)):
        tiles = -(-batch * int(rows.count[r]) * int(columns.count[s]) // COLUMNS)
        at_once = max(1, tiles // ITEMS)
        regions.append((r, s, at_once))
        items.append(-(-tiles // at_once) * len(blocks))
    return np.array(blocks), np.array(regions), np.cumsum(items)


def cost(filters, pixels, inside, lanes):
    """Steps' time for one tap of ``pixels``, comparable with ``cpu_rows.cost``.

    Taps that lie outside, where ``inside`` is less than 1, cost no steps; the small regions that
    they leave cost a little more.
    """
    vectors = [v for _, v in simd.blocks(-(-filters // lanes))]
    regions = 2 if inside < 1 else 0
    step = sum(max(v * COLUMNS, v + 2 * COLUMNS + regions) for v in vectors)
    return step * -(-pixels // COLUMNS)


@compiled
def _places(to, at, place, left, region, out_pitches, source_pitches):
    """Where the next pixels lie, from ``place`` (image, row, column) on; with fewer than a tile
    ``left``, the last is repeated. Returns the place behind them."""
    n, y, x = place
    for p in range(len(to)):
        to[p] = n * out_pitches[0] + y * out_pitches[1] + x * out_pitches[2]
        at[p] = n * source_pitches[0] + y * source_pitches[1] + x * source_pitches[2]
        if p + 1 < left:
            x += 1
            if x == region[1]:
                y, x = y + 1, 0
            if y == region[0]:
                n, y = n + 1, 0
    return n, y, x


@compiled
def _repeat(numbers, count, times, step):
    """The first ``count`` numbers, ``times`` in a row, each time larger by ``step``."""
    for i in range(count, count * times):
        numbers[i] = numbers[i - count] + step


def _loops(vectors):
    """The innermost loops: ``vectors`` vectors of output channels of some tiles of pixels.

    Where there is an activation, the finished tile goes through it in ``staged``.
    """

    @compiled
    def fill(
        out,
        corner,
        plane,
        filters,
        source,
        weights,
        group,
        start,
        first,
        taps,
        pixels,
        scratch,
        activation,
    ):
        entries, places = taps
        place, count, region, out_pitches, source_pitches = pixels
        to, at, staged = scratch
        last, w = COLUMNS - 1, first * group
        lanes = len(staged) // (simd.MAX_VECTORS * COLUMNS)
        wide = vectors * lanes
        while count > 0:
            place = _places(to, at, place, count, region, out_pitches, source_pitches)
            tile = simd.tile_of_vectors(start, first * lanes, vectors, COLUMNS)
            for t in range(len(places)):
                tile = simd.multiply_add(
                    tile, weights, w + entries[t], group, source, places[t], at
                )
            if activation.number != NONE:
                simd.store_vectors(tile, staged, 0, wide, COLUMNS)
                activate(staged[: COLUMNS * wide], activation)
                tile = simd.tile_of_columns(staged, 0, wide, vectors, COLUMNS)
            begin = corner + first * lanes * plane
            if to[last] - to[0] == last and to[last] > to[last - 1]:
                simd.store_transposed(tile, out, begin + to[0], plane, filters - first * lanes)
            else:
                simd.store_vectors(tile, staged, 0, wide, COLUMNS)
                for k in range(min(wide, filters - first * lanes)):
                    for p in range(COLUMNS):
                        out[begin + to[p] + k * plane] = staged[p * wide + k]
            count -= COLUMNS

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
    activation,
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
        entries, places = np.empty((2, depth * area), np.int64)
        to, at = np.empty((2, COLUMNS), np.int64)
        staged = np.empty(COLUMNS * simd.MAX_VECTORS * lanes, out.dtype)
        region, listed, taps, item = 0, -1, 0, take(work)
        while item < ends[-1]:
            while item >= ends[region]:
                region += 1
            index = item - (ends[region - 1] if region > 0 else 0)
            item = take(work)
            r, s, tiles = regions[region]
            if region != listed:
                listed, taps = region, row_taps[r] * column_taps[s]
                for a in range(row_taps[r]):
                    for b in range(column_taps[s]):
                        tap = a * column_taps[s] + b
                        entries[tap] = (row_entry[r, a] * kernel[1] + column_entry[s, b]) * lanes
                        places[tap] = row_source[r, a] * source_width + column_source[s, b]
                _repeat(entries, taps, depth, area * lanes)
                _repeat(places, taps, depth, source_plane)
            size = (row_count[r], column_count[s])
            first, v = blocks[index % len(blocks)]
            begin = index // len(blocks) * tiles * COLUMNS
            end = min(begin + tiles * COLUMNS, batch * size[0] * size[1])
            place = (begin // (size[0] * size[1]), begin // size[1] % size[0], begin % size[1])
            _fill(
                v,
                out,
                row_start[r] * width + column_start[s],
                plane,
                filters,
                source,
                weights,
                depth * area * lanes,
                start,
                first,
                (entries[: depth * taps], places[: depth * taps]),
                (place, end - begin, size, out_pitches, source_pitches),
                (to, at, staged),
                activation,
            )
