"""Fully connected layers: a convolution whose window covers the map is a matrix product.

    out[a, b] = f(bias[b] + sum over t of first(a, t) * second(b, t))

    forward:           y[n, k]  = f(b[k] + sum_t x[n, t] * w[k, t]),  t = (c, i, j)
    gradient_input:    dx[n, t] = sum_k e[n, k] * w[k, t]
    gradient_weights:  dw[k, t] = sum_n e[n, k] * x[n, t]

Here a patch's channels and taps lie side by side, not its pixels, so neighbouring threads walk
along whichever index is contiguous in each factor. Forward, each sum runs through t in order in one
accumulator, as in ``cuda_forward``, and gives the same bits.

Multiply-adds: N*K*C*kh*kw each. Workspace: partial sums of ``gradient_weights`` over large batches.
"""

from functools import cache

from kernels import geometry
from kernels.activation.cuda import function as activation_function
from kernels.convolution.cuda_gradient_weights import add_partial_sums, pitch
from kernels.convolution.cuda_tile import Tile, in_turn, multiplier, positioner
from kernels.cuda_api import ceil_division, cuda, device, flat, kernel, launch, u32
from kernels.cuda_loads import kept, load_from, load_if, place_of
from kernels.memory import cuda as memory

# Steps that one accumulator adds up when nothing demands that it be all of them
MOST_STEPS = 8192


def _quads(extent: int, tile: Tile) -> int:
    """Elements of a slice of a factor that each thread fetches, in fours."""
    return extent * tile.depth // (4 * tile.threads)


@cache
def _factor(extent: int, tile: Tile, along_steps: bool):
    """Device functions (locate, fetch_first, fetch_next, store) that stage a factor's slices.

    A thread fetches the rows a, a + extent/4, a + extent/2 and a + 3*extent/4 of a step and stores
    them side by side, as slots 4*a to 4*a + 3, so that later a warp writes neighbours. Neighbouring
    threads fetch whichever index is contiguous: 8 steps and more, or rows. The first slice is the
    one with fewer steps, so that no other has to look where the factor ends.
    """
    quads, quarter, pitch_ = _quads(extent, tile), extent // 4, u32(pitch(extent))
    # Quad m of a thread lies m % near * far_steps steps and m // near * far_rows rows after its own
    if along_steps:
        across = min(8, tile.depth)
        near, far_steps, far_rows = tile.depth // across, across, tile.threads // across
    else:
        across = quarter
        near, far_steps, far_rows = quads, tile.threads // across, 0

    @device
    def own():
        """The thread's first (step, row)."""
        thread = u32(cuda.threadIdx.x)
        near, far = u32(thread % u32(across)), u32(thread // u32(across))
        return (near, far) if along_steps else (far, near)

    @device
    def locate(first_row, row_count, first_step, step_count, indices, present):
        """Where a thread's elements of the first slice are, and which of its rows exist."""
        step, row = own()
        step, row = u32(step + first_step), u32(row + first_row)
        for b in range(4):
            present[b] = kept(u32(1) if u32(row + u32(b * quarter)) < row_count else u32(0))
        if along_steps:  # each row of a thread; one beyond the last is the last
            for m in range(quads // near):
                for b in range(4):
                    r = u32(row + u32(m * far_rows + b * quarter))
                    r = u32(min(r, u32(row_count - u32(1))))
                    indices[4 * m + b] = u32(r * step_count + step)
        else:  # each step
            for m in range(quads):
                indices[m] = u32(u32(step + u32(m * far_steps)) * row_count + row)

    @device
    def fetch_first(factor, indices, values):
        """Take the first slice. Beyond its last step, any element will do."""
        for m in range(quads):
            for b in range(4):
                if along_steps:
                    at = u32(indices[m // near * 4 + b] + u32(m % near * far_steps))
                else:
                    at = u32(indices[m] + u32(b * quarter))
                values[4 * m + b] = factor[u32(min(at, u32(factor.size - 1)))]

    @device
    def fetch_next(factor, indices, present, step, row_count, values):
        """Take the slice that begins ``step`` steps after the first one."""
        if along_steps:
            for m in range(quads // near):
                for b in range(4):
                    place = place_of(factor, u32(indices[4 * m + b] + step))
                    for n in range(near):
                        away = u32(n * far_steps)
                        values[4 * (m * near + n) + b] = load_from(factor, place, away)
        else:
            for m in range(quads):
                place = place_of(factor, u32(indices[m] + step * row_count))
                for b in range(4):
                    e, away = 4 * m + b, u32(b * quarter)
                    values[e] = load_if(present[b], factor, place, away, values[e])

    @device
    def store(values, shared, at):
        step, row = own()
        at = u32(at + step * pitch_ + u32(4) * row)
        for m in range(quads):
            to = at + u32(m % near * far_steps) * pitch_ + u32(m // near * far_rows * 4)
            for b in range(4):
                shared[to + u32(b)] = values[4 * m + b]

    return locate, fetch_first, fetch_next, store


@cache
def _matrix_kernel(tile: Tile, dtype, activation, first_along_steps, second_along_steps):
    height, width, depth = u32(tile.height), u32(tile.width), u32(tile.depth)
    rows, columns = tile.rows, tile.columns
    count = rows * columns
    first_fetched, second_fetched = 4 * _quads(tile.height, tile), 4 * _quads(tile.width, tile)
    pitches = pitch(tile.height), pitch(tile.width)
    first_buffers, second_buffers = (2 * tile.depth * p for p in pitches)
    first_buffer, second_buffer = u32(first_buffers // 2), u32(second_buffers // 2)
    row_quads, column_quads = u32(tile.height // 4), u32(tile.width // 4)
    multiply, multiply_some = multiplier(tile, dtype, *pitches, tile.depth)
    own, row_of, column_of = positioner(tile)
    locate_1, fetch_first_1, fetch_next_1, store_1 = _factor(tile.height, tile, first_along_steps)
    locate_2, fetch_first_2, fetch_next_2, store_2 = _factor(tile.width, tile, second_along_steps)
    f = activation_function(activation, dtype)
    no_bias = dtype(-0.0)

    def write_row(i):
        @device
        def write(
            sums, corner, first_row, first_column, out, bias, biased, row_count, column_count
        ):
            slot = row_of(corner[0], i)
            a = u32(first_row + slot % u32(4) * row_quads + slot // u32(4))
            for j in range(columns):
                slot = column_of(corner[1], j)
                b = u32(first_column + slot % u32(4) * column_quads + slot // u32(4))
                if a < row_count and b < column_count:
                    offset = bias[b] if biased else no_bias
                    at = u32((u32(cuda.blockIdx.z) * row_count + a) * column_count + b)
                    out[at] = f(sums[i * columns + j] + offset)

        return write

    # A loop over so many sums would not be unrolled, and would put them into memory
    write = in_turn([write_row(i) for i in range(rows)])

    @kernel(tile.threads, tile.blocks)
    def matrix_product(
        first,  # rows x steps, or steps x rows
        second,  # columns x steps, or steps x columns
        bias,  # columns
        out,  # splits x rows x columns
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
        first_present = cuda.local.array(4, u32)
        second_present = cuda.local.array(4, u32)

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
        extents = row_count, column_count
        write(sums, corner, first_row, first_column, out, bias, biased, *extents)

    return matrix_product


def _multiply(first, second, bias, activation, out, shape, along_steps, share, tile: Tile):
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
        rows,
        columns,
        steps,
        share,
        bias is not None,
    )


def forward(x, weights, bias, shape: geometry.ConvolutionShape, activation, tile: Tile):
    """y for checked arguments and a window that covers the map."""
    y = memory.empty(shape.y, x.dtype)
    product = shape.batch, shape.filters, shape.taps
    factors = flat("x", x), flat("weights", weights)
    _multiply(*factors, bias, activation, y, product, (True, True), shape.taps, tile)
    return y


def gradient_input(error, weights, shape: geometry.ConvolutionShape, tile: Tile):
    """dx for checked arguments and a window that covers the map."""
    gradient = memory.empty(shape.x, error.dtype)
    product = shape.batch, shape.taps, shape.filters
    factors = flat("error", error), flat("weights", weights)
    _multiply(*factors, None, None, gradient, product, (True, False), shape.filters, tile)
    return gradient


def gradient_weights(x, error, shape: geometry.ConvolutionShape, tile: Tile):
    """dw for checked arguments and a window that covers the map."""
    gradient = memory.empty(shape.weights, x.dtype)
    product = shape.filters, shape.taps, shape.batch
    factors = flat("error", error), flat("x", x)
    splits = ceil_division(shape.batch, MOST_STEPS)
    partial = gradient if splits == 1 else memory.empty((splits, *shape.weights), x.dtype)
    share = ceil_division(shape.batch, splits)
    _multiply(*factors, None, None, partial, product, (False, False), share, tile)
    if splits > 1:
        add_partial_sums(partial, gradient, splits)
    return gradient
