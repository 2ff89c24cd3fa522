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
from typing import NamedTuple

from kernels.activation.cuda import function as activation_function
from kernels.checks import Pair
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


class Product(NamedTuple):
    """A matrix product, and where its results lie."""

    distances: Pair  # between rows, and between columns, of the results
    rows: int
    columns: int
    steps: int
    split_steps: int


@cache
def _stager(first: Factor, second: Factor):
    """Device functions (begin, fetch, store): slices of both factors; see ``cuda_factor``.

    ``source`` holds of each factor (array, indices, present, extent), ``values`` its registers.
    """
    begin_first, fetch_first, store_first = (
        make(first) for make in (first_fetcher, fetcher, storer)
    )
    begin_second, fetch_second, store_second = (
        make(second) for make in (first_fetcher, fetcher, storer)
    )

    @device
    def begin(source, values):
        (first, first_indices, _, _), (second, second_indices, _, _) = source
        begin_first(first, first_indices, values[0])
        begin_second(second, second_indices, values[1])

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

    return begin, fetch, store


@cache
def _accumulator(tile: Tile, dtype, first: Factor, second: Factor):
    """Device function (count, source, values, corner, tiles, sums): adds ``count`` steps."""
    depth = u32(tile.depth)
    layout = SharedLayout((first.pitch, second.pitch), (first.buffer, second.buffer))
    begin, fetch, store = _stager(first, second)
    multiply = multiplier(tile, dtype, layout, 0, tile.depth)
    multiply_some = partial_multiplier(tile, dtype, layout)

    @device
    def advance(step, source):
        return u32(step + depth)

    loop = main_loop(tile, [(fetch, multiply, store)], advance)

    @device
    def accumulate(count, source, values, corner, tiles, sums):
        # The first slice has the remainder of the steps, the others are full
        left = u32(count - u32(1))
        steps = u32(left % depth + u32(1))
        left = u32(left + u32(1) - steps)
        none, step, buffer = (u32(0), u32(0)), steps, u32(0)
        begin(source, values)
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

    return accumulate


@cache
def _matrix_kernel(tile: Tile, dtype, activation, first_along_steps, second_along_steps):
    of_first = Factor(tile, tile.height, first_along_steps)
    of_second = Factor(tile, tile.width, second_along_steps)
    first_fetched, second_fetched = of_first.fetched, of_second.fetched
    first_buffers, second_buffers = 2 * of_first.buffer, 2 * of_second.buffer
    locate_first, locate_second = locator(of_first), locator(of_second)
    sum_count, start = tile.rows * tile.columns, opener(tile, dtype)
    accumulate = _accumulator(tile, dtype, of_first, of_second)
    write = _writer(tile, dtype, activation)

    @kernel(tile.threads, tile.blocks, tile=tile)
    def matrix_product(
        first,  # rows x steps, or steps x rows
        second,  # columns x steps, or steps x columns
        bias,  # rows
        out,  # splits x rows x columns, or splits x columns x rows
        g,  # Product
        biased,
    ):
        first_tile = cuda.shared.array(first_buffers, dtype)
        second_tile = cuda.shared.array(second_buffers, dtype)
        sums = cuda.local.array(sum_count, dtype)
        values = cuda.local.array(first_fetched, dtype), cuda.local.array(second_fetched, dtype)
        first_indices = cuda.local.array(first_fetched, u32)
        second_indices = cuda.local.array(second_fetched, u32)
        first_present = cuda.local.array(first_fetched, u32)
        second_present = cuda.local.array(second_fetched, u32)

        rows, columns, steps = u32(g.rows), u32(g.columns), u32(g.steps)
        (first_row, first_column), corner = start(sums)
        first_step = u32(u32(cuda.blockIdx.z) * u32(g.split_steps))
        locate_first(first_row, rows, first_step, steps, first_indices, first_present)
        locate_second(first_column, columns, first_step, steps, second_indices, second_present)
        source = (
            (first, first_indices, first_present, rows),
            (second, second_indices, second_present, columns),
        )
        count, tiles = min(u32(steps - first_step), u32(g.split_steps)), (first_tile, second_tile)
        accumulate(count, source, values, corner, tiles, sums)
        distances, extents = (u32(g.distances[0]), u32(g.distances[1])), (rows, columns)
        write(sums, corner, first_row, first_column, out, distances, bias, biased, extents)

    return matrix_product


def _multiply(factors, bias, out, product: Product, activation, along_steps, tile: Tile):
    """Launch a product of two ``factors``, of which ``along_steps`` tells how they lie."""
    splits = ceil_division(product.steps, product.split_steps)
    blocks = ceil_division(product.columns, tile.width), ceil_division(product.rows, tile.height)
    launch(
        _matrix_kernel(tile, out.dtype.type, activation, *along_steps),
        (*blocks, splits),
        tile.threads,
        *factors,
        factors[1] if bias is None else bias,
        flat("out", out),
        product,
        bias is not None,
    )


def forward(x, weights, bias, shape: ConvolutionShape, activation, tile: Tile):
    """y for checked arguments and a window that covers the map."""
    y = memory.empty(shape.y, x.dtype)
    product = Product((1, shape.filters), shape.filters, shape.batch, shape.taps, shape.taps)
    factors = flat("weights", weights), flat("x", x)
    _multiply(factors, bias, y, product, activation, (True, True), tile)
    return y


def gradient_input(error, weights, shape: ConvolutionShape, tile: Tile):
    """dx for checked arguments and a window that covers the map."""
    gradient = memory.empty(shape.x, error.dtype)
    product = Product((shape.taps, 1), shape.batch, shape.taps, shape.filters, shape.filters)
    factors = flat("error", error), flat("weights", weights)
    _multiply(factors, None, gradient, product, None, (True, False), tile)
    return gradient


def gradient_weights(x, error, shape: ConvolutionShape, tile: Tile):
    """dw for checked arguments and a window that covers the map."""
    gradient = memory.empty(shape.weights, x.dtype)
    splits = ceil_division(shape.batch, MOST_STEPS)
    split_steps = ceil_division(shape.batch, splits)
    product = Product((shape.taps, 1), shape.filters, shape.taps, shape.batch, split_steps)
    factors = flat("error", error), flat("x", x)
    partial = gradient if splits == 1 else memory.empty((splits, *shape.weights), x.dtype)
    _multiply(factors, None, partial, product, None, (False, False), tile)
    if splits > 1:
        add_partial_sums(partial, gradient, splits)
    return gradient
