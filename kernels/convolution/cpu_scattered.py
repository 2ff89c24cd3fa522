"""Convolution of any stride on the host: tiles with output channels in the lanes of a vector.

A tile takes the next pixels of a region in the order (image, row, column), wherever they lie: far
apart in a strided layer, or in different images of a batch where a patch net's maps are 1 x 1. Both
passes gather: tables say which taps each pixel reads, and where (``cpu_taps.py``).
"""

from functools import lru_cache
from math import lcm, prod
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.convolution.cpu_weights import starts
from kernels.convolution.cpu_workspace import SCATTERED_COLUMNS, least_items
from kernels.host import simd
from kernels.host.buffers import aligned
from kernels.host.choosing import by_vectors
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.threads import MULTIPLY_ADD_NS
from kernels.host.work_sharing import queue, take

# Pixels that make whole tiles of any shape
_WHOLE = lcm(*SCATTERED_COLUMNS)
_MOST_COLUMNS = max(SCATTERED_COLUMNS)


class _RegionSizes(NamedTuple):
    """Sizes of the maps and the kernel, and distances between neighbouring pixels of a region."""

    batch: int
    filters: int
    depth: int  # C
    plane: int  # H * W
    width: int
    source_plane: int
    source_width: int
    area: int  # of the kernel
    kernel_width: int
    lanes: int
    out_image: int
    out_row: int
    out_column: int
    source_image: int
    source_row: int
    source_column: int


class _WorkItems(NamedTuple):
    """Items of work: a vector group with some pixels of a region each."""

    vector_groups: np.ndarray  # of output channels: first vector, vectors
    regions: np.ndarray  # segment of rows, segment of columns, pixels of one item
    ends: np.ndarray  # items up to the end of each region


class _Pixels(NamedTuple):
    """Pixels of a region of height x width, in order."""

    image: int  # of the first pixel
    row: int
    column: int
    count: int
    height: int
    width: int
    corner: int  # where the region begins in a map of outputs


class _SourceTaps(NamedTuple):
    """Where taps lie in a group of packed weights, and in the source from a pixel's corner."""

    entries: np.ndarray
    places: np.ndarray


class _Scratch(NamedTuple):
    """A thread's workspace for a tile: where its pixels lie, and room for its sums."""

    to: np.ndarray
    at: np.ndarray
    staged: np.ndarray


def correlate(out, source, weights, kernel, bias, taps_of, axes, activation):
    """Fill ``out``, N x K x H x W, from ``source``, N x C x h x w.

    Args:
        weights: packed in groups of ``simd.lanes()``.
        kernel: (kh, kw).
        bias: K, or None.
        taps_of: ``Taps.reading`` or ``Taps.read_by``.
        axes: its arguments, for rows and for columns.
        activation: what the sums go through, ``Numbered`` (see ``kernels.activation.cpu``).
    """
    lanes = simd.lanes(out.itemsize)
    threads = numba.get_num_threads()
    plan = _plan(out.shape, source.shape, kernel, taps_of, axes, lanes, threads)
    start = starts(bias, out.shape[1], simd.MAX_VECTORS * lanes, out.dtype)
    maps, filters = (out.reshape(-1), source.reshape(-1)), (weights, start)
    work = MULTIPLY_ADD_NS * out.size * source.shape[1] * prod(kernel)
    _correlate(maps, filters, *plan, activation, queue(), threads, work=work)


@lru_cache(1024)
def _plan(out, source, kernel, taps_of, axes, lanes, threads):
    """(``_RegionSizes``, ``_WorkItems``, ``Taps`` of rows, ``Taps`` of columns)."""
    (batch, filters, height, width), (_, depth, h, w) = out, source
    rows, columns = (taps_of(*axis) for axis in axes)
    sizes = _RegionSizes(
        batch=batch,
        filters=filters,
        depth=depth,
        plane=height * width,
        width=width,
        source_plane=h * w,
        source_width=w,
        area=kernel[0] * kernel[1],
        kernel_width=kernel[1],
        lanes=lanes,
        out_image=filters * height * width,
        out_row=rows.step * width,
        out_column=columns.step,
        source_image=depth * h * w,
        source_row=rows.pitch * w,
        source_column=columns.pitch,
    )
    return sizes, _work_items(batch, filters, rows, columns, lanes, threads), rows, columns


def _work_items(batch, filters, rows, columns, lanes, threads):
    vector_groups, regions, items = simd.vector_groups(-(-filters // lanes)), [], []
    for r, s in np.ndindex(len(rows.count), len(columns.count)):
        pixels = batch * int(rows.count[r]) * int(columns.count[s])
        at_once = max(1, pixels // (2 * least_items(threads) * _WHOLE)) * _WHOLE
        regions.append((r, s, at_once))
        items.append(-(-pixels // at_once) * len(vector_groups))
    return _WorkItems(np.array(vector_groups), np.array(regions), np.cumsum(items))


@inner
def _locate(scratch, place, columns, left, pixels, sizes):
    """List where the next pixels lie, from ``place`` (image, row, column) on, one for each of the
    ``columns``; with fewer of them ``left``, the last is repeated. Returns the place after them."""
    (n, y, x), (to, at, _) = place, scratch
    for p in range(columns):
        to[p] = n * sizes.out_image + y * sizes.out_row + x * sizes.out_column
        at[p] = n * sizes.source_image + y * sizes.source_row + x * sizes.source_column
        if p + 1 < left:
            x += 1
            if x == pixels.width:
                y, x = y + 1, 0
            if y == pixels.height:
                n, y = n + 1, 0
    return n, y, x


@inner
def _list_taps(taps, sizes, rows, columns, r, s):
    """List the taps that all outputs of a region (segments ``r``, ``s``) read; returns their
    number."""
    (entries, places), (_, _, _, _, row_taps, row_entry, row_source) = taps, rows
    _, _, _, _, column_taps, column_entry, column_source = columns
    count = row_taps[r] * column_taps[s]
    for a in range(row_taps[r]):
        for b in range(column_taps[s]):
            tap = a * column_taps[s] + b
            entry = row_entry[r, a] * sizes.kernel_width + column_entry[s, b]
            entries[tap] = entry * sizes.lanes
            places[tap] = row_source[r, a] * sizes.source_width + column_source[s, b]
    for tap in range(count, count * sizes.depth):
        entries[tap] = entries[tap - count] + sizes.area * sizes.lanes
        places[tap] = places[tap - count] + sizes.source_plane
    return count * sizes.depth


def _loops(vectors):
    """The innermost loops: ``vectors`` vectors of output channels of some tiles of pixels.

    Where there is an activation, the finished tile goes through it in the scratch.
    """
    columns = SCATTERED_COLUMNS[vectors - 1]

    def fill(maps, filters, sizes, first, taps, pixels, scratch, activation):
        (out, source), (weights, start) = maps, filters
        (entries, places), (to, at, staged) = taps, scratch
        lanes, plane, corner = sizes.lanes, sizes.plane, pixels.corner
        place, count = (pixels.image, pixels.row, pixels.column), pixels.count
        group, wide = sizes.depth * sizes.area * lanes, vectors * lanes
        last, w = columns - 1, first * group
        while count > 0:
            place = _locate(scratch, place, columns, count, pixels, sizes)
            tile = simd.tile_of_vectors(start, first * lanes, vectors, columns)
            for t in range(len(places)):
                tile = simd.multiply_add(
                    tile, weights, w + entries[t], group, source, places[t], at
                )
            if activation.number != NONE:
                simd.store_vectors(tile, staged, 0, wide, columns)
                activate(staged[: columns * wide], activation)
                tile = simd.tile_of_columns(staged, 0, wide, vectors, columns)
            begin, channels = corner + first * lanes * plane, sizes.filters - first * lanes
            if to[last] - to[0] == last and to[last] > to[last - 1]:
                simd.store_transposed(tile, out, begin + to[0], plane, channels)
            else:
                simd.store_vectors(tile, staged, 0, wide, columns)
                for k in range(min(wide, channels)):
                    for p in range(columns):
                        out[begin + to[p] + k * plane] = staged[p * wide + k]
            count -= columns

    return fill


_fill = by_vectors([_loops(v) for v in range(1, simd.MAX_VECTORS + 1)])


@compiled_parallel
def _correlate(maps, filters, sizes, work_items, rows, columns, activation, work, threads):
    """
    Args:
        maps: (out, source), flat.
        filters: (weights, start): packed weights, and what the sums start from.
        sizes, work_items, rows, columns: what ``_plan`` gives.
    """
    (out, _), (vector_groups, regions, ends) = maps, work_items
    most_taps = sizes.depth * sizes.area
    for _ in prange(threads):
        entries, places = np.empty((2, most_taps), np.int64)
        to, at = np.empty((2, _MOST_COLUMNS), np.int64)
        staged = aligned(_MOST_COLUMNS * simd.MAX_VECTORS * sizes.lanes, out.dtype)
        every, scratch = _SourceTaps(entries, places), _Scratch(to, at, staged)
        region, listed, count, item = 0, -1, 0, take(work)
        while item < ends[-1]:
            while item >= ends[region]:
                region += 1
            index = item - (ends[region - 1] if region > 0 else 0)
            r, s, at_once = regions[region]
            if region != listed:
                listed, count = region, _list_taps(every, sizes, rows, columns, r, s)
            height, width = rows.count[r], columns.count[s]
            first, v = vector_groups[index % len(vector_groups)]
            begin = index // len(vector_groups) * at_once
            end = min(begin + at_once, sizes.batch * height * width)
            place = begin // (height * width), begin // width % height, begin % width
            corner = rows.start[r] * sizes.width + columns.start[s]
            pixels = _Pixels(*place, end - begin, height, width, corner)
            taps = _SourceTaps(entries[:count], places[:count])
            _fill(v, maps, filters, sizes, first, taps, pixels, scratch, activation)
            item = take(work)
