"""Fully connected layers: a convolution whose window covers the map is a matrix product.

    out[a, b] = f(bias[a] + sum over t of first(a, t) * second(b, t))

    forward:           y[n, k]  = f(b[k] + sum_t w[k, t] * x[n, t]),  t = (c, i, j)
    gradient_input:    dx[n, t] = sum_k e[n, k] * w[k, t]
    gradient_weights:  dw[k, t] = sum_n e[n, k] * x[n, t]

In each factor neighbouring threads read along the index that is contiguous in memory. Forward, each
sum runs through t in order in one accumulator, as in ``cuda_forward``, and has the same bits.

Multiply-adds: N*K*C*kh*kw each. Workspace: partial sums of ``gradient_weights`` over large batches.
"""

from functools import cache

from kernels.activation.cuda import function as activation_function
from kernels.convolution import ConvolutionShape
from kernels.convolution.cuda_factor import Factor, fetcher, first_fetcher, locator, storer
from kernels.convolution.cuda_gradient_weights import add_partial_sums
from kernels.convolution.cuda_tile import (
    SharedLayout,
    Tile,
    in_turn,
    main_loop,
    multiplier,
    opener,
    partial_multiplier,
    placer,
    positioner,
)
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.launching import launch
from kernels.device.limits import ceil_division, flat
from kernels.memory import cuda as memory

# The most steps that one accumulator adds up in a gradient by the weights
MOST_STEPS = 8192


@cache
def _writer(tile: Tile, dtype, activation):
    """A device function that writes a block's sums: out = f(sum + bias)."""
    columns, (_, row_of, column_of) = tile.columns, positioner(tile)
    row_held_by, column_held_by = placer(tile.height), placer(tile.width)
    f = activation_function(activation, dtype)
    no_bias = dtype(-0.0)

    def write_row(i):
        @device
        def write(sums, corner, first_row, first_column, out, distances, bias, biased, extents):
            a = u32(first_row + row_held_by(row_of(corner[0], i)))
            first = u32(u32(cuda.blockIdx.z) * extents[0] * extents[1] + a * distances[0])
            for j in range(columns):
                b = u32(first_column + column_held_by(column_of(corner[1], j)))
                if a < extents[0] and b < extents[1]:
                    offset = bias[a] if biased else no_bias
                    at = u32(first + b * distances[1])
                    out[at] = f(sums[i * columns + j] + offset)

        return write

    # A loop over all sums would not unroll, and would spill them to local memory
    return in_turn([write_row(i) for i in range(tile.rows)])


@cache
def _matrix_kernel(tile: Tile, dtype, activation, first_along_steps, second_along_steps):
    depth, count = u32(tile.depth), tile.rows * tile.columns
    first_factor, second_factor = (
        Factor(tile, tile.height, first_along_steps),
        Factor(tile, tile.width, second_along_steps),
    )
    locate_first, begin_first, fetch_first, store_first = (
        make(first_factor) for make in (locator, first_fetcher, fetcher, storer)
    )
    locate_second, begin_second, fetch_second, store_second = (
        make(second_factor) for make in (locator, first_fetcher, fetcher, storer)
    )
    first_fetched, second_fetched = first_factor.fetched, second_factor.fetched
    first_buffers, second_buffers = 2 * first_factor.buffer, 2 * second_factor.buffer
    layout = SharedLayout(
        (first_factor.pitch, second_factor.pitch), (first_factor.buffer, second_factor.buffer)
    )
    start = opener(tile, dtype)
    multiply = multiplier(tile, dtype, layout, 0, tile.depth)
    multiply_some = partial_multiplier(tile, dtype, layout)
    write = _writer(tile, dtype, activation)

    @device
    def fetch(step, source, values):
        (first, first_indices, first_present, row_count), of_second = source
        second, second_indices, second_present, column_count = of_second
        fetch_first(first, first_indices, first_present, row_count, step, values[0])
        fetch_second(second, second_indices, second_present, column_count, step, values[1])

    @device
    def store(values, buffer, tiles):
        store_first(values[0], buffer, tiles[0])
        store_second(values[1], buffer, tiles[1])

    @device
    def advance(step, source):
        return u32(step + depth)

    loop = main_loop(tile, [(fetch, multiply, store)], advance)

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
        (first_row, first_column), corner = start(sums)
        first_step = u32(u32(cuda.blockIdx.z) * u32(share))
        locate_first(first_row, row_count, first_step, step_count, first_indices, first_present)
        locate_second(
            first_column, column_count, first_step, step_count, second_indices, second_present
        )
        source = (
            (first, first_indices, first_present, row_count),
            (second, second_indices, second_present, column_count),
        )
        values, tiles = (first_values, second_values), (first_tile, second_tile)
        none = u32(0), u32(0)

        # The first slice has the remainder of the steps, the others are full
        left = u32(min(u32(step_count - first_step), u32(share)) - u32(1))
        steps = u32(left % depth + u32(1))
        left = u32(left + u32(1) - steps)
        step, buffer = steps, u32(0)
        begin_first(first, first_indices, first_values)
        begin_second(second, second_indices, second_values)
        store(values, buffer, tiles)
        cuda.syncthreads()
        if left > u32(0):
            fetch(step, source, values)
            multiply_some(steps, none, buffer, corner, tiles, sums)
            buffer, steps = u32(~buffer), depth
            store(values, buffer, tiles)
            cuda.syncthreads()
            left, buffer = loop(left, buffer, step, source, values, corner, tiles, sums)
        multiply_some(steps, none, buffer, corner, tiles, sums)
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
