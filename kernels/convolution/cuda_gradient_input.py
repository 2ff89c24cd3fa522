"""Gradient by the input: an implicit matrix product of weights and the error map.

    dx[c, p] = sum over t = (i, j, k) of w[k, c, i, j] * e[n, k, (y - i*d) / s, (x - j*d) / s],
    p = (n, y, x) flattened, over the taps where both quotients are whole and inside the error map

The channels k of the error map run fastest, padded to whole slices: while they do, a thread keeps
the places of its pixels in the error map, and looks for new ones only where the tap (i, j) changes.
Neighbouring threads read neighbouring errors wherever s = 1, as in the dense form. No flipped or
padded copy of a map is made.

An absent tap multiplies its weight by a zero error: exact, unless that weight is not finite.

Multiply-adds: N*C*H*W*K*kh*kw, absent taps included. Bytes: each block of channels reads the error
map and each block of pixels reads the weights once; the gradient is written once. Workspace: a copy
of the weights.
"""

from functools import cache
from typing import NamedTuple

from kernels import geometry
from kernels.convolution.cuda_tile import NOWHERE, Tile, multiplier, writer
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


class Sizes(NamedTuple):
    """Extents and distances between elements that the kernels need."""

    channels: int
    filters: int
    kernel: geometry.Pair
    stride: geometry.Pair
    dilation: geometry.Pair
    size: geometry.Pair
    output: geometry.Pair
    pixels: int  # N*H*W

    @classmethod
    def of(cls, shape: geometry.ConvolutionShape):
        """The sizes of a convolution."""
        return cls(
            channels=shape.channels,
            filters=shape.filters,
            kernel=shape.window.kernel,
            stride=shape.window.stride,
            dilation=shape.window.dilation,
            size=shape.size,
            output=shape.output,
            pixels=shape.batch * shape.size[0] * shape.size[1],
        )


@cache
def _pack_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def pack_weights_transposed(
        weights,  # K*C*kh*kw
        packed,  # blocks of channels x steps x height
        steps,
        steps_per_tap,  # K, rounded up to whole slices
        height,
        g,  # Sizes
    ):
        i = u32(cuda.grid(1))
        if i < packed.size:
            filters, channels = u32(g.filters), u32(g.channels)
            taps = u32(u32(g.kernel[0]) * u32(g.kernel[1]))
            t = u32(i // u32(height))
            c = u32((t // u32(steps)) * u32(height) + i % u32(height))
            t = u32(t % u32(steps))
            tap = u32(t // u32(steps_per_tap))
            k = u32(t - tap * u32(steps_per_tap))
            inside = c < channels and tap < taps and k < filters
            packed[i] = weights[u32(u32(k * channels + c) * taps + tap)] if inside else dtype(0)

    return pack_weights_transposed


@cache
def _gradient_kernel(tile: Tile, dtype, strided: bool):
    threads, lanes, warps = u32(tile.threads), u32(tile.warp_threads), u32(tile.warp_count)
    lanes_y, lanes_x, warps_x = u32(tile.lanes[0]), u32(tile.lanes[1]), u32(tile.warps[1])
    height, width, depth = u32(tile.height), u32(tile.width), u32(tile.depth)
    rows, columns = tile.rows, tile.columns
    chunks, together = tile.chunks, tile.side_by_side
    count = rows * columns
    steps = tile.depth // tile.warp_count  # of a slice, that a warp fetches
    fetched = steps * chunks
    weights_fetched, weight_slice = tile.weights_per_thread, u32(tile.height * tile.depth)
    weight_buffers, pixel_buffers = 2 * weights_fetched * tile.threads, 2 * tile.width * tile.depth
    weight_buffer, pixel_buffer = u32(weight_buffers // 2), u32(pixel_buffers // 2)
    _, multiply = multiplier(tile, dtype, tile.height, tile.width, tile.depth)
    write = writer(tile, dtype, None)

    @device
    def source(y, tap, stride):
        """The output whose tap, at the distance ``tap``, reads the input y; beyond any if none."""
        output = u32(y - tap)
        if strided:
            return u32(output // stride) if y >= tap and output % stride == 0 else NOWHERE
        return output

    @device
    def locate(tap, ys, xs, images, places, g):
        """Find the pixels' partners at a tap in the first error map of their image.

        Returns bit m for the pixel of chunk m that has one; the places of the others are 0.
        """
        i = u32(tap // u32(g.kernel[1]))
        j = u32(u32(tap - i * u32(g.kernel[1])) * u32(g.dilation[1]))
        i = u32(i * u32(g.dilation[0]))
        present = u32(0)
        for m in range(chunks):
            y = source(ys[m], i, u32(g.stride[0]))
            x = source(xs[m], j, u32(g.stride[1]))
            found = y < u32(g.output[0]) and x < u32(g.output[1])
            places[m] = u32(images[m] + y * u32(g.output[1]) + x) if found else u32(0)
            present = u32(present | (u32(1 << m) if found else u32(0)))
        return present

    @device
    def fetch(error, k, filters, plane, places, present, errors, packed, next_weight, weights):
        for q in range(steps):
            of_step = u32(k + u32(q) * warps)
            of_map = u32(u32(min(of_step, u32(filters - u32(1)))) * plane)
            here = present if of_step < filters else u32(0)
            for m in range(chunks):
                value = error[u32(places[m] + of_map)]
                errors[q * chunks + m] = value if here & u32(1 << m) else dtype(0)
        for m in range(weights_fetched):
            weights[m] = packed[next_weight + u32(m) * threads]

    @device
    def store(errors, weights, thread, lane, warp, buffer, pixel_tile, weight_tile):
        at = u32(buffer * weight_buffer + thread)
        for m in range(weights_fetched):
            weight_tile[at + u32(m) * threads] = weights[m]
        at = u32(buffer * pixel_buffer + warp * width + u32(together) * lane)
        for q in range(steps):
            for m in range(chunks):
                run = u32(m // together * together) * lanes
                slot = at + u32(q) * warps * width + run + u32(m % together)
                pixel_tile[slot] = errors[q * chunks + m]

    @kernel(tile.threads, tile.blocks)
    def convolution_gradient_input(
        error,  # N*K*Ho*Wo
        packed,  # blocks of channels x packed_steps x height
        packed_steps,
        gradient,  # N*C*H*W
        g,  # Sizes
    ):
        weight_tile = cuda.shared.array(weight_buffers, dtype)
        pixel_tile = cuda.shared.array(pixel_buffers, dtype)
        sums = cuda.local.array(count, dtype)
        errors = cuda.local.array(fetched, dtype)
        weights = cuda.local.array(weights_fetched, dtype)
        ys = cuda.local.array(chunks, u32)
        xs = cuda.local.array(chunks, u32)
        images = cuda.local.array(chunks, u32)
        places = cuda.local.array(chunks, u32)

        thread = u32(cuda.threadIdx.x)
        lane, warp = u32(thread % lanes), u32(thread // lanes)
        first_channel = u32(u32(cuda.blockIdx.y) * height)
        first_pixel = u32(u32(cuda.blockIdx.x) * width)
        filters, pixels = u32(g.filters), u32(g.pixels)
        error_plane = u32(u32(g.output[0]) * u32(g.output[1]))
        plane = u32(u32(g.size[0]) * u32(g.size[1]))
        for m in range(count):
            sums[m] = dtype(0)
        for m in range(chunks):
            p = u32(min(u32(first_pixel + u32(m) * lanes + lane), u32(pixels - u32(1))))
            n = u32(p // plane)
            p = u32(p - n * plane)
            images[m] = u32(n * filters * error_plane)
            ys[m] = u32(p // u32(g.size[1]))
            xs[m] = u32(p - ys[m] * u32(g.size[1]))
        row = u32((warp // warps_x) * u32(rows) * lanes_y + (lane // lanes_x) * u32(4))
        column = u32((warp % warps_x) * u32(columns) * lanes_x + (lane % lanes_x) * u32(4))

        tap, k, buffer = u32(0), u32(0), u32(0)
        weight = u32(first_channel * u32(packed_steps) + thread)
        present = locate(tap, ys, xs, images, places, g)
        fetch(error, warp, filters, error_plane, places, present, errors, packed, weight, weights)
        store(errors, weights, thread, lane, warp, buffer, pixel_tile, weight_tile)
        cuda.syncthreads()
        taps = u32(u32(g.kernel[0]) * u32(g.kernel[1]))
        while tap < taps:
            k = u32(k + depth)
            if k >= filters:
                tap, k = u32(tap + u32(1)), u32(0)
                present = locate(tap, ys, xs, images, places, g)
            weight = u32(weight + weight_slice)
            here = u32(k + warp)
            fetch(
                error, here, filters, error_plane, places, present, errors, packed, weight, weights
            )
            first = u32(buffer * weight_buffer + row)
            second = u32(buffer * pixel_buffer + column)
            multiply(first, second, weight_tile, pixel_tile, sums)
            buffer = u32(buffer ^ u32(1))
            store(errors, weights, thread, lane, warp, buffer, pixel_tile, weight_tile)
            cuda.syncthreads()

        channels = u32(g.channels)
        write(
            sums,
            pixel_tile,
            gradient,
            False,
            gradient,
            first_channel,
            channels,
            first_pixel,
            pixels,
            plane,
        )

    return convolution_gradient_input


def gradient_input(error, weights, shape: geometry.ConvolutionShape, tile: Tile):
    """dx for checked arguments; see ``kernels.convolution.cuda.gradient_input``."""
    dtype = error.dtype.type
    gradient = memory.empty(shape.x, error.dtype)
    steps_per_tap = ceil_division(shape.filters, tile.depth) * tile.depth
    steps = shape.window.cells * steps_per_tap
    packed = memory.empty((tile.packed_size(shape.channels, steps),), error.dtype)
    packed_steps = tile.packed_steps(steps)
    sizes = Sizes.of(shape)
    weights, flat_packed = flat("weights", weights), flat("packed weights", packed)
    arguments = weights, flat_packed, packed_steps, steps_per_tap, tile.height, sizes
    launch_over(_pack_kernel(dtype), packed.size, *arguments)
    blocks = (ceil_division(sizes.pixels, tile.width), ceil_division(shape.channels, tile.height))
    launch(
        _gradient_kernel(tile, dtype, shape.window.stride != (1, 1)),
        blocks,
        tile.threads,
        flat("error", error),
        packed,
        packed_steps,
        flat("gradient", gradient),
        sizes,
    )
    return gradient
