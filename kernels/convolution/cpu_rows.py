"""Convolution of stride 1 on the host: tiles with neighbouring pixels in the lanes of a vector.

    out[n, k, y, x] = start[k] + sum over c, i, j of
                      weights[k, c, i, j] source[n, c, top + y + i*dy, left + x + j*dx]

with zeros around the source: the forward pass, and the input gradient with flipped weights.

An item of work is a piece of a few rows that lie as far apart as the rows of taps, so that they
share most of what they read. Their source rows are first copied into a panel: each is read once, in
a long run, and no two fall into the same sets of the cache, as rows do whose distance is a power of
two.

    deep layers      Input channels are taken a few at a time. What a tile reads of a panel fits the
                     first-level cache and serves all output channels; until the next input channels
                     come, its partial sums are spilled to memory.
    shallow layers   A panel of all channels fits the second-level cache. Tiles go along the row for
                     one group of output channels after another, whose weights stay in the
                     first-level cache: no partial sums are spilled, and a few long runs are written
                     at a time.
    class layers     1 x 1 with few output channels (or input channels: their input gradient) have
                     no panel, and read the maps themselves, as fast as a copy would.

One loop runs over the taps of all channels, as short loops within each other end in mispredicted
branches. Taps that would read nothing but zeros are left out. The rows of a narrow map form one
run, and the results for the columns between them are thrown away.
"""

from math import prod
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate
from kernels.convolution.cpu_rows_plan import next_vectors, pitch_of, plan
from kernels.convolution.cpu_weights import starts
from kernels.host import simd
from kernels.host.choosing import by_vectors
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.simd import Runs
from kernels.host.threads import MULTIPLY_ADD
from kernels.host.work_sharing import queue, take


class _Piece(NamedTuple):
    """A work item: ``rows`` rows, ``spacing`` apart, and their columns."""

    image: int
    y: int
    rows: int
    x: int
    columns: int


class _PanelTaps(NamedTuple):
    """The taps of all channels of a panel that hit the source for some outputs."""

    entries: np.ndarray  # where they lie in a group of packed weights
    places: np.ndarray  # and in the panel
    # First and end of the kernel's rows, of its columns, and the number of taps
    bounds_and_count: np.ndarray


class _Outputs(NamedTuple):
    """Where the first taps of some outputs lie in the source."""

    top: int
    bottom: int
    left: int
    right: int


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
    threads, shapes = numba.get_num_threads(), (out.shape, source.shape)
    sizes, tiling, items = plan(*shapes, kernel, dilation, origin, out.itemsize, threads)
    maps = out.reshape(-1), source.reshape(-1)
    start = starts(bias, sizes.filters, tiling.columns, out.dtype)
    work = MULTIPLY_ADD * out.size * source.shape[1] * prod(kernel)
    queued = activation, items, queue(), threads
    _correlate(*maps, weights, start, sizes, tiling, *queued, work=work)


def _loops(vectors, columns):
    """The innermost loops: all output channels, ``columns`` at a time, of ``tiles`` neighbouring
    tiles of ``vectors`` vectors of pixels.

    Sums start from ``start`` or, after the first input channels, from ``spilled``, where they go
    before the last. Where there is an activation, the finished tile goes through it in ``staged``.
    """

    @inner
    def fill(
        tiles, to, spilled, panel, weights, start, sizes, channels, taps, lanes, activation, staged
    ):
        out, corner, plane = to
        sums, sums_from, sums_pitch = spilled
        source, place, _ = panel
        filters, depth, area = sizes.filters, sizes.depth, sizes.kernel_height * sizes.kernel_width
        first_channel, count = channels
        entries, places, bounds_and_count = taps
        wide, reads = vectors * lanes, bounds_and_count[4]
        sums_tile = -(-filters // columns) * columns * wide
        for first in range(0, filters, columns):
            w = (first * depth + first_channel * columns) * area
            for number in range(tiles):
                x, to_row = place + number * wide, corner + number * wide + first * plane
                sums_at = sums_from + number * sums_tile + first * sums_pitch
                if first_channel == 0:
                    tile = simd.tile_of_numbers(start, first, vectors, columns)
                else:
                    tile = simd.tile_of_columns(sums, sums_at, sums_pitch, vectors, columns)
                for t in range(reads):
                    tile = simd.multiply_add(
                        tile, source, x + places[t], lanes, weights, w + entries[t], None
                    )
                if first_channel + count == depth:
                    if activation.number != NONE:
                        simd.store_vectors(tile, staged, 0, wide, columns)
                        activate(staged[: columns * wide], activation)
                        tile = simd.tile_of_columns(staged, 0, wide, vectors, columns)
                    simd.store_vectors(tile, out, to_row, plane, filters - first)
                else:
                    simd.store_vectors(tile, sums, sums_at, sums_pitch, columns)

    return fill


# Both shapes of tiles, which are one where there are few registers
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
def _inside(first, last, spacing, taps, size):
    """(first, end) of the taps along an axis that hit the source, for outputs whose first taps
    are ``first`` to ``last``."""
    begin = max(0, -(last // spacing))
    return begin, max(begin, min(taps, -((first - size) // spacing)))


@inner
def _list_taps(taps, outputs, sizes, columns, panel, channels):
    """Tabulate the taps of ``channels`` channels that hit the source, unless they are current."""
    (entries, places, current), (top, bottom, left, right), (pitch, plane) = taps, outputs, panel
    i, i_end = _inside(top, bottom, sizes.spacing, sizes.kernel_height, sizes.source_height)
    j, j_end = _inside(left, right, sizes.dilation, sizes.kernel_width, sizes.source_width)
    if (current[0], current[1], current[2], current[3]) == (i, i_end, j, j_end):
        return
    current[0], current[1], current[2], current[3] = i, i_end, j, j_end
    area, count = sizes.kernel_height * sizes.kernel_width, 0
    for c in range(channels):
        for a in range(i, i_end):
            for b in range(j, j_end):
                entries[count] = (c * area + a * sizes.kernel_width + b) * columns
                places[count] = c * plane + a * pitch + b * sizes.dilation
                count += 1
    current[4] = count


@inner
def _read_from(in_place, source, panel):
    return source if in_place else panel


@compiled_parallel
def _correlate(out, source, weights, start, sizes, tiling, activation, items, work, threads):
    lanes, columns, one_run = tiling.lanes, tiling.columns, tiling.one_run
    plane, widest = sizes.height * sizes.width, tiling.vectors * lanes
    span = (sizes.kernel_width - 1) * sizes.dilation
    padded, area = -(-sizes.filters // columns) * columns, sizes.kernel_height * sizes.kernel_width
    for _ in prange(threads):
        panel = np.empty(tiling.depth * tiling.panel_plane + 16 + widest, out.dtype)
        panel = panel[-(panel.ctypes.data // panel.itemsize) % 16 :]
        read = _read_from(tiling.in_place, source, panel)
        sums = np.empty(tiling.spilled * padded * widest, out.dtype)
        run = np.empty(padded * tiling.run_length, out.dtype)
        staged = np.empty(columns * widest, out.dtype)
        entries, places = np.empty((2, tiling.depth * area), np.int32)
        bounds_and_count = np.empty(5, np.int64)
        taps = _PanelTaps(entries, places, bounds_and_count)
        item = take(work)
        while item < len(items):
            n, y, rows, x, width = items[item]
            piece = _Piece(n, y, rows, x, width)
            pitch, panel_rows = pitch_of(width, span, one_run), rows - 1 + sizes.kernel_height
            corner = n * sizes.filters * plane + y * sizes.width + x
            length = (rows - 1) * pitch + width if one_run else width
            for c in range(0, sizes.depth, tiling.depth):
                count = min(tiling.depth, sizes.depth - c)
                read_at, read_plane = 0, panel_rows * pitch
                if tiling.in_place:
                    read_at, read_plane = (n * sizes.depth + c) * plane + x, plane
                else:
                    _fill_panel(panel, pitch, source, sizes, piece, n * sizes.depth + c, count)
                tile, bounds_and_count[0] = 0, -1
                for row in range(1 if one_run else rows):
                    done = 0
                    while done < length:
                        v = next_vectors(length, done, lanes, tiling.vectors, one_run)
                        tiles = 1
                        if tiling.strips and v == tiling.vectors:
                            tiles = max(1, (length - done) // (v * lanes))
                        if not one_run:
                            done = min(done, length - v * lanes)
                        top, left = sizes.top + y, sizes.left + x
                        bottom, right = top + rows - 1, left + width - 1
                        if not one_run:
                            top, left = top + row * sizes.spacing, left + done
                            bottom, right = top, left + tiles * v * lanes - 1
                        outputs = _Outputs(top, bottom, left, right)
                        _list_taps(taps, outputs, sizes, columns, (pitch, read_plane), count)
                        if one_run:
                            to = Runs(run, done, tiling.run_length)
                        else:
                            at = corner + row * sizes.spacing * sizes.width + done
                            to = Runs(out, at, plane)
                        place = (
                            tiles,
                            to,
                            Runs(sums, tile * padded * widest, v * lanes),
                            Runs(read, read_at + row * pitch + done, read_plane),
                            weights,
                            start,
                            sizes,
                            (c, count),
                            taps,
                            lanes,
                            activation,
                            staged,
                        )
                        if columns == _SHAPES[0][1]:
                            _fill(v, *place)
                        else:
                            _fill_other(v, *place)
                        done += tiles * v * lanes
                        tile += tiles
            if one_run:
                for k in range(sizes.filters):
                    for row in range(rows):
                        at = k * tiling.run_length + row * pitch
                        to = corner + k * plane + row * sizes.width
                        simd.copy(out, to, run, at, width)
            item = take(work)
