"""Stride 1 on the host: tiles with pixels along the lanes.

    out[n, k, y, x] = start[k] + sum over c, i, j of
                      weights[k, c, i, j] source[n, c, top + y + i*dy, left + x + j*dx]

with zeros around the source: the forward pass, and the input gradient with flipped weights.

An item of work is a piece of a few rows, as far apart as the taps are, so that they share most of
what they read. Input channels are taken in parts, whose source rows are first copied side by side
into a panel: a long run of each row, read once, and no two in the same cache sets, as rows of maps
a power of two apart are. What a tile reads of a panel fits the first-level cache and serves all
output channels; the tiles' sums wait for the next part in between. A tile leaves out the taps that
find only zeros. The rows of a narrow map make one run, in which the columns between them are
computed in vain.
"""

from functools import lru_cache
from math import prod

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.host import simd
from kernels.host.compilation import compiled, compiled_parallel
from kernels.host.work_sharing import queue, take

ROWS = 4
WIDTH = 288
NARROW = 96
TILE_BYTES = 24 * 2**10
# In multiply-adds of vectors, measured
TILE_TIME = 360
# Items that the work is split into, at least, where there are enough rows
ITEMS = 32


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
    batch, _, height, width = out.shape
    depth, (kh, kw) = source.shape[1], kernel
    lanes, (most, together) = simd.lanes(out.itemsize), tile_shape(out.shape[1])
    widest, span = most * lanes, (kw - 1) * dilation[1]
    spacing = dilation[0] if kh > 1 else 1
    one_run = _is_run(height, width, spacing)
    rows = max(1, min(_rows_at_once(height, width, span, kh, one_run), batch * height // ITEMS))
    items = _items(batch, height, width, spacing, rows, lanes)
    piece = int(items[:, 4].max())
    pitch = _pitch(piece, span, one_run)
    length = (rows - 1) * pitch + width if one_run else piece
    tiles = (length // widest + 2) * (1 if one_run else rows)
    parts = -(-depth // max(1, TILE_BYTES // (kh * (widest + span) * out.itemsize)))
    _correlate(
        out.reshape(-1),
        out.shape,
        source.reshape(-1),
        source.shape,
        weights,
        kernel,
        np.append(start, np.zeros(together, out.dtype)),
        items,
        (spacing, dilation[1]),
        origin,
        one_run,
        -(-depth // parts),
        (rows - 1 + kh) * pitch,
        tiles if parts > 1 else 0,
        length + widest if one_run else 0,
        (lanes, together, most),
        activation,
        queue(),
        numba.get_num_threads(),
    )


def tile_shape(filters):
    """Most vectors, and columns, of the tiles that ``filters`` fill best."""
    return min(simd.SHAPES, key=lambda shape: -(-filters // shape[1]) * shape[1])


def cost(depth, filters, size, kernel, dilation, inside, lanes):
    """Steps' time for one tap of one map of ``size``, in multiply-adds of vectors.

    A step of v vectors takes as long as its multiply-adds or its loads, of which those of
    neighbouring pixels mostly straddle two cache lines. Rows of taps cost only their share
    ``inside`` the source. All taps share the time from tile to tile.
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
    """Vectors of the next tile: alike for what is left, and rather 2 that overlap than 1.

    Tiles reach ``beyond`` the length only where there is room.
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

    Sums start from ``start`` or, where input channels went before, from ``sums``. Where there is an
    activation, the finished tile goes through it in ``staged``.
    """

    @compiled
    def fill(
        out,
        to,
        pitch,
        filters,
        sums,
        panel,
        at,
        plane,
        weights,
        channels,
        start,
        taps,
        lanes,
        activation,
        staged,
    ):
        entries, places = taps
        waiting, sums_at = sums
        first_channel, count, depth, area = channels
        wide = vectors * lanes
        for first in range(0, filters, columns):
            if first_channel == 0:
                tile = simd.tile_of_numbers(start, first, vectors, columns)
            else:
                sums_of = sums_at + first * wide
                tile = simd.tile_of_columns(waiting, sums_of, wide, vectors, columns)
            x, w = at, (first * depth + first_channel * columns) * area
            for _ in range(count):
                for t in range(len(places)):
                    tile = simd.multiply_add(
                        tile, panel, x + places[t], lanes, weights, w + entries[t], None
                    )
                x += plane
                w += area * columns
            if first_channel + count == depth:
                if activation.number != NONE:
                    simd.store_vectors(tile, staged, 0, wide, columns)
                    activate(staged[: columns * wide], activation)
                    tile = simd.tile_of_columns(staged, 0, wide, vectors, columns)
                simd.store_vectors(tile, out, to + first * pitch, pitch, filters - first)
            else:
                simd.store_vectors(tile, waiting, sums_at + first * wide, wide, columns)

    return fill


_FILL_1, _FILL_2, _FILL_3 = (_loops(v, simd.COLUMNS) for v in (1, 2, 3))
_BY_5_1, _BY_5_2, _BY_5_3, _BY_5_4, _BY_5_5 = (_loops(v, 5) for v in (1, 2, 3, 4, 5))


@compiled
def _fill(vectors, *place):
    if vectors == 3:
        _FILL_3(*place)
    elif vectors == 2:
        _FILL_2(*place)
    else:
        _FILL_1(*place)


@compiled
def _fill_by_5(vectors, *place):
    if vectors == 5:
        _BY_5_5(*place)
    elif vectors == 4:
        _BY_5_4(*place)
    elif vectors == 3:
        _BY_5_3(*place)
    elif vectors == 2:
        _BY_5_2(*place)
    else:
        _BY_5_1(*place)


@compiled
def _fill_panel(panel, source, at, size, channels, rows, top, spacing, left, wide):
    """Copy rows top, top + spacing, ... of some channels, columns from ``left`` on; 0 outside."""
    height, width = size
    first = min(max(0, -left), wide)
    end = max(first, min(wide, width - left))
    to = 0
    for c in range(channels):
        for row in range(rows):
            y = top + row * spacing
            inside = 0 <= y < height
            begin = at + (c * height + y) * width + left
            panel[to : to + (first if inside else wide)] = 0
            if inside:
                simd.copy(panel, to + first, source, begin + first, end - first)
                panel[to + end : to + wide] = 0
            to += wide


@compiled
def _taps_inside(entries, places, kernel, dilation, together, wide, size, first, last):
    """List the taps that find some source for outputs whose first taps are ``first`` to ``last``.

    Returns their number; ``entries`` are in the packed weights, ``places`` in the panel.
    """
    count = 0
    for i in range(kernel[0]):
        if last[0] + i * dilation[0] < 0 or first[0] + i * dilation[0] >= size[0]:
            continue
        for j in range(kernel[1]):
            if last[1] + j * dilation[1] < 0 or first[1] + j * dilation[1] >= size[1]:
                continue
            entries[count] = (i * kernel[1] + j) * together
            places[count] = i * wide + j * dilation[1]
            count += 1
    return count


@compiled_parallel
def _correlate(
    out,
    out_shape,
    source,
    source_shape,
    weights,
    kernel,
    start,
    items,
    dilation,
    origin,
    one_run,
    at_once,
    panel_plane,
    most_tiles,
    run_pitch,
    tile_shape,
    activation,
    work,
    threads,
):
    _, filters, height, width = out_shape
    depth, source_size = source_shape[1], source_shape[2:]
    plane, source_plane = height * width, source_size[0] * source_size[1]
    lanes, together, most = tile_shape
    area = kernel[0] * kernel[1]
    span = (kernel[1] - 1) * dilation[1]
    padded = -(-filters // together) * together
    tile_sums = padded * most * lanes
    for _ in prange(threads):
        panel = np.empty(at_once * panel_plane + 16 + most * lanes, out.dtype)
        panel = panel[-(panel.ctypes.data // panel.itemsize) % 16 :]
        sums = np.empty(most_tiles * tile_sums, out.dtype)
        run = np.empty(padded * run_pitch, out.dtype)
        staged = np.empty(together * most * lanes, out.dtype)
        entries, places = np.empty((2, area), np.int64)
        item = take(work)
        while item < len(items):
            n, y, rows, x, columns = items[item]
            item = take(work)
            wide = _pitch(columns, span, one_run)
            panel_rows = rows - 1 + kernel[0]
            to = n * filters * plane + y * width + x
            length = (rows - 1) * wide + columns if one_run else columns
            for c in range(0, depth, at_once):
                count = min(at_once, depth - c)
                _fill_panel(
                    panel,
                    source,
                    (n * depth + c) * source_plane,
                    source_size,
                    count,
                    panel_rows,
                    origin[0] + y,
                    dilation[0],
                    origin[1] + x,
                    wide,
                )
                tile = 0
                for row in range(1 if one_run else rows):
                    done = 0
                    while done < length:
                        v = _next_vectors(length, done, lanes, most, one_run)
                        if not one_run:
                            done = min(done, length - v * lanes)
                        first = (origin[0] + y + row * dilation[0], origin[1] + x + done)
                        last = (first[0], first[1] + v * lanes - 1)
                        if one_run:
                            first = (origin[0] + y, origin[1] + x)
                            last = (first[0] + rows - 1, first[1] + columns - 1)
                        taps = _taps_inside(
                            entries,
                            places,
                            kernel,
                            dilation,
                            together,
                            wide,
                            source_size,
                            first,
                            last,
                        )
                        place = (
                            run if one_run else out,
                            done if one_run else to + row * dilation[0] * width + done,
                            run_pitch if one_run else plane,
                            filters,
                            (sums, tile * tile_sums),
                            panel,
                            row * wide + done,
                            panel_rows * wide,
                            weights,
                            (c, count, depth, area),
                            start,
                            (entries[:taps], places[:taps]),
                            lanes,
                            activation,
                            staged,
                        )
                        if together == 5:
                            _fill_by_5(v, *place)
                        else:
                            _fill(v, *place)
                        done += v * lanes
                        tile += 1
            if one_run:
                for k in range(filters):
                    for row in range(rows):
                        at = k * run_pitch + row * wide
                        simd.copy(out, to + k * plane + row * width, run, at, columns)
