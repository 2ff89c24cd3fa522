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
from kernels.host import simd
from kernels.host.choosing import by_vectors
from kernels.host.compilation import compiled, compiled_parallel, inner
from kernels.host.simd import Runs
from kernels.host.threads import MULTIPLY_ADD
from kernels.host.work_sharing import queue, take

ROWS = 4
WIDTH = 288
NARROW = 96
TILE_BYTES = 24 * 2**10
# Time from one tile to the next, measured, in multiply-adds of vectors
TILE_TIME = 360
# Least number of items that the work is split into, if there are enough rows
ITEMS = 32


class _Maps(NamedTuple):
    """The flat arrays, and the sizes of their maps."""

    out: np.ndarray
    source: np.ndarray
    height: int
    width: int
    source_height: int
    source_width: int


class _Filters(NamedTuple):
    """The packed weights, and what the channels' sums start from."""

    weights: np.ndarray
    start: np.ndarray
    count: int  # K
    depth: int  # C
    area: int  # kh * kw


class _Window(NamedTuple):
    """The kernel's size, distances between its taps, and the first tap of the first output."""

    height: int
    width: int
    spacing: int  # between rows
    dilation: int  # between columns
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
    """An item of work: pieces of some rows, a window's ``spacing`` apart."""

    image: int
    y: int
    rows: int
    x: int
    columns: int


class _Taps(NamedTuple):
    """Where taps lie in a group of packed weights, and in a panel."""

    entries: np.ndarray
    places: np.ndarray


def correlate(out, source, weights, kernel, start, dilation, origin, activation):
    """Fill ``out``, N x K x H x W, from ``source``, N x C x h x w.

    Args:
        weights: packed in groups of ``tile_shape(K)[1]``.
        kernel: (kh, kw).
        start: K, what each channel's sums start from.
        dilation: (dy, dx).
        origin: (top, left) in the source of the first tap of the first output.
        activation: what the sums go through, ``Numbered`` (see ``kernels.activation.cpu``).
    """
    (batch, filters, height, width), (_, depth, *source_size) = out.shape, source.shape
    (kh, kw), itemsize = kernel, out.itemsize
    lanes, (vectors, columns) = simd.lanes(itemsize), tile_shape(filters)
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
    maps = _Maps(out.reshape(-1), source.reshape(-1), height, width, *source_size)
    start = np.append(start, np.zeros(columns, out.dtype))
    packed = _Filters(weights, start, filters, depth, kh * kw)
    window = _Window(kh, kw, spacing, dilation[1], *origin)
    threads = numba.get_num_threads()
    work = MULTIPLY_ADD * batch * height * width * weights.size
    _correlate(maps, packed, window, tiling, activation, items, queue(), threads, work=work)


def thread_bytes(shape, kernel, itemsize):
    """About what each thread works in to fill maps of ``shape``, N x K x H x W: the sums of the
    rows that it computes at once."""
    _, filters, height, width = shape
    rows = max(1, min(ROWS if kernel[0] > 1 else 1, height // ITEMS))
    tiles = min(width, WIDTH) + 2 * tile_shape(filters)[0] * simd.lanes(itemsize)
    return filters * rows * tiles * itemsize


def tile_shape(filters):
    """(vectors at most, columns) of the tiles that waste least on ``filters``."""
    return min(simd.SHAPES, key=lambda shape: -(-filters // shape[1]) * shape[1])


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


@lru_cache(1024)
def _items(batch, height, width, spacing, rows, lanes):
    """Rows (image, first row, rows, first column, columns)."""
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

    Sums start from ``filters.start`` or, after the first input channels, from ``waiting``, where
    they go before the last. Where there is an activation, the finished tile goes through it in
    ``staged``.
    """

    @inner
    def fill(to, waiting, panel, filters, channels, taps, lanes, activation, staged):
        first_channel, count = channels
        wide = vectors * lanes
        for first in range(0, filters.count, columns):
            sums_at = waiting.at + first * waiting.pitch
            if first_channel == 0:
                tile = simd.tile_of_numbers(filters.start, first, vectors, columns)
            else:
                tile = simd.tile_of_columns(waiting.array, sums_at, waiting.pitch, vectors, columns)
            x = panel.at
            w = (first * filters.depth + first_channel * columns) * filters.area
            for _ in range(count):
                for t in range(len(taps.places)):
                    tile = simd.multiply_add(
                        tile,
                        panel.array,
                        x + taps.places[t],
                        lanes,
                        filters.weights,
                        w + taps.entries[t],
                        None,
                    )
                x += panel.pitch
                w += filters.area * columns
            if first_channel + count == filters.depth:
                if activation.number != NONE:
                    simd.store_vectors(tile, staged, 0, wide, columns)
                    activate(staged[: columns * wide], activation)
                    tile = simd.tile_of_columns(staged, 0, wide, vectors, columns)
                at = to.at + first * to.pitch
                simd.store_vectors(tile, to.array, at, to.pitch, filters.count - first)
            else:
                simd.store_vectors(tile, waiting.array, sums_at, waiting.pitch, columns)

    return fill


# Of both shapes of tiles, which are one where there are few registers
_SHAPES = simd.SHAPES[0], simd.SHAPES[-1]
_FILL = {shape: by_vectors([_loops(v + 1, shape[1]) for v in range(shape[0])]) for shape in _SHAPES}
_fill, _fill_other = (_FILL[shape] for shape in _SHAPES)


@inner
def _fill_panel(panel, pitch, maps, window, piece, plane, channels):
    """Copy what a piece reads of some input channels, of which the first is number ``plane`` of all
    source maps; 0 where that lies outside."""
    left, top = window.left + piece.x, window.top + piece.y
    first = min(max(0, -left), pitch)
    end = max(first, min(pitch, maps.source_width - left))
    to = 0
    for c in range(plane, plane + channels):
        for row in range(piece.rows - 1 + window.height):
            y = top + row * window.spacing
            inside = 0 <= y < maps.source_height
            begin = (c * maps.source_height + y) * maps.source_width + left
            panel[to : to + (first if inside else pitch)] = 0
            if inside:
                simd.copy(panel, to + first, maps.source, begin + first, end - first)
                panel[to + end : to + pitch] = 0
            to += pitch


@inner
def _list_taps(taps, window, maps, columns, pitch, first, last):
    """List the taps that find some source for outputs whose first taps are ``first`` to ``last``;
    returns their number."""
    count = 0
    for i in range(window.height):
        down = i * window.spacing
        if last[0] + down < 0 or first[0] + down >= maps.source_height:
            continue
        for j in range(window.width):
            right = j * window.dilation
            if last[1] + right < 0 or first[1] + right >= maps.source_width:
                continue
            taps.entries[count] = (i * window.width + j) * columns
            taps.places[count] = i * pitch + right
            count += 1
    return count


@compiled_parallel
def _correlate(maps, filters, window, tiling, activation, items, work, threads):
    lanes, columns, one_run = tiling.lanes, tiling.columns, tiling.one_run
    plane, widest = maps.height * maps.width, tiling.vectors * lanes
    span = (window.width - 1) * window.dilation
    padded = -(-filters.count // columns) * columns
    for _ in prange(threads):
        panel = np.empty(tiling.depth * tiling.panel_plane + 16 + widest, maps.out.dtype)
        panel = panel[-(panel.ctypes.data // panel.itemsize) % 16 :]
        sums = np.empty(tiling.waiting * padded * widest, maps.out.dtype)
        run = np.empty(padded * tiling.run_length, maps.out.dtype)
        staged = np.empty(columns * widest, maps.out.dtype)
        entries, places = np.empty((2, filters.area), np.int64)
        item = take(work)
        while item < len(items):
            n, y, rows, x, width = items[item]
            piece = _Piece(n, y, rows, x, width)
            item = take(work)
            pitch = _pitch(width, span, one_run)
            corner = n * filters.count * plane + y * maps.width + x
            length = (rows - 1) * pitch + width if one_run else width
            for c in range(0, filters.depth, tiling.depth):
                count = min(tiling.depth, filters.depth - c)
                _fill_panel(panel, pitch, maps, window, piece, n * filters.depth + c, count)
                tile = 0
                for row in range(1 if one_run else rows):
                    done = 0
                    while done < length:
                        v = _next_vectors(length, done, lanes, tiling.vectors, one_run)
                        if not one_run:
                            done = min(done, length - v * lanes)
                        first = (window.top + y + row * window.spacing, window.left + x + done)
                        last = (first[0], first[1] + v * lanes - 1)
                        if one_run:
                            first = (window.top + y, window.left + x)
                            last = (first[0] + rows - 1, first[1] + width - 1)
                        taps = _list_taps(
                            _Taps(entries, places), window, maps, columns, pitch, first, last
                        )
                        if one_run:
                            to = Runs(run, done, tiling.run_length)
                        else:
                            at = corner + row * window.spacing * maps.width + done
                            to = Runs(maps.out, at, plane)
                        place = (
                            to,
                            Runs(sums, tile * padded * widest, v * lanes),
                            Runs(panel, row * pitch + done, (rows - 1 + window.height) * pitch),
                            filters,
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
                for k in range(filters.count):
                    for row in range(rows):
                        at = k * tiling.run_length + row * pitch
                        to = corner + k * plane + row * maps.width
                        simd.copy(maps.out, to, run, at, width)
