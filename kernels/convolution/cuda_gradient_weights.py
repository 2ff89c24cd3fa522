"""Gradient by the weights: an implicit matrix product of the error map and the input.

    dw[k, t] = sum over p = (n, oy, ox) of e[n, k, oy, ox] * x[n, c, oy*s + i*d, ox*s + j*d],
    t = (c, i, j)

Here the pixels are the steps. They are shared out over blocks, whose partial sums a second kernel
adds in a fixed order: no atomics, and the same bits every time. A thread stands for one pixel of a
slice and steps through the pixels like an odometer, while the distances of filters and taps from
it lie in a table in shared memory. It reads 4 of them from a map each, next to its neighbour's
pixel, and stores them side by side, so that the transposition costs no bank conflicts.

Multiply-adds: N*Ho*Wo*K*C*kh*kw. Bytes: each block of filters reads the input and each block of
taps reads the error map once. Workspace: the partial sums, at most ``PARTIAL_BYTES``.
"""

from functools import cache
from math import gcd

from kernels.convolution import PARTIAL_BYTES, ConvolutionShape
from kernels.convolution.cuda_sizes import ConvolutionSizes, tap_offset
from kernels.convolution.cuda_tile import Tile, in_turn, multiplier, positioner
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, ceil_division, flat
from kernels.device.loads import kept, load_from, place_of
from kernels.memory import cuda as memory

# Enough blocks for any device of today, and few enough that partial sums are cheap to add
WANTED_BLOCKS = 1024
# Pixels that one block adds up in one accumulator: bounds, for speed below, for accuracy above
FEWEST_PIXELS, MOST_PIXELS = 256, 8192


def pitch(extent: int) -> int:
    """Distance of steps in shared memory: an odd number of 4-word groups avoids bank conflicts."""
    return extent if extent % 8 else extent + 4


def side_by_side(extent: int) -> int:
    """Rows, or columns, that a thread stores next to each other in a step: a vector.

    Slot v*a + b of a step, v being their number, holds row b * extent/v + a, so that in the end
    neighbouring threads write neighbouring sums.
    """
    return gcd(4, extent)


@cache
def _stager(tile: Tile, dtype):
    """Device functions: stage a slice; stage a slice while the previous one is multiplied.

    A slice goes in parts, to need few registers: a part of its rows and columns is fetched, some
    steps of the previous slice are multiplied, then the part is stored. The first result is the
    number of values that a thread fetches for a part.
    """
    extents, teams = (tile.height, tile.width), tile.threads // tile.depth
    part_steps = min(8, tile.depth)
    parts = tile.depth // part_steps
    pitches = pitch(tile.height), pitch(tile.width)
    row_pitch, column_pitch = map(u32, pitches)
    row_buffer, column_buffer = (u32(tile.depth * p) for p in pitches)
    multiply, _ = multiplier(tile, dtype, *pitches, part_steps)

    def stage(factor, part, slot):
        """(fetch, store, next slot) for a part of the rows or columns."""
        together = side_by_side(extents[factor])
        groups = extents[factor] // together // teams
        first, last = (groups * (part + n) // parts for n in (0, 1))
        begin, step = factor * tile.height, together * teams

        @device
        def fetch(source, place, table, team, values):
            for n in range(first, last):
                at = u32(u32(begin + n * step) + team * u32(together))
                for q in range(together):
                    away = table[at + u32(q)]
                    values[slot + (n - first) * together + q] = load_from(source, place, away)

        @device
        def store(values, shared, at, team):
            for n in range(first, last):
                to = u32(at + team * u32(together)) + u32(n * step)
                for q in range(together):
                    shared[to + u32(q)] = values[slot + (n - first) * together + q]

        return fetch, store, slot + (last - first) * together

    def work_on(part, multiplying):
        fetch_rows, store_rows, slot = stage(0, part, 0)
        fetch_columns, store_columns, _ = stage(1, part, slot)
        rows_done, columns_done = (u32(part * part_steps * p) for p in pitches)

        @device
        def work(error, x, at_error, at_x, table, team, lane, buffer, values, tiles, corner, sums):
            filter_tile, tap_tile = tiles
            fetch_rows(error, at_error, table, team, values)
            fetch_columns(x, at_x, table, team, values)
            if multiplying:
                row = u32(buffer * row_buffer + corner[0]) + rows_done
                column = u32(buffer * column_buffer + corner[1]) + columns_done
                multiply(row, column, filter_tile, tap_tile, sums)
                buffer = u32(buffer ^ u32(1))
            store_rows(values, filter_tile, u32(buffer * row_buffer + lane * row_pitch), team)
            at = u32(buffer * column_buffer + lane * column_pitch)
            store_columns(values, tap_tile, at, team)

        return work

    most = max(stage(1, part, stage(0, part, 0)[2])[2] for part in range(parts))
    first, later = (
        in_turn([work_on(part, multiplying) for part in range(parts)])
        for multiplying in (False, True)
    )
    return most, first, later


@cache
def _gradient_kernel(tile: Tile, dtype):
    threads, depth = u32(tile.threads), u32(tile.depth)
    height, width = u32(tile.height), u32(tile.width)
    columns, count = tile.columns, tile.rows * tile.columns
    own, row_of, column_of = positioner(tile)
    filters_together, taps_together = side_by_side(tile.height), side_by_side(tile.width)
    filter_groups, tap_groups = (
        u32(tile.height // filters_together),
        u32(tile.width // taps_together),
    )
    filters_together, taps_together = u32(filters_together), u32(taps_together)
    pitches, table_size = (pitch(tile.height), pitch(tile.width)), tile.height + tile.width
    filter_buffers, tap_buffers = (2 * tile.depth * p for p in pitches)
    filter_buffer, tap_buffer = u32(filter_buffers // 2), u32(tap_buffers // 2)
    fetched, stage, stage_and_multiply = _stager(tile, dtype)
    _, multiply_some = multiplier(tile, dtype, *pitches, 8)

    @device
    def filter_of(slot):
        """The row of a step that ``slot`` holds: neighbours lie far apart, see ``side_by_side``."""
        return u32(slot % filters_together * filter_groups + slot // filters_together)

    @device
    def tap_of(slot):
        return u32(slot % taps_together * tap_groups + slot // taps_together)

    def write_row(i):
        @device
        def write(sums, own_row, own_column, partial, add, first_filter, first_tap, filters, taps):
            k = u32(first_filter + filter_of(row_of(own_row, i)))
            for j in range(columns):
                t = u32(first_tap + tap_of(column_of(own_column, j)))
                if k < filters and t < taps:
                    at = u32((u32(cuda.blockIdx.z) * filters + k) * taps + t)
                    before = partial[at] if add else dtype(0)
                    partial[at] = before + sums[i * columns + j]

        return write

    # A loop over so many sums would not be unrolled, and would put them into memory
    write = in_turn([write_row(i) for i in range(tile.rows)])

    @kernel(tile.threads, tile.blocks)
    def convolution_gradient_weights(
        error,  # N*K*Ho*Wo
        x,  # N*C*H*W
        partial,  # splits x K*taps
        start,  # the first pixel of the first split
        share,  # pixels of a split
        add,  # whether to add to what ``partial`` holds
        g,  # ConvolutionSizes
    ):
        filter_tile = cuda.shared.array(filter_buffers, dtype)
        tap_tile = cuda.shared.array(tap_buffers, dtype)
        table = cuda.shared.array(table_size, u32)
        sums = cuda.local.array(count, dtype)
        values = cuda.local.array(fetched, dtype)

        thread = u32(cuda.threadIdx.x)
        filters, taps = u32(g.filters), u32(g.taps)
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        pixel_y, pixel_x = u32(g.pixel[0]), u32(g.pixel[1])
        plane = u32(g.output_plane)
        first_filter = u32(u32(cuda.blockIdx.y) * height)
        first_tap = u32(u32(cuda.blockIdx.x) * width)
        for m in range(count):
            sums[m] = dtype(0)

        # Distances of the tile's filters and taps; one beyond the last is the last
        slot = thread
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
        lane, team = kept(u32(thread % depth)), u32(thread // depth)
        first = u32(u32(start) + u32(cuda.blockIdx.z) * u32(share))
        end = u32(min(u32(g.pixels - first), u32(share)))
        p = u32(min(u32(first + lane), u32(g.pixels - 1)))
        n, of_map = divmod_u32(p, plane)
        oy, ox = divmod_u32(of_map, output_x)
        next_image = kept(u32(u32(filters - u32(1)) * plane))
        error_pixel = u32(p + n * next_image)
        x_pixel = u32(n * u32(g.image) + oy * pixel_y + ox * pixel_x)
        slice_n, slice_x = divmod_u32(depth, plane)
        slice_y, slice_x = divmod_u32(slice_x, output_x)
        advance_error = u32(depth + slice_n * next_image)
        advance_x = u32(slice_n * u32(g.image) + slice_y * pixel_y + slice_x * pixel_x)
        next_row = kept(u32(pixel_y - output_x * pixel_x))
        next_map = kept(u32(u32(g.image) - output_y * pixel_y))

        own_row, own_column = own()
        tiles, corner = (filter_tile, tap_tile), (own_row, own_column)
        buffer, p = u32(0), lane
        at_error, at_x = place_of(error, error_pixel), place_of(x, x_pixel)
        stage(error, x, at_error, at_x, table, team, lane, buffer, values, tiles, corner, sums)
        cuda.syncthreads()
        left = end
        while left >= depth:
            p = u32(p + depth)
            if p < end:  # else read the same once more, for nothing
                error_pixel = u32(error_pixel + advance_error)
                x_pixel = u32(x_pixel + advance_x)
                ox, oy = u32(ox + slice_x), u32(oy + slice_y)
                if ox >= output_x:
                    ox, oy = u32(ox - output_x), u32(oy + u32(1))
                    x_pixel = u32(x_pixel + next_row)
                if oy >= output_y:
                    oy = u32(oy - output_y)
                    x_pixel = u32(x_pixel + next_map)
                    error_pixel = u32(error_pixel + next_image)
            at_error, at_x = place_of(error, error_pixel), place_of(x, x_pixel)
            stage_and_multiply(
                error, x, at_error, at_x, table, team, lane, buffer, values, tiles, corner, sums
            )
            buffer = u32(buffer ^ u32(1))
            cuda.syncthreads()
            left = u32(left - depth)
        row = u32(buffer * filter_buffer + own_row)
        column = u32(buffer * tap_buffer + own_column)
        multiply_some(left, row, column, filter_tile, tap_tile, sums)

        writes = partial, add, first_filter, first_tap, filters, taps
        write(sums, own_row, own_column, *writes)

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
    share = ceil_division(share, tile.depth) * tile.depth
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
