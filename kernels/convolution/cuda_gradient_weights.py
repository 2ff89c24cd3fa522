"""Gradient by the weights: an implicit matrix product of the error map and the input.

    dw[k, t] = sum over p = (n, oy, ox) of e[n, k, oy, ox] * x[n, c, oy*s + i*d, ox*s + j*d],
    t = (c, i, j)

Here the pixels are the steps. They are shared out over blocks, whose partial sums a second kernel
adds in a fixed order: no atomics, and the same bits every time. A thread has one pixel of a slice;
its address advances by one slice, with carry from column to row to image. A table in shared memory
holds the distances of filters and taps from a pixel.

Multiply-adds: N*Ho*Wo*K*C*kh*kw. Bytes: each block of filters reads the input and each block of
taps reads the error map once. Workspace: the partial sums, at most ``PARTIAL_BYTES``.
"""

from functools import cache

from kernels.convolution import ConvolutionShape, most_partial_sums
from kernels.convolution.cuda_pixel_tile import (
    DEEPEST,
    Columns,
    first_column,
    layout_of,
    look_nothing_up,
    parts_of,
    place_of_pixel,
    repeater,
    steps_of_turn,
)
from kernels.convolution.cuda_sizes import ConvolutionSizes, tap_offset
from kernels.convolution.cuda_tile import (
    Tile,
    in_turn,
    main_loop,
    opener,
    partial_multiplier,
    placer,
    positioner,
)
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import (
    BUSY_WARPS,
    ELEMENTWISE_THREADS,
    MAX_GRID,
    ceil_division,
    flat,
    threads_of_spread,
)
from kernels.device.loads import ALIGNMENT, computed_once, place_of, shared_after, shared_place
from kernels.device.multiprocessors import multiprocessors
from kernels.memory import cuda as memory

# Enough blocks for any device of today, and few enough for the partial sums to be added quickly
WANTED_BLOCKS = 1024
# Pixels that a block adds up in one accumulator: fewer would be slow, more would lose accuracy
FEWEST_PIXELS, MOST_PIXELS = 256, 8192


@cache
def _pixel_opener(depth):
    """``Columns.open`` of maps."""

    @device
    def open_pixel(first, end, lane, team, first_tap, arrays, look_ups, g):
        error, x, _, _ = arrays
        filters, plane = u32(g.filters), u32(g.output_plane)
        output_y, output_x = computed_once(u32(g.output[0])), computed_once(u32(g.output[1]))
        pixel_y, pixel_x = u32(g.pixel[0]), u32(g.pixel[1])
        p = u32(min(u32(first + lane), u32(g.pixels - 1)))
        n, of_map = divmod_u32(p, plane)
        oy, ox = divmod_u32(of_map, output_x)
        next_image = computed_once(u32(u32(filters - u32(1)) * plane))
        error_pixel = u32(p + n * next_image)
        x_pixel = u32(n * u32(g.image) + oy * pixel_y + ox * pixel_x)
        slice_n, slice_x = divmod_u32(depth, plane)
        slice_y, slice_x = divmod_u32(slice_x, output_x)
        advance_error = u32(depth + slice_n * next_image)
        advance_x = u32(slice_n * u32(g.image) + slice_y * pixel_y + slice_x * pixel_x)
        next_row = computed_once(u32(pixel_y - output_x * pixel_x))
        next_map = computed_once(u32(u32(g.image) - output_y * pixel_y))
        by = advance_error, advance_x, slice_y, slice_x
        cursor = end, (output_y, output_x), by, next_row, next_map, next_image
        places = place_of(error, error_pixel), place_of(x, x_pixel)
        return (lane, *places, error_pixel, x_pixel, oy, ox), cursor

    return open_pixel


@cache
def _pixel_advancer(depth):
    """``Columns.advance`` of maps: with carry from column to row to image."""

    @device
    def advance(pixel, source):
        """Past the last pixel, re-reads the current one; the result is unused."""
        p, _, _, error_pixel, x_pixel, oy, ox = pixel
        error, x, _, cursor = source
        end, size, by, next_row, next_map, next_image = cursor
        p = u32(p + depth)
        if p < end:
            error_pixel = u32(error_pixel + by[0])
            x_pixel = u32(x_pixel + by[1])
            oy, ox = u32(oy + by[2]), u32(ox + by[3])
            # A multiplication by 0 or 1 takes fewer instructions than a select
            beyond = computed_once(u32(1) if ox >= size[1] else u32(0))
            ox, oy = u32(ox - beyond * size[1]), u32(oy + beyond)
            x_pixel = u32(x_pixel + beyond * next_row)
            if oy >= size[0]:
                oy = u32(oy - size[0])
                x_pixel = u32(x_pixel + next_map)
                error_pixel = u32(error_pixel + next_image)
        return p, place_of(error, error_pixel), place_of(x, x_pixel), error_pixel, x_pixel, oy, ox

    return advance


@cache
def _taps_of_maps(tile: Tile):
    """The taps of maps: one place serves all columns, and advances by one slice."""
    depth, tap_of = u32(tile.depth), placer(tile.width)

    @device
    def distance(first_tap, slot, g):
        t = u32(first_tap + tap_of(slot))
        return tap_offset(min(t, u32(u32(g.taps) - u32(1))), g)

    functions = distance, _pixel_opener(depth), _pixel_advancer(depth)
    return Columns(steps_of_turn(tile), 1, 0, *functions, place_of_pixel, look_nothing_up)


@cache
def _writer(tile: Tile, dtype):
    """A device function that writes a block's sums to a split's partial sums, or adds them."""
    columns, (_, row_of, column_of) = tile.columns, positioner(tile)
    filter_of, tap_of = placer(tile.height), placer(tile.width)

    def write_row(i):
        @device
        def write(sums, corner, partial, add, first_filter, first_tap, filters, taps):
            k = u32(first_filter + filter_of(row_of(corner[0], i)))
            for j in range(columns):
                t = u32(first_tap + tap_of(column_of(corner[1], j)))
                if k < filters and t < taps:
                    at = u32((u32(cuda.blockIdx.z) * filters + k) * taps + t)
                    before = partial[at] if add else dtype(0)
                    partial[at] = before + sums[i * columns + j]

        return write

    # A loop over all sums would not unroll, and would spill them to local memory
    return in_turn([write_row(i) for i in range(tile.rows)])


@cache
def _tabulator(tile: Tile, columns: Columns):
    """Device function (table, slot, first_filter, first_tap, g): fills a slot of the table with
    the distance of a filter or a tap, clamped to the last, or with what the columns keep there."""
    height, filter_of, tap_distance = u32(tile.height), placer(tile.height), columns.distance

    @device
    def tabulate(table, slot, first_filter, first_tap, g):
        if slot < height:
            k = u32(first_filter + filter_of(slot))
            table[slot] = u32(min(k, u32(u32(g.filters) - u32(1))) * u32(g.output_plane))
        else:
            table[slot] = tap_distance(first_tap, u32(slot - height), g)

    return tabulate


def _filler(fetch, multiply, store):
    """A device function that works off a part of the first slice, while there is none before."""

    @device
    def fill(buffer, cursor, source, values, corner, tiles, sums):
        fetch(cursor, source, values)
        store(values, buffer, tiles)

    return fill


@cache
def accumulator(tile: Tile, dtype, columns: Columns):
    """A kernel's body, the device function
    (error, x, listed, partial, first, split_pixels, add, taps, g).

    ``listed`` is the table of a list, ``taps`` are the columns of ``partial``; the rest is as in
    ``convolution_gradient_weights``.
    """
    depth, count, layout = u32(tile.depth), tile.rows * tile.columns, layout_of(tile)
    between, size, across = u32(layout.pitches[0]), layout.buffers[0], u32(first_column(tile))
    table_size, buffers = tile.height + tile.width + columns.shared, 2 * size
    slots, threads = u32(table_size), u32(tile.threads)
    look_up_count, looked_up = columns.registers, u32(4 * (tile.threads // columns.steps))
    start, tabulate, open_pixel = opener(tile, dtype), _tabulator(tile, columns), columns.open
    (parts, fetched), repeated = parts_of(tile, dtype, columns), repeater(tile, columns.steps)
    fill = repeated([_filler(*part) for part in parts])
    loop = main_loop(tile, parts, columns.advance, together=repeated)
    multiply_rest, write = partial_multiplier(tile, dtype, layout), _writer(tile, dtype)

    @device
    def accumulate(error, x, listed, partial, first, split_pixels, add, taps, g):
        shared = cuda.shared.array(buffers, dtype, ALIGNMENT)
        table = cuda.shared.array(table_size, u32, ALIGNMENT)
        sums = cuda.local.array(count, dtype)
        registers = cuda.local.array(fetched, dtype)
        look_ups = cuda.local.array(look_up_count, u32)

        filters = u32(g.filters)
        (first_filter, first_tap), corner = start(sums)

        slot = u32(cuda.threadIdx.x)
        while slot < slots:
            tabulate(table, slot, first_filter, first_tap, g)
            slot = u32(slot + threads)
        cuda.syncthreads()

        # This thread's pixel, and what moves it on by a slice
        team, lane = divmod_u32(cuda.threadIdx.x, depth)
        lane = computed_once(lane)
        first = u32(u32(first) + u32(cuda.blockIdx.z) * u32(split_pixels))
        end = computed_once(u32(min(u32(g.pixels - first), u32(split_pixels))))
        arrays = error, x, listed, table
        pixel, cursor = open_pixel(first, end, lane, team, first_tap, arrays, look_ups, g)
        team = u32(u32(4) * team)
        # Slices are stored into the buffer that is not multiplied: at first into the second one
        at = u32(u32(size) + lane * between + team)
        at_table, at = shared_place(table, team), shared_place(shared, at)
        end_table = computed_once(shared_after(table, at_table, looked_up))
        source, values = (error, x, table, cursor), (registers, (at_table, end_table), at)
        inner = corner[0], u32(corner[1] + across)
        places = shared_place(shared, inner[0]), shared_place(shared, inner[1])
        tiles, buffer = (shared, shared), u32(0)
        fill(u32(~buffer), pixel, source, values, places, tiles, sums)
        cuda.syncthreads()
        left, buffer = loop(end, buffer, pixel, source, values, places, tiles, sums)
        multiply_rest(left, (u32(0), u32(0)), buffer, inner, tiles, sums)
        write(sums, corner, partial, add, first_filter, first_tap, filters, taps)

    return accumulate


@cache
def _gradient_kernel(tile: Tile, dtype):
    columns = _taps_of_maps(tile)
    accumulate = accumulator(tile, dtype, columns)

    @kernel(tile.threads, tile.blocks, tile.depth // columns.steps, tile=tile)
    def convolution_gradient_weights(
        error,  # N*K*Ho*Wo
        x,  # N*C*H*W
        partial,  # splits x K*taps
        first,  # the first pixel of the first split
        split_pixels,
        add,  # whether to add to what ``partial`` holds
        g,  # ConvolutionSizes
    ):
        accumulate(error, x, x, partial, first, split_pixels, add, u32(g.taps), g)

    return convolution_gradient_weights


@cache
def _add_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def add_partial(
        partial,  # splits x K*taps
        gradient,  # K*taps
        splits,
    ):
        i = u32(cuda.grid(1))
        if i < gradient.size:
            total = partial[i]
            split = u32(1)
            while split < splits:
                total += partial[u32(split * u32(gradient.size) + i)]
                split = u32(split + u32(1))
            gradient[i] = total

    return add_partial


def add_partial_sums(partial, gradient, splits: int):
    """gradient = the sum of the ``splits`` gradients in ``partial``, in order.

    A thread adds up all parts of a weight, and weights are few: small blocks share them out.
    """
    arguments = flat("partial sums", partial), flat("gradient", gradient), splits
    threads = threads_of_spread(gradient.size, multiprocessors().count)
    launch_over(_add_kernel(gradient.dtype.type), gradient.size, *arguments, threads=threads)


def _split_pixels(pixels: int, tile: Tile, tiles: int, most: int, count: int) -> int:
    """Pixels of a split: from the size that gives about ``WANTED_BLOCKS`` blocks to twice that
    size, the one that least loads the busiest multiprocessor.

    Args:
        tiles: number of tiles of the gradient, each with a block for every split.
        most: the most splits of a launch.
        count: number of multiprocessors.
    """
    wanted = ceil_division(WANTED_BLOCKS, tiles)
    least = min(max(ceil_division(pixels, wanted), FEWEST_PIXELS), MOST_PIXELS)
    least = ceil_division(least, DEEPEST) * DEEPEST

    def work(split_pixels):
        on_fullest = ceil_division(tiles * min(ceil_division(pixels, split_pixels), most), count)
        launches = ceil_division(pixels, split_pixels * most)
        return launches * split_pixels * max(on_fullest, BUSY_WARPS / tile.warp_count)

    return min(range(least, min(2 * least, MOST_PIXELS) + 1, DEEPEST), key=work)


def shared_out(pixels: int, tiles: int, partial_bytes: int, tile: Tile) -> tuple[int, int]:
    """(pixels of a split, splits of a launch).

    Args:
        pixels: number of all pixels.
        tiles: as ``_split_pixels``.
        partial_bytes: bytes of the sums of all tiles.
    """
    most = min(MAX_GRID[2], most_partial_sums(partial_bytes))
    split_pixels = _split_pixels(pixels, tile, tiles, most, multiprocessors().count)
    return split_pixels, min(ceil_division(pixels, split_pixels), most)


def gradient_weights(x, error, shape: ConvolutionShape, tile: Tile):
    """dw for checked arguments; see ``kernels.convolution.cuda.gradient_weights``."""
    dtype = x.dtype.type
    gradient = memory.empty(shape.weights, x.dtype)
    sizes = ConvolutionSizes.of(shape)
    tiles = (ceil_division(shape.taps, tile.width), ceil_division(shape.filters, tile.height))
    sums_bytes = gradient.size * x.dtype.itemsize
    split_pixels, splits = shared_out(sizes.pixels, tiles[0] * tiles[1], sums_bytes, tile)
    partial = gradient if splits == 1 else memory.empty((splits, *shape.weights), x.dtype)
    x, error, flat_partial = flat("x", x), flat("error", error), flat("partial sums", partial)
    for start in range(0, sizes.pixels, splits * split_pixels):
        here = min(splits, ceil_division(sizes.pixels - start, split_pixels))
        launch(
            _gradient_kernel(tile, dtype),
            (*tiles, here),
            tile.threads,
            error,
            x,
            flat_partial,
            start,
            split_pixels,
            start > 0,
            sizes,
        )
    if splits > 1:
        add_partial_sums(partial, gradient, splits)
    return gradient
