"""Gradient by the weights: an implicit matrix product of the error map and the input.

    dw[k, t] = sum over p = (n, oy, ox) of e[n, k, oy, ox] * x[n, c, oy*s + i*d, ox*s + j*d],
    t = (c, i, j)

Here the pixels are the steps. They are shared out over blocks, whose partial sums a second kernel
adds in a fixed order: no atomics, and the same bits every time. A thread has one pixel of a slice,
and moves through the pixels like an odometer; a table in shared memory holds the distances of
filters and taps from a pixel. A thread reads its pixel of 4 filters, or at 4 taps, next to what
its neighbour reads, and stores the 4 values side by side, so that the transposition causes no bank
conflicts.

Multiply-adds: N*Ho*Wo*K*C*kh*kw. Bytes: each block of filters reads the input and each block of
taps reads the error map once. Workspace: the partial sums, at most ``PARTIAL_BYTES``.
"""

from dataclasses import replace
from functools import cache

from kernels.convolution import PARTIAL_BYTES, ConvolutionShape
from kernels.convolution.cuda_sizes import ConvolutionSizes, tap_offset
from kernels.convolution.cuda_tile import (
    BY_PLACE,
    Layout,
    Tile,
    adder,
    in_turn,
    main_loop,
    opener,
    partial_multiplier,
    pitch,
    placer,
    positioner,
    side_by_side,
)
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, ceil_division, flat
from kernels.device.loads import (
    computed_once,
    load_from,
    load_shared,
    multiple_of,
    place_of,
    shared_after,
    shared_place,
    store_shared,
)
from kernels.memory import cuda as memory

# Enough blocks for any device of today, and few enough for the partial sums to be added quickly
WANTED_BLOCKS = 1024
# Pixels that a block adds up in one accumulator: fewer would be slow, more would lose accuracy
FEWEST_PIXELS, MOST_PIXELS = 256, 8192
# Instructions of the main loop: the most that the first instruction cache holds, 16 KB, with some
# to spare; and estimates of what a slice takes, and each value that a thread fetches
LONGEST_LOOP, OF_SLICE, OF_VALUE = 1020, 50, 2.5
# Steps of a slice: the depths that tiles have, which the pixels of a block are a multiple of, so
# that sums do not depend on it
DEEPEST, SHALLOWEST = 32, 8
# Of shared memory, that the system takes for each block since compute capability 8.0
RESERVED_BYTES = 1024


def steps_of_turn(tile: Tile) -> int:
    """Steps of a slice that the code of the main loop has one after the other, a power of two.

    A slice takes as many turns of that code as it has so many steps.
    """
    loads = sum(n // run for n, run in zip((tile.rows, tile.columns), tile.runs))
    fetched = OF_VALUE * (tile.height + tile.width) / tile.threads
    of_step, steps = tile.rows * tile.columns + loads + fetched, tile.depth
    while steps > 1 and OF_SLICE + steps * of_step > LONGEST_LOOP:
        steps //= 2
    return steps


def fitted(tile: Tile, shared_bytes: int) -> Tile:
    """The tile with the deepest slices with which a multiprocessor has room for ``tile.blocks``.

    Args:
        shared_bytes: shared memory of a multiprocessor.
    """
    if blocks_with_room(tile, shared_bytes) >= tile.blocks or tile.depth // 2 < SHALLOWEST:
        return tile
    shallower = replace(tile, depth=tile.depth // 2)
    vectors = 4 * tile.threads // shallower.depth
    if tile.height % vectors or tile.width % vectors:  # not as much to fetch for every thread
        return tile
    return fitted(shallower, shared_bytes)


def blocks_with_room(tile: Tile, shared_bytes: int) -> int:
    """Blocks of float32 that find room in a multiprocessor's shared memory."""
    table, slices = tile.height + tile.width, 2 * _layout(tile).buffers[0]
    return shared_bytes // (4 * (table + slices) + RESERVED_BYTES)


def _first_column(tile: Tile) -> int:
    """Where a step's columns begin, side by side with its rows: at a multiple of a vector."""
    return ceil_division(tile.height, 4) * 4


def _layout(tile: Tile) -> Layout:
    """Of rows and columns in one shared array."""
    between = pitch(_first_column(tile) + ceil_division(tile.width, 4) * 4)
    return Layout((between, between), (tile.depth * between,) * 2)


@cache
def _parts(tile: Tile, dtype):
    """The parts of a turn, and the most values that a thread fetches for one of them.

    A turn is divided into parts to save registers. Each fetches some rows and columns of a slice,
    multiplies some steps of the previous slice, and stores what it fetched.
    """
    extents, teams = (tile.height, tile.width), tile.threads // tile.depth
    pitches, steps = _layout(tile).pitches, steps_of_turn(tile)
    turns, part_steps = tile.depth // steps, min(8, steps)
    count, itemsize = steps // part_steps, dtype(0).itemsize
    row_run, column_run = (u32(min(16, run * itemsize)) for run in tile.runs)

    def stage(factor, part, slot):
        """(fetch, store, next slot) for a part of the rows, or of the columns."""
        together = side_by_side(extents[factor])
        vectors = extents[factor] // together // teams
        # Vectors of fewer than 4 are all fetched in the first turn: places move on by 4
        spread = turns if together == 4 else 1
        of_turn, distance = ceil_division(vectors, spread), spread * teams * together
        first, last = (of_turn * (part + n) // count for n in (0, 1))
        begin_table, begin = factor * tile.height, factor * _first_column(tile)
        # Every turn has the vectors before ``always``, and some turns one more
        always = of_turn if turns == 1 else vectors // turns if spread > 1 else 0
        longer = u32(vectors - (of_turn - 1) * spread)

        @device
        def fetch(turn, source, place, table, at_table, values):
            for n in range(first, last):
                if n < always or turn < longer:
                    for q in range(together):
                        away = load_shared(table, at_table, u32(begin_table + n * distance + q))
                        values[slot + (n - first) * together + q] = load_from(source, place, away)

        @device
        def store(turn, values, shared, at):
            for n in range(first, last):
                if n < always or turn < longer:
                    for q in range(together):
                        value = values[slot + (n - first) * together + q]
                        store_shared(shared, at, u32(begin + n * distance + q), value)

        return fetch, store, slot + (last - first) * together

    def part_of(part):
        fetch_rows, store_rows, slot = stage(0, part, 0)
        fetch_columns, store_columns, end = stage(1, part, slot)
        add, after = (
            adder(tile, dtype, pitches, part_steps, BY_PLACE),
            u32(part * part_steps * pitches[0]),
        )

        @device
        def fetch(cursor, source, values):
            (turn, at_table, pixel), (error, x, table, _) = cursor, source
            (_, _, _, _, _, at_error, at_x) = pixel
            at_table = multiple_of(u32(16), at_table)
            fetch_rows(turn, error, at_error, table, at_table, values[0])
            fetch_columns(turn, x, at_x, table, at_table, values[0])

        @device
        def multiply(buffer, corner, tiles, sums):
            row, column = (multiple_of(row_run, corner[0]), multiple_of(column_run, corner[1]))
            row, column = shared_after(tiles[0], row, after), shared_after(tiles[1], column, after)
            add(row, column, tiles[0], tiles[1], sums)

        @device
        def store(values, buffer, tiles):
            fetched, turn, at = values
            at = multiple_of(u32(16), at)
            store_rows(turn, fetched, tiles[0], at)
            store_columns(turn, fetched, tiles[0], at)

        return (fetch, multiply, store), end

    parts, ends = zip(*[part_of(part) for part in range(count)])
    return parts, max(ends)


@cache
def _repeater(tile: Tile):
    """Makes of the device functions of a turn's parts that of a slice, for ``main_loop``.

    A loop over the turns keeps the code short. From turn to turn move the places of the thread's
    first row and column, of what it looks up, and of what it stores: all that takes instructions.
    """
    steps, teams = steps_of_turn(tile), tile.threads // tile.depth
    turns, between = tile.depth // steps, _layout(tile).pitches[0]
    down, on = u32(steps * between), u32(4 * teams)
    size = u32(tile.depth * between)

    def repeated(parts):
        turn_of = in_turn(parts)

        @device
        def slice_of(buffer, pixel, source, values, corner, tiles, sums):
            (registers, (at_table, end), at), (row, column), (shared, _) = values, corner, tiles
            table = source[2]
            here = u32(-u32(buffer) * size)
            row, column = shared_after(shared, row, here), shared_after(shared, column, here)
            at = shared_after(shared, at, u32(u32(buffer) * size))
            if turns == 1:
                cursor, values = (u32(0), at_table, pixel), (registers, u32(0), at)
                turn_of(buffer, cursor, source, values, (row, column), tiles, sums)
            else:
                turn = u32(0)
                while at_table != end:  # not all tiles need the number of the turn
                    cursor, values = (turn, at_table, pixel), (registers, turn, at)
                    turn_of(buffer, cursor, source, values, (row, column), tiles, sums)
                    row, column = (
                        shared_after(shared, row, down),
                        shared_after(shared, column, down),
                    )
                    at, at_table = shared_after(shared, at, on), shared_after(table, at_table, on)
                    turn = u32(turn + u32(1))

        return slice_of

    return repeated


@cache
def _advancer(tile: Tile):
    """A device function that moves a thread on by a slice of pixels, like an odometer."""
    depth = u32(tile.depth)

    @device
    def advance(pixel, source):
        """Without a pixel there, the thread reads the same one again, which nobody uses."""
        p, error_pixel, x_pixel, oy, ox, _, _ = pixel
        error, x, _, odometer = source
        end, size, by, next_row, next_map, next_image = odometer
        p = u32(p + depth)
        if p < end:
            error_pixel = u32(error_pixel + by[0])
            x_pixel = u32(x_pixel + by[1])
            oy, ox = u32(oy + by[2]), u32(ox + by[3])
            # 0 or 1, by which to multiply takes fewer instructions than to choose
            beyond = computed_once(u32(1) if ox >= size[1] else u32(0))
            ox, oy = u32(ox - beyond * size[1]), u32(oy + beyond)
            x_pixel = u32(x_pixel + beyond * next_row)
            if oy >= size[0]:
                oy = u32(oy - size[0])
                x_pixel = u32(x_pixel + next_map)
                error_pixel = u32(error_pixel + next_image)
        return p, error_pixel, x_pixel, oy, ox, place_of(error, error_pixel), place_of(x, x_pixel)

    return advance


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

    # A loop over so many sums would not be unrolled, and would put them into memory
    return in_turn([write_row(i) for i in range(tile.rows)])


@cache
def _gradient_kernel(tile: Tile, dtype):
    threads, depth = u32(tile.threads), u32(tile.depth)
    height, width = u32(tile.height), u32(tile.width)
    count = tile.rows * tile.columns
    filter_of, tap_of = placer(tile.height), placer(tile.width)
    table_size, layout = tile.height + tile.width, _layout(tile)
    between, size = u32(layout.pitches[0]), layout.buffers[0]
    buffers, looked_up = 2 * size, u32(4 * (tile.threads // steps_of_turn(tile)))
    first_column = u32(_first_column(tile))
    start = opener(tile, dtype)
    parts, fetched = _parts(tile, dtype)
    multiply_rest = partial_multiplier(tile, dtype, layout)
    repeated = _repeater(tile)
    loop = main_loop(tile, parts, _advancer(tile), together=repeated)
    write = _writer(tile, dtype)

    def filler(fetch, multiply, store):
        @device
        def fill(buffer, cursor, source, values, corner, tiles, sums):
            fetch(cursor, source, values)
            store(values, buffer, tiles)

        return fill

    fill = repeated([filler(*part) for part in parts])

    @kernel(tile.threads, tile.blocks, tile.depth // steps_of_turn(tile))
    def convolution_gradient_weights(
        error,  # N*K*Ho*Wo
        x,  # N*C*H*W
        partial,  # splits x K*taps
        first,  # the first pixel of the first split
        share,  # pixels of a split
        add,  # whether to add to what ``partial`` holds
        g,  # ConvolutionSizes
    ):
        shared = cuda.shared.array(buffers, dtype)
        table = cuda.shared.array(table_size, u32)
        sums = cuda.local.array(count, dtype)
        registers = cuda.local.array(fetched, dtype)

        filters, taps, plane = u32(g.filters), u32(g.taps), u32(g.output_plane)
        output_y, output_x = computed_once(u32(g.output[0])), computed_once(u32(g.output[1]))
        pixel_y, pixel_x = u32(g.pixel[0]), u32(g.pixel[1])
        (first_filter, first_tap), corner = start(sums)

        # Distances of the tile's filters and taps, clamped to the last
        slot = u32(cuda.threadIdx.x)
        while slot < height + width:
            if slot < height:
                k = u32(first_filter + filter_of(slot))
                table[slot] = u32(min(k, u32(filters - u32(1))) * plane)
            else:
                t = u32(first_tap + tap_of(u32(slot - height)))
                table[slot] = tap_offset(min(t, u32(taps - u32(1))), g)
            slot = u32(slot + threads)
        cuda.syncthreads()

        # This thread's pixel p, with the odometer that moves it on by a slice
        team, lane = divmod_u32(cuda.threadIdx.x, depth)
        lane = computed_once(lane)
        first = u32(u32(first) + u32(cuda.blockIdx.z) * u32(share))
        end = computed_once(u32(min(u32(g.pixels - first), u32(share))))
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
        odometer = end, (output_y, output_x), by, next_row, next_map, next_image
        places = place_of(error, error_pixel), place_of(x, x_pixel)
        pixel = lane, error_pixel, x_pixel, oy, ox, *places
        team = u32(u32(4) * team)
        # Slices are stored into the buffer that is not multiplied: at first into the second one
        at = u32(u32(size) + lane * between + team)
        at_table, at = shared_place(table, team), shared_place(shared, at)
        end_table = computed_once(shared_after(table, at_table, looked_up))
        source, values = (error, x, table, odometer), (registers, (at_table, end_table), at)
        inner = corner[0], u32(corner[1] + first_column)
        places = shared_place(shared, inner[0]), shared_place(shared, inner[1])
        tiles, buffer = (shared, shared), u32(0)
        fill(u32(~buffer), pixel, source, values, places, tiles, sums)
        cuda.syncthreads()
        left, buffer = loop(end, buffer, pixel, source, values, places, tiles, sums)
        multiply_rest(left, (u32(0), u32(0)), buffer, inner, tiles, sums)
        write(sums, corner, partial, add, first_filter, first_tap, filters, taps)

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
    """gradient = the sum of the ``splits`` gradients in ``partial``, in order."""
    arguments = flat("partial sums", partial), flat("gradient", gradient), splits
    launch_over(_add_kernel(gradient.dtype.type), gradient.size, *arguments)


def gradient_weights(x, error, shape: ConvolutionShape, tile: Tile):
    """dw for checked arguments; see ``kernels.convolution.cuda.gradient_weights``."""
    dtype = x.dtype.type
    gradient = memory.empty(shape.weights, x.dtype)
    sizes = ConvolutionSizes.of(shape)
    tiles = (ceil_division(shape.taps, tile.width), ceil_division(shape.filters, tile.height))
    wanted = ceil_division(WANTED_BLOCKS, tiles[0] * tiles[1])
    share = min(max(ceil_division(sizes.pixels, wanted), FEWEST_PIXELS), MOST_PIXELS)
    share = ceil_division(share, DEEPEST) * DEEPEST
    most = max(1, PARTIAL_BYTES // (gradient.size * x.dtype.itemsize))
    splits = min(ceil_division(sizes.pixels, share), most, 65535)
    partial = gradient if splits == 1 else memory.empty((splits, *shape.weights), x.dtype)
    x, error, flat_partial = flat("x", x), flat("error", error), flat("partial sums", partial)
    for start in range(0, sizes.pixels, splits * share):
        here = min(splits, ceil_division(sizes.pixels - start, share))
        launch(
            _gradient_kernel(tile, dtype),
            (*tiles, here),
            tile.threads,
            error,
            x,
            flat_partial,
            start,
            share,
            start > 0,
            sizes,
        )
    if splits > 1:
        add_partial_sums(partial, gradient, splits)
    return gradient
