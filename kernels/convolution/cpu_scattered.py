"""Convolution of any stride on the host: tiles with output channels in the lanes of a vector.

A tile takes the next pixels of a region in the order (image, row, column), wherever they lie: far
apart in a strided layer, or in different images of a batch where a patch net's maps are 1 x 1. Both
passes gather: tables say which taps each pixel reads, and where (``cpu_taps.py``).
"""

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.host import simd
from kernels.host.choosing import by_vectors
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.simd import COLUMNS
from kernels.host.threads import MULTIPLY_ADD
from kernels.host.work_sharing import queue, take

# Least number of items that a region is split into, if it has enough tiles. Few are better: with
# every item, all threads count references to the same arrays
ITEMS = 64


class _Maps(NamedTuple):
    """The flat arrays, and distances in them: from image to image, and between neighbouring pixels
    of a region."""

    out: np.ndarray
    source: np.ndarray
    batch: int
    plane: int  # H * W
    width: int
    source_plane: int  # h * w
    source_width: int
    out_image: int
    out_row: int
    out_column: int
    source_image: int
    source_row: int
    source_column: int


class _Filters(NamedTuple):
    """The packed weights, and what the channels' sums start from."""

    weights: np.ndarray
    start: np.ndarray
    count: int  # K
    depth: int  # C
    area: int  # kh * kw
    kernel_width: int  # kw
    lanes: int  # channels of a group


class _Shares(NamedTuple):
    """How the work is shared out."""

    blocks: np.ndarray  # of channels: first vector, vectors
    regions: np.ndarray  # segment of rows, segment of columns, tiles of one item
    ends: np.ndarray  # items up to the end of each region


class _Pixels(NamedTuple):
    """Pixels of a region of height x width, in order."""

    image: int  # of the first pixel
    row: int
    column: int
    count: int
    height: int
    width: int


class _Scratch(NamedTuple):
    """A thread's workspace for a tile: where its pixels lie, and room for its sums."""

    to: np.ndarray
    at: np.ndarray
    sums: np.ndarray


def correlate(out, source, weights, kernel, start, rows, columns, activation):
    """Fill ``out``, N x K x H x W, from ``source``, N x C x h x w.

    Args:
        weights: packed in groups of ``simd.lanes()``.
        kernel: (kh, kw).
        start: K, what each channel's sums start from.
        rows, columns: ``Taps`` of both axes.
        activation: what the sums go through, ``Numbered`` (see ``kernels.activation.cpu``).
    """
    (batch, filters, height, width), (_, depth, h, w) = out.shape, source.shape
    lanes = simd.lanes(out.itemsize)
    start = np.append(start, np.zeros(simd.MAX_VECTORS * lanes, out.dtype))
    maps = _Maps(
        out=out.reshape(-1),
        source=source.reshape(-1),
        batch=batch,
        plane=height * width,
        width=width,
        source_plane=h * w,
        source_width=w,
        out_image=filters * height * width,
        out_row=rows.step * width,
        out_column=columns.step,
        source_image=depth * h * w,
        source_row=rows.pitch * w,
        source_column=columns.pitch,
    )
    counts = tuple(rows.count.tolist()), tuple(columns.count.tolist())
    shares = _shares(batch, filters, *counts, lanes)
    packed = _Filters(weights, start, filters, depth, kernel[0] * kernel[1], kernel[1], lanes)
    work = MULTIPLY_ADD * batch * maps.plane * weights.size
    threads = numba.get_num_threads()
    _correlate(maps, packed, shares, rows, columns, activation, queue(), threads, work=work)


@lru_cache(1024)
def _shares(batch, filters, row_counts, column_counts, lanes):
    """The shares of a convolution whose segments have so many rows and columns."""
    blocks, regions, items = simd.blocks(-(-filters // lanes)), [], []
    for r, row_count in enumerate(row_counts):
        for s, column_count in enumerate(column_counts):
            tiles = -(-batch * row_count * column_count // COLUMNS)
            at_once = max(1, tiles // ITEMS)
            regions.append((r, s, at_once))
            items.append(-(-tiles // at_once) * len(blocks))
    return _Shares(np.array(blocks), np.array(regions), np.cumsum(items))


def cost(filters, pixels, inside, lanes):
    """Time of one tap over ``pixels``, comparable with ``cpu_rows.cost``.

    Taps outside the source take no time. Where there are some (``inside`` is less than 1), regions
    are smaller, and each step takes a little longer.
    """
    vectors = [v for _, v in simd.blocks(-(-filters // lanes))]
    regions = 2 if inside < 1 else 0
    step = sum(max(v * COLUMNS, v + 2 * COLUMNS + regions) for v in vectors)
    return step * -(-pixels // COLUMNS)


@inner
def _locate(scratch, place, left, pixels, maps):
    """List where the next pixels lie, from ``place`` (image, row, column) on; with fewer than a
    tile ``left``, the last is repeated. Returns the place behind them."""
    n, y, x = place
    for p in range(COLUMNS):
        scratch.to[p] = n * maps.out_image + y * maps.out_row + x * maps.out_column
        scratch.at[p] = n * maps.source_image + y * maps.source_row + x * maps.source_column
        if p + 1 < left:
            x += 1
            if x == pixels.width:
                y, x = y + 1, 0
            if y == pixels.height:
                n, y = n + 1, 0
    return n, y, x


@inner
def _list_taps(entries, places, maps, filters, rows, columns, r, s):
    """List the taps that all outputs of a region (segments ``r``, ``s``) read: where they lie in a
    group of weights, and in the source from a pixel's corner. Returns their number."""
    taps = rows.taps[r] * columns.taps[s]
    for a in range(rows.taps[r]):
        for b in range(columns.taps[s]):
            tap = a * columns.taps[s] + b
            entry = rows.entry[r, a] * filters.kernel_width + columns.entry[s, b]
            entries[tap] = entry * filters.lanes
            places[tap] = rows.source[r, a] * maps.source_width + columns.source[s, b]
    for tap in range(taps, taps * filters.depth):
        entries[tap] = entries[tap - taps] + filters.area * filters.lanes
        places[tap] = places[tap - taps] + maps.source_plane
    return taps * filters.depth


def _loops(vectors):
    """The innermost loops: ``vectors`` vectors of output channels of some tiles of pixels.

    Where there is an activation, the finished tile goes through it in the scratch.
    """

    @inner
    def fill(maps, corner, filters, first, entries, places, pixels, scratch, activation):
        place, count = (pixels.image, pixels.row, pixels.column), pixels.count
        to, staged, lanes, plane = scratch.to, scratch.sums, filters.lanes, maps.plane
        group = filters.depth * filters.area * lanes
        last, w, wide = COLUMNS - 1, first * group, vectors * lanes
        while count > 0:
            place = _locate(scratch, place, count, pixels, maps)
            tile = simd.tile_of_vectors(filters.start, first * lanes, vectors, COLUMNS)
            for t in range(len(places)):
                tile = simd.multiply_add(
                    tile,
                    filters.weights,
                    w + entries[t],
                    group,
                    maps.source,
                    places[t],
                    scratch.at,
                )
            if activation.number != NONE:
                simd.store_vectors(tile, staged, 0, wide, COLUMNS)
                activate(staged[: COLUMNS * wide], activation)
                tile = simd.tile_of_columns(staged, 0, wide, vectors, COLUMNS)
            begin, channels = corner + first * lanes * plane, filters.count - first * lanes
            if to[last] - to[0] == last and to[last] > to[last - 1]:
                simd.store_transposed(tile, maps.out, begin + to[0], plane, channels)
            else:
                simd.store_vectors(tile, staged, 0, wide, COLUMNS)
                for k in range(min(wide, channels)):
                    for p in range(COLUMNS):
                        maps.out[begin + to[p] + k * plane] = staged[p * wide + k]
            count -= COLUMNS

    return fill


_fill = by_vectors([_loops(v) for v in range(1, simd.MAX_VECTORS + 1)])


@compiled_parallel
def _correlate(maps, filters, shares, rows, columns, activation, work, threads):
    most_taps = filters.depth * filters.area
    for _ in prange(threads):
        entries, places = np.empty((2, most_taps), np.int64)
        to, at = np.empty((2, COLUMNS), np.int64)
        sums = np.empty(COLUMNS * simd.MAX_VECTORS * filters.lanes, maps.out.dtype)
        scratch = _Scratch(to, at, sums)
        region, listed, taps, item = 0, -1, 0, take(work)
        while item < shares.ends[-1]:
            while item >= shares.ends[region]:
                region += 1
            index = item - (shares.ends[region - 1] if region > 0 else 0)
            item = take(work)
            r, s, tiles = shares.regions[region]
            if region != listed:
                taps = _list_taps(entries, places, maps, filters, rows, columns, r, s)
                listed = region
            height, width = rows.count[r], columns.count[s]
            first, v = shares.blocks[index % len(shares.blocks)]
            begin = index // len(shares.blocks) * tiles * COLUMNS
            end = min(begin + tiles * COLUMNS, maps.batch * height * width)
            place = begin // (height * width), begin // width % height, begin % width
            pixels = _Pixels(*place, end - begin, height, width)
            corner = rows.start[r] * maps.width + columns.start[s]
            listed_taps = entries[:taps], places[:taps]
            _fill(v, maps, corner, filters, first, *listed_taps, pixels, scratch, activation)
