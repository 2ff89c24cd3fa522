"""Convolution of listed cells on the host, in register tiles (``kernels.host.simd``).

    forward          output channels x 4 or 8 outputs, whose inputs lie wherever ``rows`` says
    weight gradient  output channels x neighbouring numbers of a window's row, over the outputs
    input gradient   input channels x outputs, over the output channels; then each product is
                     added to the cell that its tap reads. Nothing is multiplied in vain, however
                     few of the outputs around a cell are listed; only a tile whose cells belong to
                     several threads is computed by each of them

No sum depends on the number of threads.
"""

from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.activation.cpu import NONE, activate, numbered
from kernels.convolution.cpu_weights import packed, starts
from kernels.convolution.cpu_workspace import BLOCK, partial_shape
from kernels.foreign import operator
from kernels.host import simd
from kernels.host.choosing import by_vectors
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.simd import COLUMNS
from kernels.host.threads import ELEMENT_NS, MULTIPLY_ADD_NS
from kernels.host.work_sharing import queue, take
from kernels.listed_convolution import (
    forward_shape,
    gradient_input_shape,
    gradient_weights_shape,
)
from kernels.memory import cpu as memory

# Outputs of an item of the forward pass
OUTPUTS = 32
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
    sizes, vector_groups = _sizes(shape, x.itemsize)
    y = memory.empty(shape.y, x.dtype)
    start = starts(bias, shape.filters, simd.MAX_VECTORS * sizes.lanes, x.dtype)
    maps, filters = (y.reshape(-1), x.reshape(-1)), (packed(weights, sizes.lanes), start)
    shared = numbered(activation, x.dtype), queue(), numba.get_num_threads()
    work = MULTIPLY_ADD_NS * shape.multiply_adds
    _correlate(maps, rows, filters, sizes, vector_groups, *shared, work=work)
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
    sizes, vector_groups = _sizes(shape, x.itemsize)
    run = np.arange(-(-shape.run // COLUMNS) * COLUMNS)
    run = np.minimum(run, shape.run - 1)
    sums = partial_shape((shape.filters, len(run), sizes.height, 1), shape.outputs, x.itemsize)
    gradient = memory.empty(shape.weights, x.dtype)
    partial = memory.zeros(sums, x.dtype)  # last: it leaves its place whole to what follows
    maps, groups = (x.reshape(-1), error.reshape(-1)), (partial.reshape(-1), sums[0], sums[2])
    shared, work = (queue(), numba.get_num_threads()), MULTIPLY_ADD_NS * shape.multiply_adds
    _add_up(groups, maps, rows, sizes, vector_groups, run, *shared, work=work)
    _sum_groups(gradient, partial, len(run), work=ELEMENT_NS * partial.size)
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
    vector_groups = np.array(simd.vector_groups(-(-shape.channels // sizes.lanes)))
    threads = numba.get_num_threads()
    weights_by_tap = packed(weights, sizes.lanes, transposed=True, by_tap=True)
    maps = gradient.reshape(-1), error.reshape(-1), rows, weights_by_tap
    work = MULTIPLY_ADD_NS * shape.multiply_adds
    _scatter(*maps, sizes, vector_groups, queue(), threads, work=work)
    return gradient


def _sizes(shape, itemsize):
    """(``_ListSizes``, vector groups of the output channels)."""
    lanes = simd.lanes(itemsize)
    sizes = _ListSizes(shape.outputs, shape.filters, shape.channels, *shape.kernel, lanes)
    return sizes, np.array(simd.vector_groups(-(-shape.filters // lanes)))


def _forward_loop(vectors):
    """The innermost loops: ``vectors`` vectors of output channels of some outputs."""

    def fill(maps, rows, filters, sizes, first, outputs, scratch, activation):
        (out, source), (weights, start) = maps, filters
        (begin, end), (at, staged) = outputs, scratch
        lanes, depth, total = sizes.lanes, sizes.depth, sizes.filters
        wide, group = vectors * lanes, depth * sizes.height * sizes.width * lanes
        channels = min(wide, total - first * lanes)
        alone = channels == total  # no other vector group
        for p in range(begin, end, COLUMNS):
            _list_rows(at, rows, sizes, p, end)
            tile = simd.tile_of_vectors(start, first * lanes, vectors, COLUMNS)
            w = first * group
            for c in range(depth):
                for row in range(0, sizes.height * COLUMNS, COLUMNS):
                    for tap in range(c, c + sizes.width * depth, depth):
                        tile = simd.multiply_add(tile, weights, w, group, source, tap, (at, row))
                        w += lanes
            to, count = p * total + first * lanes, min(COLUMNS, end - p)
            # What lies beyond an output's channels is the next ones', which are written after it
            inside = to + (COLUMNS - 1) * total + wide <= end * total
            fits = channels == wide or (alone and inside)
            if fits and (alone or activation.number == NONE):
                simd.store_vectors(tile, out, to, total, count)
                continue
            simd.store_vectors(tile, staged, 0, wide, COLUMNS)
            if activation.number != NONE and not alone:
                activate(staged[: COLUMNS * wide], activation)
            for q in range(count):
                simd.copy(out, to + q * total, staged, q * wide, channels)
        if activation.number != NONE and alone:
            activate(out[begin * total : end * total], activation)

    return fill


_fill = by_vectors([_forward_loop(v) for v in range(1, simd.MAX_VECTORS + 1)])


@inner
def _list_rows(at, rows, sizes, first, end):
    """List where the windows of the next outputs begin, row by row; the last output is repeated."""
    for q in range(COLUMNS):
        p = min(first + q, end - 1)
        for i in range(sizes.height):
            at[i * COLUMNS + q] = rows[p, i] * sizes.depth


@compiled_parallel
def _correlate(maps, rows, filters, sizes, vector_groups, activation, items, threads):
    """
    Args:
        maps: (out, source), flat.
        filters: (weights, start): packed weights, and what the sums start from.
    """
    chunks = -(-sizes.outputs // OUTPUTS)
    for _ in prange(threads):
        at = np.empty(sizes.height * COLUMNS, np.int64)
        staged = np.empty(COLUMNS * simd.MAX_VECTORS * sizes.lanes, maps[0].dtype)
        item = take(items)
        while item < chunks * len(vector_groups):
            begin = item // len(vector_groups) * OUTPUTS
            first, v = vector_groups[item % len(vector_groups)]
            outputs = begin, min(begin + OUTPUTS, sizes.outputs)
            _fill(v, maps, rows, filters, sizes, first, outputs, (at, staged), activation)
            item = take(items)


def _weights_loop(vectors):
    """The innermost loops: output channels x numbers of a window's row, along some outputs."""

    def add_block(partial, to, pitch, errors, source, begins, run, lanes):
        whole = run[-1] + 1
        for column in range(0, len(run), COLUMNS):
            tile = simd.tile_of_zeros(partial, vectors, COLUMNS)
            if column + COLUMNS <= whole:
                for q in range(len(begins)):
                    e = q * vectors * lanes
                    at = begins[q] + column
                    tile = simd.multiply_add(tile, errors, e, lanes, source, at, None)
            else:
                for q in range(len(begins)):
                    e, last = q * vectors * lanes, (run, column)
                    tile = simd.multiply_add(tile, errors, e, lanes, source, begins[q], last)
            simd.add_vectors(tile, partial, to + column * pitch, pitch, COLUMNS)

    return add_block


_add_block = by_vectors([_weights_loop(v) for v in range(1, simd.MAX_VECTORS + 1)])


@compiled_parallel
def _add_up(sums, maps, rows, sizes, vector_groups, run, items, threads):
    """
    Args:
        sums: (partial, groups, pitch): partial sums of groups of outputs, flat, and the numbers
            from one to the next of a filter.
        maps: (source, error), flat.
    """
    (partial, groups, pitch), (source, error) = sums, maps
    lanes, filters, height = sizes.lanes, sizes.filters, sizes.height
    parts = -(-sizes.outputs // BLOCK)
    for _ in prange(threads):
        errors = np.empty(BLOCK * simd.MAX_VECTORS * lanes, partial.dtype)
        begins = np.empty(BLOCK, np.int64)
        item = take(items)
        while item < groups * len(vector_groups):
            group = item // len(vector_groups)
            first, v = vector_groups[item % len(vector_groups)]
            channels, wide = min(v * lanes, filters - first * lanes), v * lanes
            if channels < wide:
                errors[:] = 0
            for part in range(parts * group // groups, parts * (group + 1) // groups):
                begin = part * BLOCK
                count = min(BLOCK, sizes.outputs - begin)
                for q in range(count):
                    at = (begin + q) * filters + first * lanes
                    simd.copy(errors, q * wide, error, at, channels)
                for i in range(height):
                    for q in range(count):
                        begins[q] = rows[begin + q, i] * sizes.depth
                    to = (group * height + i) * len(run) * pitch + first * lanes
                    _add_block(v, partial, to, pitch, errors, source, begins[:count], run, lanes)
            item = take(items)


@compiled_parallel
def _sum_groups(out, partial, run):
    filters, depth, height, width = out.shape
    for part in prange(-(-filters // LINE)):
        first, end = part * LINE, min((part + 1) * LINE, filters)
        for c in range(depth):
            for k in range(first, end):
                for i in range(height):
                    for j in range(width):
                        number = i * run + j * depth + c
                        total = partial[0, number, k]
                        for group in range(1, len(partial)):
                            total += partial[group, number, k]
                        out[k, c, i, j] = total


def _input_loop(vectors):
    """The innermost loops: ``vectors`` vectors of input channels x outputs, at one tap."""

    def add_tap(owned, places, panel, tap, sizes, channels, staged):
        (out, owned_range), (weights, w, pitch) = owned, tap
        lanes, wide = sizes.lanes, vectors * sizes.lanes
        for q in range(0, len(places), COLUMNS):
            outputs = min(COLUMNS, len(places) - q)
            mine = _owned(places, q, outputs, owned_range)
            if mine == 0:
                continue
            tile = simd.tile_of_zeros(out, vectors, COLUMNS)
            for k in range(sizes.filters):
                at = k * PANEL + q
                tile = simd.multiply_add(tile, weights, w + k * lanes, pitch, panel, at, None)
            whole = channels // lanes if mine == outputs else 0
            if whole:
                simd.add_columns(tile, out, (places, q), outputs, whole)
            if whole * lanes == channels:
                continue
            simd.store_vectors(tile, staged, 0, wide, COLUMNS)
            for p in range(outputs):
                if owned_range[0] <= places[q + p] < owned_range[1]:
                    for c in range(whole * lanes, channels):
                        out[places[q + p] + c] += staged[p * wide + c]

    return add_tap


_add_tap = by_vectors([_input_loop(v) for v in range(1, simd.MAX_VECTORS + 1)])


@inner
def _owned(places, first, count, owned_range):
    """How many of the places are a thread's own."""
    mine = 0
    for q in range(first, first + count):
        mine += owned_range[0] <= places[q] < owned_range[1]
    return mine


@inner
def _reached(rows, begin, count, sizes, owned_range):
    """Whether windows of the outputs reach into a thread's own cells."""
    for p in range(begin, begin + count):
        for i in range(sizes.height):
            first = rows[p, i] * sizes.depth
            if first < owned_range[1] and first + sizes.width * sizes.depth > owned_range[0]:
                return True
    return False


@compiled_parallel
def _scatter(out, error, rows, weights, sizes, vector_groups, items, threads):
    """An item: a vector group for a part of the cells, as many parts as there are threads."""
    lanes, filters, depth = sizes.lanes, sizes.filters, sizes.depth
    taps, cells = sizes.height * sizes.width, len(out) // sizes.depth
    pitch = filters * taps * lanes
    for _ in prange(threads):
        panel = np.zeros(filters * PANEL, out.dtype)
        staged = np.empty(COLUMNS * simd.MAX_VECTORS * lanes, out.dtype)
        places = np.empty(PANEL, np.int64)
        item = take(items)
        while item < len(vector_groups) * threads:
            part, (first, v) = item // len(vector_groups), vector_groups[item % len(vector_groups)]
            owned_range = cells * part // threads * depth, cells * (part + 1) // threads * depth
            channels = min(v * lanes, depth - first * lanes)
            for begin in range(0, sizes.outputs, PANEL):
                count = min(PANEL, sizes.outputs - begin)
                if not _reached(rows, begin, count, sizes, owned_range):
                    continue
                for q in range(count):
                    for k in range(filters):
                        panel[k * PANEL + q] = error[(begin + q) * filters + k]
                for tap in range(taps):
                    i, j = tap // sizes.width, tap % sizes.width
                    for q in range(count):
                        places[q] = (rows[begin + q, i] + j) * depth + first * lanes
                    w = first * pitch + tap * filters * lanes
                    owned, read = (out, owned_range), (weights, w, pitch)
                    _add_tap(v, owned, places[:count], panel, read, sizes, channels, staged)
            item = take(items)
