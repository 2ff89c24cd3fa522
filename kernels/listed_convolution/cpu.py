"""Convolution of listed cells on the host, in register tiles (``kernels.host.simd``).

    forward          output channels x 3 to 8 outputs, whose inputs lie wherever ``rows`` says
    weight gradient  output channels x neighbouring numbers of a window's row, over the outputs
    input gradient   neighbouring numbers of a window's row x outputs, over the output channels;
                     then each product is added to the cell that its tap reads. Nothing is
                     multiplied in vain, however few of the outputs around a cell are listed; only
                     a tile whose cells belong to several threads is computed by each of them

No sum depends on the number of threads.
"""

from math import lcm
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate, numbered
from kernels.convolution.cpu_gradient_weights import add_groups
from kernels.convolution.cpu_weights import packed, packed_by_row, starts
from kernels.convolution.cpu_workspace import (
    BLOCK,
    PIXELS,
    least_items,
    partial_shape,
    tile_shape,
)
from kernels.foreign import operator
from kernels.host import simd
from kernels.host.buffers import aligned
from kernels.host.choosing import by_shape, by_vectors
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.simd import CHANNEL_COLUMNS, CHANNEL_VECTORS, COLUMNS
from kernels.host.threads import ELEMENT_NS, MULTIPLY_ADD_NS
from kernels.host.work_sharing import queue, take
from kernels.listed_convolution import (
    forward_shape,
    gradient_input_shape,
    gradient_weights_shape,
)
from kernels.memory import cpu as memory

# Outputs that the forward pass reads once for all vector groups: whole tiles of any shape
OUTPUTS = 4 * lcm(*CHANNEL_COLUMNS)
MOST_COLUMNS = max(CHANNEL_COLUMNS)
# Outputs whose errors the input gradient transposes at once. Its sums are taken in this order
PANEL = 64
# Output channels whose partial sums lie in one line of the cache, of float32
LINE = 16


class _ListSizes(NamedTuple):
    """Sizes of the arrays."""

    outputs: int
    filters: int
    depth: int  # C
    height: int  # of the kernel
    width: int
    lanes: int


@operator
def forward(x, rows, weights, bias=None, *, activation=None):
    """y = f(b + w * x), see ``kernels.listed_convolution``.

    Args:
        x: M x C x 1 x 1, float32 or float64.
        rows: P x kh, int32: where the rows of each output's window begin among the M cells.
        weights: K x C x kh x kw, same dtype.
        bias: K, same dtype, or None.
        activation: None, or one as ``kernels.activation`` describes them.

    Returns:
        P x K x 1 x 1. Workspace: a packed copy of the weights.
    """
    shape = forward_shape(x, rows, weights, bias, activation)
    sizes, vector_groups = _sizes(shape, x.itemsize, CHANNEL_VECTORS)
    y = memory.empty(shape.y, x.dtype)
    start = starts(bias, shape.filters, CHANNEL_VECTORS * sizes.lanes, x.dtype)
    maps, filters = (y.reshape(-1), x.reshape(-1)), (packed(weights, sizes.lanes), start)
    threads = numba.get_num_threads()
    shared = numbered(activation, x.dtype), _at_once(sizes, len(vector_groups), threads)
    work = MULTIPLY_ADD_NS * shape.multiply_adds
    _correlate(maps, rows, filters, sizes, vector_groups, *shared, queue(), threads, work=work)
    return y


@operator
def gradient_weights(x, rows, error, kernel):
    """dw, see ``kernels.listed_convolution``.

    Args:
        x: M x C x 1 x 1, float32 or float64.
        rows: P x kh, int32, as in ``forward``.
        error: P x K x 1 x 1, same dtype.
        kernel: (kh, kw).

    Returns:
        K x C x kh x kw. Workspace: partial sums as ``kernels.convolution.cpu`` takes.
    """
    shape = gradient_weights_shape(x, rows, error, kernel)
    most, columns = tile_shape(shape.run)
    most = CHANNEL_VECTORS if columns == COLUMNS else most
    sizes, vector_groups = _sizes(shape, x.itemsize, most)
    padded = -(-shape.run // columns) * columns
    run = np.minimum(np.arange(padded + MOST_COLUMNS), shape.run - 1)
    sums = partial_shape((shape.filters, padded, sizes.height, 1), shape.outputs, x.itemsize)
    gradient = memory.empty(shape.weights, x.dtype)
    partial = memory.zeros(sums, x.dtype)  # last: it leaves its place whole to what follows
    maps, groups = (x.reshape(-1), error.reshape(-1)), (partial.reshape(-1), *sums)
    tiles, shared = (columns, vector_groups, padded, run), (queue(), numba.get_num_threads())
    work = MULTIPLY_ADD_NS * shape.multiply_adds
    _add_up(groups, maps, rows, sizes, tiles, *shared, work=work)
    _sum_groups(gradient, partial, padded, work=ELEMENT_NS * partial.size)
    return gradient


@operator
def gradient_input(error, rows, weights, cells):
    """dx, see ``kernels.listed_convolution``.

    Args:
        error: P x K x 1 x 1, float32 or float64.
        rows: P x kh, int32, as in ``forward``.
        weights: K x C x kh x kw, same dtype.
        cells: M, of the input.

    Returns:
        M x C x 1 x 1. Workspace: a packed copy of the weights.
    """
    shape = gradient_input_shape(error, rows, weights, cells)
    gradient = memory.zeros(shape.x, error.dtype)
    sizes, _ = _sizes(shape, error.itemsize)
    vector_groups = np.array(simd.vector_groups(-(-shape.run // sizes.lanes)))
    threads = numba.get_num_threads()
    weights_by_row = packed_by_row(weights, sizes.lanes)
    maps = gradient.reshape(-1), error.reshape(-1), rows, weights_by_row
    work = MULTIPLY_ADD_NS * shape.multiply_adds
    _scatter(*maps, sizes, vector_groups, threads, work=work)
    return gradient


def _sizes(shape, itemsize, most=simd.MAX_VECTORS):
    """(``_ListSizes``, vector groups of the output channels, ``most`` vectors in each)."""
    lanes = simd.lanes(itemsize)
    sizes = _ListSizes(shape.outputs, shape.filters, shape.channels, *shape.kernel, lanes)
    return sizes, np.array(simd.vector_groups(-(-shape.filters // lanes), most))


def _at_once(sizes, groups, threads):
    """How many blocks of outputs and vector groups an item of the forward pass has: many, as two
    threads that write side by side wait for each other's lines of the cache."""
    blocks = -(-sizes.outputs // OUTPUTS) * groups
    most = max(1, blocks // (2 * least_items(threads)))
    return most // groups * groups or most


def _forward_loop(vectors):
    """The innermost loops: ``vectors`` vectors of output channels of some outputs."""
    columns = CHANNEL_COLUMNS[vectors - 1]

    def fill(maps, rows, filters, sizes, first, outputs, scratch, activation):
        (out, source), (weights, start) = maps, filters
        (begin, end), (at, staged) = outputs, scratch
        lanes, depth, total = sizes.lanes, sizes.depth, sizes.filters
        wide, group = vectors * lanes, depth * sizes.height * sizes.width * lanes
        channels = min(wide, total - first * lanes)
        alone = channels == total  # no other vector group
        for p in range(begin, end, columns):
            _list_rows(at, rows, sizes, p, end, columns)
            tile = simd.tile_of_vectors(start, first * lanes, vectors, columns)
            w = first * group
            for c in range(depth):
                for row in range(0, sizes.height * columns, columns):
                    for tap in range(c, c + sizes.width * depth, depth):
                        tile = simd.multiply_add(tile, weights, w, group, source, tap, (at, row))
                        w += lanes
            to, count = p * total + first * lanes, min(columns, end - p)
            # What lies beyond an output's channels is the next ones', which are written after it
            inside = to + (columns - 1) * total + wide <= end * total
            fits = channels == wide or (alone and inside)
            if fits and (alone or activation.number == NONE):
                simd.store_vectors(tile, out, to, total, count)
                continue
            simd.store_vectors(tile, staged, 0, wide, columns)
            if activation.number != NONE and not alone:
                activate(staged[: columns * wide], activation)
            for q in range(count):
                simd.copy(out, to + q * total, staged, q * wide, channels)
        if activation.number != NONE and alone:
            activate(out[begin * total : end * total], activation)

    return fill


_fill = by_vectors([_forward_loop(v) for v in range(1, CHANNEL_VECTORS + 1)])


@inner
def _list_rows(at, rows, sizes, first, end, columns):
    """List where the windows of the next outputs begin, row by row; the last output is repeated."""
    for q in range(columns):
        p = min(first + q, end - 1)
        for i in range(sizes.height):
            at[i * columns + q] = rows[p, i] * sizes.depth


@compiled_parallel
def _correlate(maps, rows, filters, sizes, vector_groups, activation, at_once, items, threads):
    """
    Args:
        maps: (out, source), flat.
        filters: (weights, start): packed weights, and what the sums start from.
        at_once: pairs of ``OUTPUTS`` outputs and a vector group of an item.
    """
    pairs = -(-sizes.outputs // OUTPUTS) * len(vector_groups)
    for _ in prange(threads):
        at = np.empty(sizes.height * MOST_COLUMNS, np.int64)
        staged = aligned(MOST_COLUMNS * CHANNEL_VECTORS * sizes.lanes, maps[0].dtype)
        item = take(items)
        while item * at_once < pairs:
            for pair in range(item * at_once, min((item + 1) * at_once, pairs)):
                begin = pair // len(vector_groups) * OUTPUTS
                first, v = vector_groups[pair % len(vector_groups)]
                outputs = begin, min(begin + OUTPUTS, sizes.outputs)
                _fill(v, maps, rows, filters, sizes, first, outputs, (at, staged), activation)
            item = take(items)


def _weights_loop(vectors, columns):
    """The innermost loops: output channels x numbers of a window's row, along some outputs."""

    def add_block(partial, to, pitch, errors, source, begins, padded, run, lanes):
        whole = run[-1] + 1
        for column in range(0, padded, columns):
            tile = simd.tile_of_zeros(partial, vectors, columns)
            if column + columns <= whole:
                for q in range(len(begins)):
                    e = q * vectors * lanes
                    at = begins[q] + column
                    tile = simd.multiply_add(tile, errors, e, lanes, source, at, None)
            else:
                for q in range(len(begins)):
                    e, last = q * vectors * lanes, (run, column)
                    tile = simd.multiply_add(tile, errors, e, lanes, source, begins[q], last)
            many = min(columns, padded - column)
            simd.add_vectors(tile, partial, to + column * pitch, pitch, many)

    return add_block


_add_block = by_shape(_weights_loop, CHANNEL_COLUMNS)


@compiled_parallel
def _add_up(sums, maps, rows, sizes, tiles, items, threads):
    """
    Args:
        sums: (partial, groups, numbers, pitch): partial sums of groups of outputs, flat, and their
            shape.
        maps: (source, error), flat.
        tiles: (columns, vector_groups, padded, run): columns of a tile, vectors of filters, sums
            of a window's row, and its numbers, the last one again until all tiles are full.
    """
    (partial, groups, numbers, pitch), (source, error) = sums, maps
    columns, vector_groups, padded, run = tiles
    lanes, filters, height = sizes.lanes, sizes.filters, sizes.height
    blocks = -(-sizes.outputs // BLOCK)
    at_once, widest = min(sizes.outputs, PIXELS), vector_groups[:, 1].max()
    for _ in prange(threads):
        errors = aligned(at_once * widest * lanes, partial.dtype)
        begins = np.empty(at_once, np.int64)
        item = take(items)
        while item < groups * len(vector_groups):
            group = item // len(vector_groups)
            first, v = vector_groups[item % len(vector_groups)]
            channels, wide = min(v * lanes, filters - first * lanes), v * lanes
            if channels < wide:
                errors[:] = 0
            end = min(blocks * (group + 1) // groups * BLOCK, sizes.outputs)
            for begin in range(blocks * group // groups * BLOCK, end, PIXELS):
                count = min(PIXELS, end - begin)
                for q in range(count):
                    at = (begin + q) * filters + first * lanes
                    simd.copy(errors, q * wide, error, at, channels)
                for i in range(height):
                    for q in range(count):
                        begins[q] = rows[begin + q, i] * sizes.depth
                    to = (group * numbers + i * padded) * pitch + first * lanes
                    read = errors, source, begins[:count], padded, run, lanes
                    _add_block(columns, v, partial, to, pitch, *read)
            item = take(items)


@compiled_parallel
def _sum_groups(out, partial, run):
    filters, depth, height, width = out.shape
    for part in prange(-(-filters // LINE)):
        first, end = part * LINE, min((part + 1) * LINE, filters)
        for c in range(depth):
            for i in range(height):
                for j in range(width):
                    number = i * run + j * depth + c
                    add_groups(partial, number, first, end)
                    for k in range(first, end):
                        out[k, c, i, j] = partial[0, number, k]


def _input_loop(vectors):
    """The innermost loops: ``vectors`` vectors of what a row of taps reads x outputs."""

    def add_row(owned, places, panel, row, sizes, numbers, staged):
        (out, begin, end), (weights, w, pitch) = owned, row
        lanes, wide = sizes.lanes, vectors * sizes.lanes
        for q in range(0, len(places), COLUMNS):
            outputs = min(COLUMNS, len(places) - q)
            least, most = _reach(places[q : q + outputs], numbers)
            if most <= begin or end <= least:
                continue
            tile = simd.tile_of_zeros(out, vectors, COLUMNS)
            for k in range(sizes.filters):
                at = k * PANEL + q
                tile = simd.multiply_add(tile, weights, w + k * lanes, pitch, panel, at, None)
            # Runs of neighbours overlap: all threads add whole vectors first, and then the rest
            alone, whole = begin <= least and most <= end, numbers // lanes * lanes
            if alone and whole:
                simd.add_columns(tile, out, (places, q), outputs, whole // lanes)
            if alone and whole == numbers:
                continue
            simd.store_vectors(tile, staged, 0, wide, COLUMNS)
            if not alone:
                _add_owned(out, begin, end, staged, wide, places[q : q + outputs], whole)
            for p in range(outputs):
                to = places[q + p]
                for c in range(whole, numbers):
                    if alone or begin <= to + c < end:
                        out[to + c] += staged[p * wide + c]

    return add_row


_add_row = by_vectors([_input_loop(v) for v in range(1, simd.MAX_VECTORS + 1)])


@inner
def _add_owned(out, begin, end, staged, wide, places, numbers):
    """Add the first numbers of each output to those of a thread's own cells."""
    for p in range(len(places)):
        to = places[p]
        for c in range(max(0, begin - to), min(numbers, end - to)):
            out[to + c] += staged[p * wide + c]


@inner
def _reach(places, numbers):
    """From where to where the numbers at some places reach."""
    least, most = places[0], places[0]
    for q in range(1, len(places)):
        least, most = min(least, places[q]), max(most, places[q])
    return least, most + numbers


@compiled_parallel
def _scatter(out, error, rows, weights, sizes, vector_groups, parts):
    """Each thread adds to cells of its own, a part of them."""
    lanes, filters, height = sizes.lanes, sizes.filters, sizes.height
    cells, run = len(out) // sizes.depth, sizes.width * sizes.depth
    pitch = filters * height * lanes
    for part in prange(parts):
        panel = aligned(filters * PANEL, out.dtype)
        panel[:] = 0
        staged = aligned(COLUMNS * simd.MAX_VECTORS * lanes, out.dtype)
        places = np.empty((height, PANEL), np.int64)
        begin = cells * part // parts * sizes.depth
        end = cells * (part + 1) // parts * sizes.depth
        for block in range(0, sizes.outputs, PANEL):
            count, reached = min(PANEL, sizes.outputs - block), False
            for i in range(height):
                for q in range(count):
                    places[i, q] = rows[block + q, i] * sizes.depth
                least, most = _reach(places[i, :count], run)
                reached |= least < end and begin < most
            if not reached:
                continue
            for q in range(count):
                for k in range(filters):
                    panel[k * PANEL + q] = error[(block + q) * filters + k]
            for first, v in vector_groups:
                at, numbers = first * lanes, min(v * lanes, run - first * lanes)
                owned = out[at:], begin - at, end - at
                for i in range(height):
                    row = weights, first * pitch + i * filters * lanes, pitch
                    _add_row(v, owned, places[i, :count], panel, row, sizes, numbers, staged)
