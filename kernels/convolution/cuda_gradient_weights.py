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
from typing import NamedTuple

from kernels import geometry
from kernels.convolution.cuda_tile import Tile, multiplier
from kernels.cuda_api import (
    ELEMENTWISE_THREADS,
    ceil_division,
    cuda,
    device,
    flat,
    kernel,
    launch,
    launch_over,
    u32,
)
from kernels.memory import cuda as memory

# Enough blocks for any device of today, and few enough that partial sums are cheap to add
WANTED_BLOCKS = 1024
# Pixels that one block adds up in one accumulator: bounds, for speed below, for accuracy above
FEWEST_PIXELS, MOST_PIXELS = 256, 8192
PARTIAL_BYTES = 64 * 2**20


class Sizes(NamedTuple):
    """Extents and distances between elements that the kernel needs."""

    filters: int
    taps: int  # C*kh*kw
    kernel: geometry.Pair
    output: geometry.Pair
    pixels: int  # N*Ho*Wo
    image: int  # C*H*W
    plane: int  # H*W
    pixel: geometry.Pair  # sy*W, sx
    tap: geometry.Pair  # dy*W, dx

    @classmethod
    def of(cls, shape: geometry.ConvolutionShape):
        """The sizes of a convolution."""
        (h, w), (ho, wo) = shape.size, shape.output
        (sy, sx), (dy, dx) = shape.window.stride, shape.window.dilation
        return cls(
            filters=shape.filters,
            taps=shape.taps,
            kernel=shape.window.kernel,
            output=shape.output,
            pixels=shape.batch * ho * wo,
            image=shape.channels * h * w,
            plane=h * w,
            pixel=(sy * w, sx),
            tap=(dy * w, dx),
        )


def pitch(extent: int) -> int:
    """Distance of steps in shared memory: an odd number of 4-word groups avoids bank conflicts."""
    return extent if extent % 8 else extent + 4


@cache
def _gradient_kernel(tile: Tile, dtype):
    threads, depth = u32(tile.threads), u32(tile.depth)
    lanes, warps_x = u32(tile.warp_threads), u32(tile.warps[1])
    lanes_y, lanes_x = u32(tile.lanes[0]), u32(tile.lanes[1])
    height, width = u32(tile.height), u32(tile.width)
    rows, columns = tile.rows, tile.columns
    count = rows * columns
    # Slot 4*a + b of a step holds row b * quads + a
    filter_quads, tap_quads = tile.height // 4, tile.width // 4
    table_size = tile.height + tile.width
    filter_pitch, tap_pitch = u32(pitch(tile.height)), u32(pitch(tile.width))
    filter_buffers, tap_buffers = (2 * tile.depth * pitch(n) for n in (tile.height, tile.width))
    filter_buffer, tap_buffer = u32(filter_buffers // 2), u32(tap_buffers // 2)
    # A slice is fetched in parts, between which a part of the previous one is multiplied
    teams = tile.threads // tile.depth
    parts = max(n for n in (1, 2, 4) if not (filter_quads % (n * teams) + tap_quads % (n * teams)))
    filters_fetched = filter_quads // (parts * teams)
    taps_fetched = tap_quads // (parts * teams)
    fetched = 4 * (filters_fetched + taps_fetched)
    part_count, team_count, part_steps = u32(parts), u32(teams), u32(tile.depth // parts)
    step, _, multiply = multiplier(
        tile, dtype, pitch(tile.height), pitch(tile.width), tile.depth // parts
    )

    @device
    def fetch(error, x, at_error, at_x, table, team, part, values):
        for n in range(filters_fetched):
            quad = u32((part * u32(filters_fetched) + u32(n)) * team_count + team)
            for q in range(4):
                values[4 * n + q] = error[u32(at_error + table[quad * u32(4) + u32(q)])]
        for n in range(filters_fetched, filters_fetched + taps_fetched):
            quad = u32((part * u32(taps_fetched) + u32(n - filters_fetched)) * team_count + team)
            for q in range(4):
                values[4 * n + q] = x[u32(at_x + table[height + quad * u32(4) + u32(q)])]

    @device
    def store(values, filter_tile, tap_tile, buffer, lane, team, part):
        at = u32(buffer * filter_buffer + lane * filter_pitch)
        for n in range(filters_fetched):
            quad = u32((part * u32(filters_fetched) + u32(n)) * team_count + team)
            slot = u32(at + u32(4) * quad)
            for q in range(4):
                filter_tile[slot + u32(q)] = values[4 * n + q]
        at = u32(buffer * tap_buffer + lane * tap_pitch)
        for n in range(filters_fetched, filters_fetched + taps_fetched):
            quad = u32((part * u32(taps_fetched) + u32(n - filters_fetched)) * team_count + team)
            slot = u32(at + u32(4) * quad)
            for q in range(4):
                tap_tile[slot + u32(q)] = values[4 * n + q]

    @kernel(tile.threads, tile.blocks)
    def convolution_gradient_weights(
        error,  # N*K*Ho*Wo
        x,  # N*C*H*W
        partial,  # splits x K*taps
        start,  # the first pixel of the first split
        share,  # pixels of a split
        add,  # whether to add to what ``partial`` holds
        g,  # Sizes
    ):
        filter_tile = cuda.shared.array(filter_buffers, dtype)
        tap_tile = cuda.shared.array(tap_buffers, dtype)
        table = cuda.shared.array(table_size, u32)
        sums = cuda.local.array(count, dtype)
        values = cuda.local.array(fetched, dtype)

        thread = u32(cuda.threadIdx.x)
        filters, taps = u32(g.filters), u32(g.taps)
        kernel_y, kernel_x = u32(g.kernel[0]), u32(g.kernel[1])
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        pixel_y, pixel_x = u32(g.pixel[0]), u32(g.pixel[1])
        plane = u32(output_y * output_x)
        first_filter = u32(u32(cuda.blockIdx.y) * height)
        first_tap = u32(u32(cuda.blockIdx.x) * width)
        for m in range(count):
            sums[m] = dtype(0)
        for m in range(fetched):
            values[m] = dtype(0)

        # Distances of the tile's filters and taps; one beyond the last is the last
        slot = thread
        while slot < height + width:
            if slot < height:
                k = u32(first_filter + slot % u32(4) * u32(filter_quads) + slot // u32(4))
                table[slot] = u32(min(k, u32(filters - u32(1))) * plane)
            else:
                t = u32(slot - height)
                t = u32(first_tap + t % u32(4) * u32(tap_quads) + t // u32(4))
                t = u32(min(t, u32(taps - u32(1))))
                i = u32(t // kernel_x)
                at = u32(u32(t - i * kernel_x) * u32(g.tap[1]))
                at = u32(at + u32(i % kernel_y) * u32(g.tap[0]))
                table[slot] = u32(at + u32(i // kernel_y) * u32(g.plane))
            slot = u32(slot + threads)
        cuda.syncthreads()

        # This thread's pixel p, with the odometer that moves it on by a slice
        lane, team = u32(thread % depth), u32(thread // depth)
        first = u32(u32(start) + u32(cuda.blockIdx.z) * u32(share))
        end = u32(min(u32(g.pixels - first), u32(share)))
        p = u32(min(u32(first + lane), u32(g.pixels - 1)))
        n = u32(p // plane)
        next_image = u32(u32(filters - u32(1)) * plane)
        at_error = u32(p + n * next_image)
        p = u32(p - n * plane)
        oy = u32(p // output_x)
        ox = u32(p - oy * output_x)
        at_x = u32(n * u32(g.image) + oy * pixel_y + ox * pixel_x)
        slice_n = u32(depth // plane)
        slice_y = u32((depth - slice_n * plane) // output_x)
        slice_x = u32(depth - slice_n * plane - slice_y * output_x)
        advance_error = u32(depth + slice_n * next_image)
        advance_x = u32(slice_n * u32(g.image) + slice_y * pixel_y + slice_x * pixel_x)

        warp, lane_of_warp = u32(thread // lanes), u32(thread % lanes)
        own_row = u32((warp // warps_x) * u32(rows) * lanes_y + lane_of_warp // lanes_x * u32(4))
        own_column = u32(
            (warp % warps_x) * u32(columns) * lanes_x + (lane_of_warp % lanes_x) * u32(4)
        )
        buffer = u32(0)
        p = lane
        part = u32(0)
        while part < part_count:
            if p < end:
                fetch(error, x, at_error, at_x, table, team, part, values)
            store(values, filter_tile, tap_tile, buffer, lane, team, part)
            part = u32(part + u32(1))
        cuda.syncthreads()
        left = end
        while left >= depth:
            p = u32(p + depth)
            at_error = u32(at_error + advance_error)
            at_x = u32(at_x + advance_x)
            ox = u32(ox + slice_x)
            oy = u32(oy + slice_y)
            if ox >= output_x:
                ox = u32(ox - output_x)
                oy = u32(oy + u32(1))
                at_x = u32(at_x + pixel_y - output_x * pixel_x)
            if oy >= output_y:
                oy = u32(oy - output_y)
                at_x = u32(at_x + u32(g.image) - output_y * pixel_y)
                at_error = u32(at_error + next_image)
            part = u32(0)
            while part < part_count:
                if p < end:
                    fetch(error, x, at_error, at_x, table, team, part, values)
                done = u32(part * part_steps)
                row = u32(buffer * filter_buffer + done * filter_pitch + own_row)
                column = u32(buffer * tap_buffer + done * tap_pitch + own_column)
                multiply(row, column, filter_tile, tap_tile, sums)
                store(values, filter_tile, tap_tile, u32(buffer ^ u32(1)), lane, team, part)
                part = u32(part + u32(1))
            buffer = u32(buffer ^ u32(1))
            cuda.syncthreads()
            left = u32(left - depth)
        row = u32(buffer * filter_buffer + own_row)
        column = u32(buffer * tap_buffer + own_column)
        while left > u32(0):
            step(row, column, filter_tile, tap_tile, sums)
            row = u32(row + filter_pitch)
            column = u32(column + tap_pitch)
            left = u32(left - u32(1))

        for i in range(rows):
            slot = u32(own_row + u32(i // 4) * u32(4) * lanes_y + u32(i % 4))
            k = u32(first_filter + slot % u32(4) * u32(filter_quads) + slot // u32(4))
            for j in range(columns):
                slot = u32(own_column + u32(j // 4) * u32(4) * lanes_x + u32(j % 4))
                t = u32(first_tap + slot % u32(4) * u32(tap_quads) + slot // u32(4))
                if k < filters and t < taps:
                    at = u32((u32(cuda.blockIdx.z) * filters + k) * taps + t)
                    before = partial[at] if add else dtype(0)
                    partial[at] = before + sums[i * columns + j]

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


def gradient_weights(x, error, shape: geometry.ConvolutionShape, tile: Tile):
    """dw for checked arguments; see ``kernels.convolution.cuda.gradient_weights``."""
    dtype = x.dtype.type
    gradient = memory.empty(shape.weights, x.dtype)
    sizes = Sizes.of(shape)
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
