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
                     no panel: copying the maps would take longer than their multiply-adds.

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
from kernels.convolution.cpu_rows_plan import inside, next_vectors, pitch_of, plan
from kernels.convolution.cpu_weights import starts
from kernels.host import simd
from kernels.host.buffers import aligned
from kernels.host.choosing import by_shape
from kernels.host.compilation import compiled_parallel, inlined, inner
from kernels.host.simd import Runs
from kernels.host.threads import MULTIPLY_ADD_NS
from kernels.host.work_sharing import queue, take


class _Piece(NamedTuple):
    """A work item: ``rows`` rows, ``spacing`` apart, and their columns."""

    image: int
    y: int
    rows: int
    x: int
    columns: int


class _Panel(NamedTuple):
    """Some input channels as a piece reads them: row r of channel ``first + c`` begins at
    ``numbers[at + c * plane + r * pitch]``."""

    numbers: np.ndarray  # the panel, or the source itself
    at: int
    pitch: int
    plane: int
    first: int
    channels: int


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


class _Tiles(NamedTuple):
    """Neighbouring tiles of a row, and where the first of them begins."""

    count: int
    read: int  # in each channel of the panel
    to: int  # in each channel of the outputs
    spilled: int  # in the partial sums


class _Scratch(NamedTuple):
    """What a thread fills tiles with: the taps of its panel, spilled sums, and room for a tile."""

    taps: _PanelTaps
    sums: np.ndarray
    staged: np.ndarray


class _Workspace(NamedTuple):
    """What a thread works in."""

    panel: np.ndarray
    run: np.ndarray
    scratch: _Scratch


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
    # Plain pairs: Numba takes longer to recognise named ones, which small calls would notice
    maps = out.reshape(-1), source.reshape(-1)
    filters = weights, starts(bias, sizes.filters, tiling.columns, out.dtype)
    work = MULTIPLY_ADD_NS * out.size * source.shape[1] * prod(kernel)
    queued = activation, items, queue(), threads
    _correlate(maps, filters, sizes, tiling, *queued, work=work)


def _loops(vectors, columns):
    """The innermost loops: all output channels, ``columns`` at a time, of neighbouring ``_Tiles``
    of ``vectors`` vectors of pixels.

    Sums start from ``start`` or, after the first input channels, from what was spilled, where they
    go before the last. Where there is an activation, the finished tile goes through it in
    ``staged``.
    """

    def fill(out, tiles, panel, filters, sizes, scratch, lanes, activation):
        (target, corner, plane), (count, read, to, spilled) = out, tiles
        (source, origin, _, _, first_channel, channels), (weights, start) = panel, filters
        (entries, places, bounds_and_count), sums, staged = scratch
        read, to = origin + read, corner + to
        depth, area = sizes.depth, sizes.kernel_height * sizes.kernel_width
        wide, reads = vectors * lanes, bounds_and_count[4]
        sums_tile = -(-sizes.filters // columns) * columns * wide
        for first in range(0, sizes.filters, columns):
            w = (first * depth + first_channel * columns) * area
            for number in range(count):
                x, to_row = read + number * wide, to + number * wide + first * plane
                sums_at = spilled + number * sums_tile + first * wide
                if first_channel == 0:
                    tile = simd.tile_of_numbers(start, first, vectors, columns)
                else:
                    tile = simd.tile_of_columns(sums, sums_at, wide, vectors, columns)
                for t in range(reads):
                    tile = simd.multiply_add(
                        tile, source, x + places[t], lanes, weights, w + entries[t], None
                    )
                if first_channel + channels == depth:
                    if activation.number != NONE:
                        simd.store_vectors(tile, staged, 0, wide, columns)
                        activate(staged[: columns * wide], activation)
                        tile = simd.tile_of_columns(staged, 0, wide, vectors, columns)
                    simd.store_vectors(tile, target, to_row, plane, sizes.filters - first)
                else:
                    simd.store_vectors(tile, sums, sums_at, wide, columns)

    return fill


_fill = by_shape(_loops)


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
def _pitch_of(piece, sizes, tiling):
    """Elements from one row of a piece's panel to the next."""
    return pitch_of(piece.columns, (sizes.kernel_width - 1) * sizes.dilation, tiling.one_run)


@inner
def _panel_of(memory, source, sizes, tiling, piece, first):
    """What a piece reads of some input channels, from number ``first`` on: copied to ``memory``
    unless maps are read in place."""
    channels, pitch = min(tiling.depth, sizes.depth - first), _pitch_of(piece, sizes, tiling)
    number = piece.image * sizes.depth + first
    if tiling.in_place:
        plane = sizes.height * sizes.width
        at = number * plane + piece.x
    else:
        plane, at = (piece.rows - 1 + sizes.kernel_height) * pitch, 0
        _fill_panel(memory, pitch, source, sizes, piece, number, channels)
    numbers = source if tiling.in_place else memory
    return _Panel(numbers, at, pitch, plane, first, channels)


@inner
def _outputs_of(piece, sizes, one_run, row, first, columns):
    """``_Outputs`` of some columns of a row, from number ``first`` on, or of a piece that makes one
    run."""
    top, left = sizes.top + piece.y, sizes.left + piece.x
    if one_run:
        return _Outputs(top, top + piece.rows - 1, left, left + piece.columns - 1)
    top, left = top + row * sizes.spacing, left + first
    return _Outputs(top, top, left, left + columns - 1)


@inner
def _list_taps(taps, outputs, sizes, columns, panel):
    """Tabulate the taps of a panel that hit the source, unless they are current."""
    (entries, places, current), (top, bottom, left, right) = taps, outputs
    i, i_end = inside(top, bottom, sizes.spacing, sizes.kernel_height, sizes.source_height)
    j, j_end = inside(left, right, sizes.dilation, sizes.kernel_width, sizes.source_width)
    if (current[0], current[1], current[2], current[3]) == (i, i_end, j, j_end):
        return
    current[0], current[1], current[2], current[3] = i, i_end, j, j_end
    area, count = sizes.kernel_height * sizes.kernel_width, 0
    for c in range(panel.channels):
        for a in range(i, i_end):
            for b in range(j, j_end):
                entries[count] = (c * area + a * sizes.kernel_width + b) * columns
                places[count] = c * panel.plane + a * panel.pitch + b * sizes.dilation
                count += 1
    current[4] = count


@inner
def _next_tiles(length, done, tiling):
    """(vectors of each, number, where they begin) of the tiles that follow the ``done`` numbers of
    a row."""
    v = next_vectors(length, done, tiling.lanes, tiling.vectors, tiling.one_run)
    count = 1
    if tiling.strips and v == tiling.vectors:
        count = max(1, (length - done) // (v * tiling.lanes))
    return v, count, done if tiling.one_run else min(done, length - v * tiling.lanes)


@inner
def _copy_rows(out, run, pitch, sizes, piece):
    """Copy the rows of a piece out of a run, without the columns between them."""
    (target, corner, plane), (source, _, length) = out, run
    for k in range(sizes.filters):
        for row in range(piece.rows):
            to, at = corner + k * plane + row * sizes.width, k * length + row * pitch
            simd.copy(target, to, source, at, piece.columns)


@inlined
def _fill_piece(maps, filters, sizes, tiling, activation, piece, workspace):
    """An item of work: all output channels of a piece."""
    (out, source), (memory, run, scratch) = maps, workspace
    lanes, one_run, taps = tiling.lanes, tiling.one_run, scratch.taps
    plane, below = sizes.height * sizes.width, sizes.spacing * sizes.width
    corner = piece.image * sizes.filters * plane + piece.y * sizes.width + piece.x
    in_rows, in_run = Runs(out, corner, plane), Runs(run, 0, tiling.run_length)
    to, tile_sums = in_run if one_run else in_rows, tiling.padded * tiling.vectors * lanes
    pitch = _pitch_of(piece, sizes, tiling)
    length = (piece.rows - 1) * pitch + piece.columns if one_run else piece.columns
    for c in range(0, sizes.depth, tiling.depth):
        panel = _panel_of(memory, source, sizes, tiling, piece, c)
        tile, taps.bounds_and_count[0] = 0, -1
        for row in range(1 if one_run else piece.rows):
            done = 0
            while done < length:
                v, count, done = _next_tiles(length, done, tiling)
                outputs = _outputs_of(piece, sizes, one_run, row, done, count * v * lanes)
                _list_taps(taps, outputs, sizes, tiling.columns, panel)
                places = row * pitch + done, row * below + done, tile * tile_sums
                tiles = _Tiles(count, *places)
                given = to, tiles, panel, filters, sizes, scratch, lanes, activation
                _fill(tiling.columns, v, *given)
                done += count * v * lanes
                tile += count
    if one_run:
        _copy_rows(in_rows, in_run, pitch, sizes, piece)


@inner
def _workspace(out, sizes, tiling):
    """What a thread works in, for maps like ``out``."""
    widest, area = tiling.vectors * tiling.lanes, sizes.kernel_height * sizes.kernel_width
    panel = aligned(tiling.depth * tiling.panel_plane + widest, out.dtype)
    sums = aligned(tiling.spilled * tiling.padded * widest, out.dtype)
    run = aligned(tiling.padded * tiling.run_length, out.dtype)
    staged = aligned(tiling.columns * widest, out.dtype)
    entries, places = np.empty((2, tiling.depth * area), np.int32)
    taps = _PanelTaps(entries, places, np.empty(5, np.int64))
    return _Workspace(panel, run, _Scratch(taps, sums, staged))


@compiled_parallel
def _correlate(maps, filters, sizes, tiling, activation, items, work, threads):
    """
    Args:
        maps: (out, source), flat.
        filters: (weights, start): packed weights, and what the sums start from.
        items: the items of ``plan``, which threads take from ``work``.
    """
    out, _ = maps
    for _ in prange(threads):
        workspace = _workspace(out, sizes, tiling)
        item = take(work)
        while item < len(items):
            n, y, rows, x, columns = items[item]
            piece = _Piece(n, y, rows, x, columns)
            _fill_piece(maps, filters, sizes, tiling, activation, piece, workspace)
            item = take(work)
