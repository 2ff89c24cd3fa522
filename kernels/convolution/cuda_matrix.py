"""Fully connected layers: a convolution whose window covers the map is a matrix product.

    out[a, b] = f(bias[a] + sum over t of first(a, t) * second(b, t))

    forward:           y[n, k]  = f(b[k] + sum_t w[k, t] * x[n, t]),  t = (c, i, j)
    gradient_input:    dx[n, t] = sum_k e[n, k] * w[k, t]
    gradient_weights:  dw[k, t] = sum_n e[n, k] * x[n, t]

Here a patch's channels and taps lie side by side, not its pixels, so neighbouring threads walk
along whichever index is contiguous in each factor. Forward, each sum runs through t in order in one
accumulator, as in ``cuda_forward``, and gives the same bits.

Multiply-adds: N*K*C*kh*kw each. Workspace: partial sums of ``gradient_weights`` over large batches.
"""

from collections.abc import Callable
from functools import cache
from math import gcd
from typing import NamedTuple

from kernels.activation.cuda import function as activation_function
from kernels.convolution import ConvolutionShape
from kernels.convolution.cuda_gradient_weights import add_partial_sums, pitch, side_by_side
from kernels.convolution.cuda_tile import Tile, in_turn, multiplier, positioner
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.launching import launch
from kernels.device.limits import ceil_division, flat
from kernels.device.loads import kept, load_from, load_if, place_of
from kernels.memory import cuda as memory

# Steps that one accumulator adds up when nothing demands that it be all of them
MOST_STEPS = 8192


class _Factor(NamedTuple):
    """How a slice of a factor is staged: see ``_factor``."""

    fetched: int  # values of each thread
    pitch: int  # of the steps in shared memory
    row_of: Callable  # the row whose value a slot of a step holds
    locate: Callable
    fetch_first: Callable
    fetch_next: Callable
    store: Callable


@cache
def _factor(extent: int, tile: Tile, along_steps: bool) -> _Factor:
    """Device functions that stage a factor's slices.

    A thread fetches vectors of up to 4 rows of a step, as far apart as the step has vectors, and
    stores them side by side, so that later a warp writes neighbours. Neighbouring threads fetch
    whichever index is contiguous: 8 steps and more, or rows. The first slice is the one with fewer
    steps, so that no other has to look where the factor ends.
    """
    together = side_by_side(extent)
    vectors = extent // together
    across = gcd(vectors, tile.threads // min(8, tile.depth) if along_steps else tile.threads)
    down = tile.threads // across
    # Vector (m, n) of a thread lies m * across vectors and n * down steps after its own
    wide, deep = vectors // across, tile.depth // down
    # Neighbours that store neighbouring steps must not meet in a bank
    pitch_ = pitch(extent) if along_steps else extent

    @device
    def row_of(slot):
        return u32(slot % u32(together) * u32(vectors) + slot // u32(together))

    @device
    def own():
        """The thread's first step, and vector."""
        thread = u32(cuda.threadIdx.x)
        if along_steps:
            return u32(thread % u32(down)), u32(thread // u32(down))
        return u32(thread // u32(across)), u32(thread % u32(across))

    @device
    def locate(first_row, row_count, first_step, step_count, indices, present):
        """Where a thread's elements of the first slice are, and which of its rows exist."""
        step, row = own()
        step, row = u32(step + first_step), u32(row + first_row)
        for m in range(wide):
            for b in range(together):
                r = u32(row + u32(m * across + b * vectors))
                present[together * m + b] = kept(u32(1) if r < row_count else u32(0))
                if along_steps:  # each row of a thread; one beyond the last is the last
                    r = u32(min(r, u32(row_count - u32(1))))
                    indices[together * m + b] = u32(r * step_count + step)
        if not along_steps:  # each step
            for n in range(deep):
                indices[n] = u32(u32(step + u32(n * down)) * row_count + row)

    @device
    def fetch_first(factor, indices, values):
        """Take the first slice. Beyond its last step, any element will do."""
        for m in range(wide):
            for n in range(deep):
                for b in range(together):
                    if along_steps:
                        at = u32(indices[together * m + b] + u32(n * down))
                    else:
                        at = u32(indices[n] + u32(m * across + b * vectors))
                    e = together * (m * deep + n) + b
                    values[e] = factor[u32(min(at, u32(factor.size - 1)))]

    @device
    def fetch_next(factor, indices, present, step, row_count, values):
        """Take the slice that begins ``step`` steps after the first one."""
        if along_steps:
            for m in range(wide):
                for b in range(together):
                    place = place_of(factor, u32(indices[together * m + b] + step))
                    for n in range(deep):
                        away = u32(n * down)
                        values[together * (m * deep + n) + b] = load_from(factor, place, away)
        else:
            for n in range(deep):
                place = place_of(factor, u32(indices[n] + step * row_count))
                for m in range(wide):
                    for b in range(together):
                        e, away = together * (m * deep + n) + b, u32(m * across + b * vectors)
                        exists = present[together * m + b]
                        values[e] = load_if(exists, factor, place, away, values[e])

    @device
    def store(values, shared, at):
        step, row = own()
        at = u32(at + step * u32(pitch_) + u32(together) * row)
        for m in range(wide):
            for n in range(deep):
                to = at + u32(n * down) * u32(pitch_) + u32(m * across * together)
                for b in range(together):
                    shared[to + u32(b)] = values[together * (m * deep + n) + b]

    fetched = extent * tile.depth // tile.threads
    return _Factor(fetched, pitch_, row_of, locate, fetch_first, fetch_next, store)


@cache
def _matrix_kernel(tile: Tile, dtype, activation, first_along_steps, second_along_steps):
    height, width, depth = u32(tile.height), u32(tile.width), u32(tile.depth)
    rows, columns = tile.rows, tile.columns
    count = rows * columns
    first_fetched, first_pitch, row_of, *staging = _factor(tile.height, tile, first_along_steps)
    locate_1, fetch_first_1, fetch_next_1, store_1 = staging
    second_fetched, second_pitch, column_of, *staging = _factor(
        tile.width, tile, second_along_steps
    )
    locate_2, fetch_first_2, fetch_next_2, store_2 = staging
    first_buffers, second_buffers = 2 * tile.depth * first_pitch, 2 * tile.depth * second_pitch
    first_buffer, second_buffer = u32(first_buffers // 2), u32(second_buffers // 2)
    multiply, multiply_some = multiplier(tile, dtype, first_pitch, second_pitch, tile.depth)
    own, own_row, own_column = positioner(tile)
    f = activation_function(activation, dtype)
    no_bias = dtype(-0.0)

    def write_row(i):
        @device
        def write(sums, corner, first_row, first_column, out, distances, bias, biased, extents):
            a = u32(first_row + row_of(own_row(corner[0], i)))
            first = u32(u32(cuda.blockIdx.z) * extents[0] * extents[1] + a * distances[0])
            for j in range(columns):
                b = u32(first_column + column_of(own_column(corner[1], j)))
                if a < extents[0] and b < extents[1]:
                    offset = bias[a] if biased else no_bias
                    at = u32(first + b * distances[1])
                    out[at] = f(sums[i * columns + j] + offset)

        return write

    # A loop over so many sums would not be unrolled, and would put them into memory
    write = in_turn([write_row(i) for i in range(rows)])

    @kernel(tile.threads, tile.blocks)
    def matrix_product(
        first,  # rows x steps, or steps x rows
        second,  # columns x steps, or steps x columns
        bias,  # rows
        out,  # splits x rows x columns, or splits x columns x rows
        distances,  # between rows, and between columns, of out
        row_count,
        column_count,
        step_count,
        share,  # steps of a split
        biased,
    ):
        first_tile = cuda.shared.array(first_buffers, dtype)
        second_tile = cuda.shared.array(second_buffers, dtype)
        sums = cuda.local.array(count, dtype)
        first_values = cuda.local.array(first_fetched, dtype)
        second_values = cuda.local.array(second_fetched, dtype)
        first_indices = cuda.local.array(first_fetched, u32)
        second_indices = cuda.local.array(second_fetched, u32)
        first_present = cuda.local.array(first_fetched, u32)
        second_present = cuda.local.array(second_fetched, u32)

        row_count, column_count, step_count = u32(row_count), u32(column_count), u32(step_count)
        first_row = u32(u32(cuda.blockIdx.y) * height)
        first_column = u32(u32(cuda.blockIdx.x) * width)
        start = u32(u32(cuda.blockIdx.z) * u32(share))
        for m in range(count):
            sums[m] = dtype(0)
        locate_1(first_row, row_count, start, step_count, first_indices, first_present)
        locate_2(first_column, column_count, start, step_count, second_indices, second_present)
        corner = own()

        # The first slice has the steps that do not fill one, the others are full
        left = u32(min(u32(step_count - start), u32(share)) - u32(1))
        steps = u32(left % depth + u32(1))
        left = u32(left + u32(1) - steps)
        step, buffer = steps, u32(0)
        fetch_first_1(first, first_indices, first_values)
        fetch_first_2(second, second_indices, second_values)
        store_1(first_values, first_tile, buffer)
        store_2(second_values, second_tile, buffer)
        cuda.syncthreads()
        if left > u32(0):
            fetch_next_1(first, first_indices, first_present, step, row_count, first_values)
            fetch_next_2(second, second_indices, second_present, step, column_count, second_values)
            multiply_some(steps, corner[0], corner[1], first_tile, second_tile, sums)
            buffer, steps, left = u32(1), depth, u32(left - depth)
            store_1(first_values, first_tile, first_buffer)
            store_2(second_values, second_tile, second_buffer)
            cuda.syncthreads()
        while left > u32(0):
            step = u32(step + depth)
            fetch_next_1(first, first_indices, first_present, step, row_count, first_values)
            fetch_next_2(second, second_indices, second_present, step, column_count, second_values)
            row = u32(buffer * first_buffer + corner[0])
            column = u32(buffer * second_buffer + corner[1])
            multiply(row, column, first_tile, second_tile, sums)
            buffer = u32(buffer ^ u32(1))
            store_1(first_values, first_tile, u32(buffer * first_buffer))
            store_2(second_values, second_tile, u32(buffer * second_buffer))
            cuda.syncthreads()
            left = u32(left - depth)
        row = u32(buffer * first_buffer + corner[0])
        column = u32(buffer * second_buffer + corner[1])
        multiply_some(steps, row, column, first_tile, second_tile, sums)
        distances, extents = (u32(distances[0]), u32(distances[1])), (row_count, column_count)
        write(sums, corner, first_row, first_column, out, distances, bias, biased, extents)

    return matrix_product


def _multiply(
    first, second, bias, activation, out, shape, distances, along_steps, share, tile: Tile
):
    """Launch the product of shape (rows, columns, steps) into ``out``."""
    rows, columns, steps = shape
    blocks = ceil_division(columns, tile.width), ceil_division(rows, tile.height)
    launch(
        _matrix_kernel(tile, out.dtype.type, activation, *along_steps),
        (*blocks, ceil_division(steps, share)),
        tile.threads,
        first,
        second,
        second if bias is None else bias,
        flat("out", out),
        distances,
        rows,
        columns,
        steps,
        share,
        bias is not None,
    )


def forward(x, weights, bias, shape: ConvolutionShape, activation, tile: Tile):
    """y for checked arguments and a window that covers the map."""
    y = memory.empty(shape.y, x.dtype)
    product, distances = (shape.filters, shape.batch, shape.taps), (1, shape.filters)
    factors = flat("weights", weights), flat("x", x)
    _multiply(*factors, bias, activation, y, product, distances, (True, True), shape.taps, tile)
    return y


def gradient_input(error, weights, shape: ConvolutionShape, tile: Tile):
    """dx for checked arguments and a window that covers the map."""
    gradient = memory.empty(shape.x, error.dtype)
    product, distances = (shape.batch, shape.taps, shape.filters), (shape.taps, 1)
    factors, share = (flat("error", error), flat("weights", weights)), shape.filters
    _multiply(*factors, None, None, gradient, product, distances, (True, False), share, tile)
    return gradient


def gradient_weights(x, error, shape: ConvolutionShape, tile: Tile):
    """dw for checked arguments and a window that covers the map."""
    gradient = memory.empty(shape.weights, x.dtype)
    product, distances = (shape.filters, shape.taps, shape.batch), (shape.taps, 1)
    factors = flat("error", error), flat("x", x)
    splits = ceil_division(shape.batch, MOST_STEPS)
    partial = gradient if splits == 1 else memory.empty((splits, *shape.weights), x.dtype)
    share = ceil_division(shape.batch, splits)
    _multiply(*factors, None, None, partial, product, distances, (False, False), share, tile)
    if splits > 1:
        add_partial_sums(partial, gradient, splits)
    return gradient
