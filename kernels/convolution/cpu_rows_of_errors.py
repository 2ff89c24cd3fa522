"""Input gradients of stride 1 on the host, over rows of errors, beside which no zeros are read.

    dx[n, c, y, j*dx + x] += sum over i, k of weights[k, c, i, j] error[n, k, y - i*dy, x]

Where taps lie far apart, a row of inputs is much longer than the row of errors that each tap adds
to it, and a tile of neighbouring inputs (``cpu_rows.py``) mostly meets the zeros beside the errors.
Here a tile is some input channels x neighbouring *errors*: for one column of taps it sums all rows
of taps and some filters in registers; it begins with the sums of the cells that it falls on, and
stores them again.

An item of work is a few input channels of a few rows that lie as far apart as the rows of taps, so
that they share most of what they read. A few filters at a time are copied into a panel, rows of
taps after each other and their filters within, as the weights are packed: what a tile reads of
either is one run. What it reads of the panel fits the first-level cache and serves all the item's
channels and columns of taps. The sums of an item stay in the second-level cache, and are copied to
the gradient when all filters are in.

Each cell is one chain of fused multiply-adds in the order (slice of filters, j, i from the last to
the first, filter); rows of taps outside the errors are left out. The order depends on the shapes of
kernel and errors, not on how the work is shared. Behind the end of a row a tile reads zeros, and
adds them to the cells that follow, which is nothing as long as weights are finite.
"""

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.convolution.cpu_rows_plan import inside, next_vectors
from kernels.convolution.cpu_weights import packed_by_column
from kernels.convolution.cpu_workspace import (
    error_rows,
    filters_at_once,
    row_spacing,
    tile_shape,
)
from kernels.host import simd
from kernels.host.buffers import aligned
from kernels.host.choosing import by_shape
from kernels.host.compilation import compiled_parallel, inlined, inner
from kernels.host.threads import MULTIPLY_ADD_NS
from kernels.host.work_sharing import queue, take


class _Sizes(NamedTuple):
    """Sizes of maps and kernel, and distances between taps."""

    channels: int
    filters: int
    height: int
    width: int
    error_height: int
    error_width: int
    kernel_height: int
    kernel_width: int
    spacing: int  # between rows of taps
    dilation: int  # between columns of taps


class _Tiling(NamedTuple):
    """Tiles, and what a thread works in."""

    lanes: int
    vectors: int  # of a tile, at most
    columns: int  # of a tile: input channels
    groups: int  # of as many channels, in all
    depth: int  # filters at once
    pitch: int  # elements from one row of the panel to the next
    sums_pitch: int
    panel: int  # elements of the largest panel
    sums: int


class _Piece(NamedTuple):
    """A work item: ``rows`` rows of inputs, ``spacing`` apart, and some groups of channels."""

    image: int
    y: int
    rows: int
    first: int
    groups: int


def correlate(out, error, weights, window):
    """Fill ``out``, N x C x H x W, the gradient by the inputs.

    Args:
        error: N x K x Ho x Wo, same dtype.
        weights: K x C x kh x kw, same dtype, all finite.
        window: the ``Window``, of stride 1.
    """
    threads = numba.get_num_threads()
    sizes, tiling, items = plan(out.shape, error.shape, window, out.itemsize, threads)
    weights = packed_by_column(weights, tiling.columns, tiling.depth)
    maps = out.reshape(-1), error.reshape(-1)
    work = MULTIPLY_ADD_NS * error.size * out.shape[1] * window.cells
    _correlate(maps, weights, sizes, tiling, items, queue(), threads, work=work)


@lru_cache(1024)
def plan(out, error, window, itemsize, threads):
    """(``_Sizes``, ``_Tiling``, items: rows of numbers like ``_Piece``)."""
    (batch, channels, height, width), (_, filters, *error_size) = out, error
    rows, parts, *places = error_rows(out, error, window, itemsize, threads)
    lanes, (vectors, columns) = simd.lanes(itemsize), tile_shape(channels)
    depth, groups = filters_at_once(error, channels, window, lanes), -(-channels // columns)
    y, spacing = np.arange(height), row_spacing(window)
    y = y[y // spacing % rows == 0]
    heights, first = np.minimum(rows, -(-(height - y) // spacing)), np.arange(parts + 1)
    first = first * groups // parts
    n, a, b = (index.ravel() for index in np.indices((batch, len(y), parts)))
    items = np.stack([n, y[a], heights[a], first[b], first[b + 1] - first[b]], axis=1)
    of_taps = *window.kernel, spacing, window.dilation[1]
    sizes = _Sizes(channels, filters, height, width, *error_size, *of_taps)
    return sizes, _Tiling(lanes, vectors, columns, groups, depth, *places), items


def _loops(vectors, columns):
    """The innermost loops: all channels and columns of taps of an item, for one tile of errors."""

    def add(sums, panel, weights, steps, counts, strides, lanes):
        (sums, to, sums_pitch), (panel, at, pitch), (weights, first) = sums, panel, weights
        (groups, kernel_width), (tap, group, dilation) = counts, strides
        for j in range(kernel_width):
            for g in range(groups):
                place = to + g * columns * sums_pitch + j * dilation
                w = first + g * group + j * tap
                tile = simd.tile_of_columns(sums, place, sums_pitch, vectors, columns)
                for t in range(steps):
                    tile = simd.multiply_add(
                        tile, panel, at + t * pitch, lanes, weights, w + t * columns, None
                    )
                simd.store_vectors(tile, sums, place, sums_pitch, columns)

    return add


_add = by_shape(_loops)


@inner
def _fill_panel(panel, error, sizes, tiling, piece, first, filters):
    """Copy the errors of some filters, from number ``first`` on, that an item reads: rows of taps
    from the last on."""
    height, width, pitch = sizes.error_height, sizes.error_width, tiling.pitch
    to = 0
    for row in range(piece.rows - 1 + sizes.kernel_height):
        y = piece.y + (row + 1 - sizes.kernel_height) * sizes.spacing
        if 0 <= y < height:
            for k in range(filters):
                number = piece.image * sizes.filters + first + k
                simd.copy(panel, to, error, (number * height + y) * width, width)
                panel[to + width : to + pitch] = 0
                to += pitch
        else:
            to += filters * pitch


@inlined
def _fill_piece(maps, weights, sizes, tiling, piece, panel, sums):
    (out, error), columns, channels = maps, tiling.columns, piece.groups * tiling.columns
    lanes, pitch, sums_pitch = tiling.lanes, tiling.pitch, tiling.sums_pitch
    kernel_height, length = sizes.kernel_height, sizes.error_width
    sums[: piece.rows * channels * sums_pitch] = 0
    for k in range(0, sizes.filters, tiling.depth):
        depth = min(tiling.depth, sizes.filters - k)
        _fill_panel(panel, error, sizes, tiling, piece, k, depth)
        tap = kernel_height * depth * columns
        group = sizes.kernel_width * tap
        slice_at = k * tiling.groups * columns * kernel_height * sizes.kernel_width
        for row in range(piece.rows):
            top = piece.y + (row + 1 - kernel_height) * sizes.spacing
            i, i_end = inside(top, top, sizes.spacing, kernel_height, sizes.error_height)
            steps, done = (i_end - i) * depth, 0
            first = slice_at + piece.first * group + i * depth * columns
            counts, strides = (piece.groups, sizes.kernel_width), (tap, group, sizes.dilation)
            while done < length:
                v = next_vectors(length, done, lanes, tiling.vectors, True)
                into = sums, row * channels * sums_pitch + done, sums_pitch
                read = panel, (row + i) * depth * pitch + done, pitch
                given = into, read, (weights, first), steps, counts, strides, lanes
                _add(columns, v, *given)
                done += v * lanes
    c = piece.first * columns
    for row in range(piece.rows):
        y = piece.y + row * sizes.spacing
        for p in range(min(channels, sizes.channels - c)):
            plane = piece.image * sizes.channels + c + p
            to, at = (plane * sizes.height + y) * sizes.width, (row * channels + p) * sums_pitch
            simd.copy(out, to, sums, at, sizes.width)


@compiled_parallel
def _correlate(maps, weights, sizes, tiling, items, work, threads):
    """
    Args:
        maps: (out, error), flat.
        items: the items of ``plan``, which threads take from ``work``.
    """
    out, _ = maps
    for _ in prange(threads):
        panel = aligned(tiling.panel, out.dtype)
        sums = aligned(tiling.sums, out.dtype)
        item = take(work)
        while item < len(items):
            n, y, rows, first, groups = items[item]
            piece = _Piece(n, y, rows, first, groups)
            _fill_piece(maps, weights, sizes, tiling, piece, panel, sums)
            item = take(work)
