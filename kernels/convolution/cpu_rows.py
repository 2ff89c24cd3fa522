"""Convolution of stride 1 on the host: tiles with neighbouring pixels in the lanes of a vector.

    out[n, k, y, x] = start[k] + sum over c, i, j of
                      weights[k, c, i, j] source[n, c, top + y + i*dy, left + x + j*dx]

with zeros around the source: the forward pass, and the input gradient with flipped weights.

An item of work is a piece of a few rows that lie as far apart as the rows of taps, so that they
share most of what they read. Input channels are taken a few at a time. Their source rows are first
copied into a panel: each is read once, in a long run, and no two fall into the same sets of the
cache, as rows do whose distance is a power of two. What a tile reads of a panel fits the
first-level cache and serves all output channels; until the next input channels come, its sums wait
in memory. Taps that would read nothing but zeros are left out. The rows of a narrow map form one
run, and the results for the columns between them are thrown away.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.convolution.cpu_weights import starts
from kernels.convolution.cpu_workspace import ITEMS, ROWS, WIDTH, tile_shape
from kernels.host import simd
from kernels.host.choosing import by_vectors
from kernels.host.compilation import compiled, compiled_parallel, inner
from kernels.host.simd import Runs
from kernels.host.threads import MULTIPLY_ADD
from kernels.host.work_sharing import queue, take

NARROW = 96
TILE_BYTES = 24 * 2**10
# Time from one tile to the next, measured, in multiply-adds of vectors
TILE_TIME = 360


class _RowSizes(NamedTuple):
    """Of the maps and the kernel, distances between taps, and the first tap of the first output."""

    filters: int
    depth: int  # C
    height: int
    width: int
    source_height: int
    source_width: int
    kernel_height: int
    kernel_width: int
    spacing: int  # between rows of taps
    dilation: int  # between columns of taps
    top: int
    left: int


class _Tiling(NamedTuple):
    """Tiles, and what a thread needs room for."""

    lanes: int
    columns: int  # of a tile
    vectors: int  # of a tile, at most
    one_run: bool  # whether the rows of an item make one run
    depth: int  # input channels of a panel
    panel_plane: int  # elements of one channel of the largest panel
    waiting: int  # tiles whose sums wait for the next input channels
    run_length: int  # elements of one channel of the largest run


class _Piece(NamedTuple):
    """An item of work: pieces of some rows, ``spacing`` apart."""

    image: int
    y: int
    rows: int
    x: int
    columns: int


class _Taps(NamedTuple):
    """Where taps lie in a group of packed weights, and in a panel."""

    entries: np.ndarray
    places: np.ndarray


def correlate(out, source, weights, kernel, bias, dilation, origin, activation):
    """Fill ``out``, N x K x H x W, from ``source``, N x C x h x w.

    Args:
        weights: packed in groups of ``tile_shape(K)[1]``.
        kernel: (kh, kw).
        bias: K, or None.
        dilation: (dy, dx).
        origin: (top, left) in the source of the first tap of the first output.
        activation: what the sums go through, ``Numbered`` (see ``kernels.activation.cpu``).
    """
    sizes, tiling, items = _plan(out.shape, source.shape, kernel, dilation, origin, out.itemsize)
    maps = out.reshape(-1), source.reshape(-1)
    start = starts(bias, sizes.filters, tiling.columns, out.dtype)
    threads = numba.get_num_threads()
    work = MULTIPLY_ADD * out.size * source.shape[1] * prod(kernel)
    queued = activation, items, queue(), threads
    _correlate(*maps, weights, start, sizes, tiling, *queued, work=work)


@lru_cache(1024)
def _plan(out, source, kernel, dilation, origin, itemsize):
    """(``_RowSizes``, ``_Tiling``, ``_items``)."""
    (batch, filters, height, width), (_, depth, *source_size) = out, source
    (kh, kw), (lanes, (vectors, columns)) = kernel, (simd.lanes(itemsize), tile_shape(filters))
    widest, span = vectors * lanes, (kw - 1) * dilation[1]
    spacing = dilation[0] if kh > 1 else 1
    one_run = _is_run(height, width, spacing)
    rows = max(1, min(_rows_at_once(height, width, span, kh, one_run), batch * height // ITEMS))
    items = _items(batch, height, width, spacing, rows, lanes)
    longest = int(items[:, 4].max())
    pitch = _pitch(longest, span, one_run)
    length = (rows - 1) * pitch + width if one_run else longest
    parts = -(-depth // max(1, TILE_BYTES // (kh * (widest + span) * itemsize)))
    tiling = _Tiling(
        lanes=lanes,
        columns=columns,
        vectors=vectors,
        one_run=one_run,
        depth=-(-depth // parts),
        panel_plane=(rows - 1 + kh) * pitch,
        waiting=(length // widest + 2) * (1 if one_run else rows) if parts > 1 else 0,
        run_length=length + widest if one_run else 0,
    )
    maps = filters, depth, height, width, *source_size
    sizes = _RowSizes(*maps, kh, kw, spacing, dilation[1], *origin)
    return sizes, tiling, items


def cost(depth, filters, size, kernel, dilation, inside, lanes):
    """Time of one tap over one map of ``size``, in multiply-adds of vectors.

    A step takes as long as its multiply-adds or as its loads, whichever is more; most loads of
    pixels straddle two cache lines. Rows of taps count by the share of them ``inside`` the source.
    The time from one tile to the next is shared out over all taps.
    """
    (height, width), span = size, (kernel[1] - 1) * dilation[1]
    most, together = tile_shape(filters)
    one_run = _is_run(height, width, dilation[0] if kernel[0] > 1 else 1)
    rows = _rows_at_once(height, width, span, kernel[0], True) if one_run else 1
    length = (rows - 1) * (width + span) + width
    if length < lanes and not one_run:
        return float("inf")
    total, done = 0, 0
    while done < length:
        v = _next_vectors(length, done, lanes, most, one_run)
        total += max(v * together, 2 * v + together + 2) + TILE_TIME / (depth * prod(kernel))
        done += v * lanes
    share = 1 if one_run else inside
    return share * total * height / rows * -(-filters // together)


def _is_run(height, width, spacing):
    return spacing == 1 and width < NARROW and height > 1


def _rows_at_once(height, width, span, kh, one_run):
    if one_run:
        return max(1, min(height, WIDTH // (width + span)))
    return ROWS if kh > 1 else 1


def _items(batch, height, width, spacing, rows, lanes):
    """Items of work: rows of numbers like ``_Piece``."""
    y = np.arange(height)
    y = y[y // spacing % rows == 0]
    heights = np.minimum(rows, -(-(height - y) // spacing))
    pieces = -(-width // WIDTH)
    x = np.arange(pieces) * width // pieces // lanes * lanes
    widths = np.diff(np.append(x, width))
    n, a, b = (index.ravel() for index in np.indices((batch, len(y), pieces)))
    return np.stack([n, y[a], heights[a], x[b], widths[b]], axis=1)


@compiled
def _next_vectors(length, done, lanes, most, beyond):
    """Vectors of the next tile; what is left is shared out evenly.

    If there is room ``beyond`` the length, the last vector may reach there. Otherwise the caller
    moves the last tile back, over the one before it; it then has 2 vectors, as 1 would be slow.
    """
    left = -(-(length - done) // lanes)
    v = max(2, -(-left // -(-left // most)))
    return min(v, left) if beyond else min(v, length // lanes)


@compiled
def _pitch(width, span, one_run):
    """Elements from one row of the panel to the next: in no run, an odd number of cache lines."""
    return width + span if one_run else ((width + span + 15) // 16 | 1) * 16


def _loops(vectors, columns):
    """The innermost loops: all output channels, ``columns`` at a time, of ``vectors`` vectors of
    pixels.

    Sums start from ``start`` or, after the first input channels, from ``waiting``, where they go
    before the last. Where there is an activation, the finished tile goes through it in ``staged``.
    """

    @inner
    def fill(to, waiting, panel, weights, start, sizes, channels, taps, lanes, activation, staged):
        out, corner, plane = to
        sums, sums_from, sums_pitch = waiting
        source, place, source_plane = panel
        filters, depth, area = sizes.filters, sizes.depth, sizes.kernel_height * sizes.kernel_width
        first_channel, count = channels
        entries, places = taps
        wide = vectors * lanes
        for first in range(0, filters, columns):
            sums_at = sums_from + first * sums_pitch
            if first_channel == 0:
                tile = simd.tile_of_numbers(start, first, vectors, columns)
            else:
                tile = simd.tile_of_columns(sums, sums_at, sums_pitch, vectors, columns)
            x, w = place, (first * depth + first_channel * columns) * area
            for _ in range(count):
                for t in range(len(places)):
                    tile = simd.multiply_add(
                        tile, source, x + places[t], lanes, weights, w + entries[t], None
                    )
                x += source_plane
                w += area * columns
            if first_channel + count == depth:
                if activation.number != NONE:
                    simd.store_vectors(tile, staged, 0, wide, columns)
                    activate(staged[: columns * wide], activation)
                    tile = simd.tile_of_columns(staged, 0, wide, vectors, columns)
                simd.store_vectors(tile, out, corner + first * plane, plane, filters - first)
            else:
                simd.store_vectors(tile, sums, sums_at, sums_pitch, columns)

    return fill


# Of both shapes of tiles, which are one where there are few registers
_SHAPES = simd.SHAPES[0], simd.SHAPES[-1]
_FILL = {shape: by_vectors([_loops(v + 1, shape[1]) for v in range(shape[0])]) for shape in _SHAPES}
_fill, _fill_other = (_FILL[shape] for shape in _SHAPES)


@inner
def _fill_panel(panel, pitch, source, sizes, piece, plane, channels):
    """Copy what a piece reads of some input channels, of which the first is number ``plane`` of all
    source maps; 0 where that lies outside."""
    left, top = sizes.left + piece.x, sizes.top + piece.y
    first = min(max(0, -left), pitch)
    end = max(first, min(pitch, sizes.source_width - left))
    to = 0
    for c in range(plane, plane + channels):
        for row in range(piece.rows - 1 + sizes.kernel_height):
            y = top + row * sizes.spacing
            inside = 0 <= y < sizes.source_height
            begin = (c * sizes.source_height + y) * sizes.source_width + left
            panel[to : to + (first if inside else pitch)] = 0
            if inside:
                simd.copy(panel, to + first, source, begin + first, end - first)
                panel[to + end : to + pitch] = 0
            to += pitch


@inner
def _list_taps(taps, sizes, columns, pitch, first, last):
    """List the taps that find some source for outputs whose first taps are ``first`` to ``last``;
    returns their number."""
    entries, places = taps
    count = 0
    for i in range(sizes.kernel_height):
        down = i * sizes.spacing
        if last[0] + down < 0 or first[0] + down >= sizes.source_height:
            continue
        for j in range(sizes.kernel_width):
            right = j * sizes.dilation
            if last[1] + right < 0 or first[1] + right >= sizes.source_width:
                continue
            entries[count] = (i * sizes.kernel_width + j) * columns
            places[count] = i * pitch + right
            count += 1
    return count


@compiled_parallel
def _correlate(out, source, weights, start, sizes, tiling, activation, items, work, threads):
    lanes, columns, one_run = tiling.lanes, tiling.columns, tiling.one_run
    plane, widest = sizes.height * sizes.width, tiling.vectors * lanes
    span = (sizes.kernel_width - 1) * sizes.dilation
    padded, area = -(-sizes.filters // columns) * columns, sizes.kernel_height * sizes.kernel_width
    for _ in prange(threads):
        panel = np.empty(tiling.depth * tiling.panel_plane + 16 + widest, out.dtype)
        panel = panel[-(panel.ctypes.data // panel.itemsize) % 16 :]
        sums = np.empty(tiling.waiting * padded * widest, out.dtype)
        run = np.empty(padded * tiling.run_length, out.dtype)
        staged = np.empty(columns * widest, out.dtype)
        entries, places = np.empty((2, area), np.int64)
        item = take(work)
        while item < len(items):
            n, y, rows, x, width = items[item]
            piece = _Piece(n, y, rows, x, width)
            item = take(work)
            pitch, panel_rows = _pitch(width, span, one_run), rows - 1 + sizes.kernel_height
            corner = n * sizes.filters * plane + y * sizes.width + x
            length = (rows - 1) * pitch + width if one_run else width
            for c in range(0, sizes.depth, tiling.depth):
                count = min(tiling.depth, sizes.depth - c)
                _fill_panel(panel, pitch, source, sizes, piece, n * sizes.depth + c, count)
                tile = 0
                for row in range(1 if one_run else rows):
                    done = 0
                    while done < length:
                        v = _next_vectors(length, done, lanes, tiling.vectors, one_run)
                        if not one_run:
                            done = min(done, length - v * lanes)
                        first = (sizes.top + y + row * sizes.spacing, sizes.left + x + done)
                        last = (first[0], first[1] + v * lanes - 1)
                        if one_run:
                            first = (sizes.top + y, sizes.left + x)
                            last = (first[0] + rows - 1, first[1] + width - 1)
                        taps = _list_taps(
                            _Taps(entries, places), sizes, columns, pitch, first, last
                        )
                        if one_run:
                            to = Runs(run, done, tiling.run_length)
                        else:
                            at = corner + row * sizes.spacing * sizes.width + done
                            to = Runs(out, at, plane)
                        place = (
                            to,
                            Runs(sums, tile * padded * widest, v * lanes),
                            Runs(panel, row * pitch + done, panel_rows * pitch),
                            weights,
                            start,
                            sizes,
                            (c, count),
                            _Taps(entries[:taps], places[:taps]),
                            lanes,
                            activation,
                            staged,
                        )
                        if columns == _SHAPES[0][1]:
                            _fill(v, *place)
                        else:
                            _fill_other(v, *place)
                        done += v * lanes
                        tile += 1
            if one_run:
                for k in range(sizes.filters):
                    for row in range(rows):
                        at = k * tiling.run_length + row * pitch
                        to = corner + k * plane + row * sizes.width
                        simd.copy(out, to, run, at, width)
