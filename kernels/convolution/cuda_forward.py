"""Forward convolution: implicit matrix product of weights and pixels, no copy of the input.

    y[k, p] = f(b[k] + sum over t = (c, i, j) of w[k, t] * x[n, c, oy*s + i*d, ox*s + j*d]),
    p = (n, oy, ox) flattened

An input's address is that of the pixel plus that of the tap. A thread works out its pixels once,
and a table holds the taps: it is made by the kernel that packs the weights in the order in which
blocks read them. Each sum is one accumulator that runs through the taps in order, whatever the
tile, the stride and the dilation: the dense form has the patch net's bits.

Multiply-adds: N*K*Ho*Wo*C*kh*kw. Bytes: each block of filters reads the input and each block of
pixels reads the weights once; the output is written once. Workspace: a copy of the weights.
"""

from functools import cache
from typing import NamedTuple

from kernels import geometry
from kernels.convolution.cuda_tile import Tile, multiplier, writer
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

    filters: int
    taps: int  # C*kh*kw
    kernel: geometry.Pair
    pixels: int  # N*Ho*Wo
    output_plane: int  # Ho*Wo
    output_width: int
    image: int  # C*H*W
    plane: int  # H*W
    pixel: geometry.Pair  # sy*W, sx
    tap: geometry.Pair  # dy*W, dx
    biased: bool

    @classmethod
    def of(cls, shape: geometry.ConvolutionShape, biased: bool):
        """The sizes of a convolution."""
        (h, w), (ho, wo) = shape.size, shape.output
        (sy, sx), (dy, dx) = shape.window.stride, shape.window.dilation
        return cls(
            filters=shape.filters,
            taps=shape.taps,
            kernel=shape.window.kernel,
            pixels=shape.batch * ho * wo,
            output_plane=ho * wo,
            output_width=wo,
            image=shape.channels * h * w,
            plane=h * w,
            pixel=(sy * w, sx),
            tap=(dy * w, dx),
            biased=biased,
        )


@cache
def _pack_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def pack_weights(
        weights,  # K*taps
        packed,  # blocks of filters x steps x height
        offsets,  # steps
        height,
        g,  # Sizes
    ):
        i = u32(cuda.grid(1))
        taps, kernel_y, kernel_x = u32(g.taps), u32(g.kernel[0]), u32(g.kernel[1])
        if i < packed.size:
            t = u32(i // u32(height))
            k = u32((t // u32(offsets.size)) * u32(height) + i % u32(height))
            t = u32(t % u32(offsets.size))
            inside = k < u32(g.filters) and t < taps
            packed[i] = weights[u32(k * taps + t)] if inside else dtype(0)
        if i < offsets.size:
            t = u32(min(i, u32(taps - u32(1))))
            row = u32(t // kernel_x)
            offset = u32((t - row * kernel_x) * u32(g.tap[1]) + (row % kernel_y) * u32(g.tap[0]))
            offsets[i] = u32(offset + u32(row // kernel_y) * u32(g.plane))

    return pack_weights


@cache
def _forward_kernel(tile: Tile, dtype, activation):
    threads, lanes, warps = u32(tile.threads), u32(tile.warp_threads), u32(tile.warp_count)
    lanes_y, lanes_x, warps_x = u32(tile.lanes[0]), u32(tile.lanes[1]), u32(tile.warps[1])
    height, width, depth = u32(tile.height), u32(tile.width), u32(tile.depth)
    rows, columns = tile.rows, tile.columns
    chunks, together = tile.chunks, tile.side_by_side
    count = rows * columns
    taps = tile.depth // tile.warp_count  # of a slice, that a warp fetches
    fetched = taps * chunks
    weights_fetched, weight_slice = tile.weights_per_thread, u32(tile.height * tile.depth)
    weight_buffers, pixel_buffers = 2 * weights_fetched * tile.threads, 2 * tile.width * tile.depth
    weight_buffer, pixel_buffer = u32(weight_buffers // 2), u32(pixel_buffers // 2)
    step, multiply = multiplier(tile, dtype, tile.height, tile.width, tile.depth)
    write = writer(tile, dtype, activation)

    @device
    def origin(p, g):
        """Where the window of output pixel ``p`` begins; a pixel beyond the last is the last."""
        p = u32(min(p, u32(g.pixels - 1)))
        n = u32(p // u32(g.output_plane))
        p = u32(p - n * u32(g.output_plane))
        y = u32(p // u32(g.output_width))
        x = u32(p - y * u32(g.output_width))
        return u32(n * u32(g.image) + y * u32(g.pixel[0]) + x * u32(g.pixel[1]))

    @device
    def fetch(x, origins, offsets, next_tap, pixels, packed, next_weight, weights):
        for q in range(taps):
            offset = offsets[next_tap + u32(q) * warps]
            for m in range(chunks):
                pixels[q * chunks + m] = x[u32(origins[m] + offset)]
        for m in range(weights_fetched):
            weights[m] = packed[next_weight + u32(m) * threads]

    @device
    def store(pixels, weights, thread, lane, warp, buffer, pixel_tile, weight_tile):
        at = u32(buffer * weight_buffer + thread)
        for m in range(weights_fetched):
            weight_tile[at + u32(m) * threads] = weights[m]
        at = u32(buffer * pixel_buffer + warp * width + u32(together) * lane)
        for q in range(taps):
            for m in range(chunks):
                run = u32(m // together * together) * lanes
                slot = at + u32(q) * warps * width + run + u32(m % together)
                pixel_tile[slot] = pixels[q * chunks + m]

    @kernel(tile.threads, tile.blocks)
    def convolution_forward(
        x,  # N*C*H*W
        packed,  # blocks of filters x steps x height
        offsets,  # steps
        bias,  # K
        y,  # N*K*Ho*Wo
        g,  # Sizes
    ):
        weight_tile = cuda.shared.array(weight_buffers, dtype)
        pixel_tile = cuda.shared.array(pixel_buffers, dtype)
        sums = cuda.local.array(count, dtype)
        pixels = cuda.local.array(fetched, dtype)
        weights = cuda.local.array(weights_fetched, dtype)
        origins = cuda.local.array(chunks, u32)

        thread = u32(cuda.threadIdx.x)
        lane, warp = u32(thread % lanes), u32(thread // lanes)
        first_filter = u32(u32(cuda.blockIdx.y) * height)
        first_pixel = u32(u32(cuda.blockIdx.x) * width)
        for m in range(count):
            sums[m] = dtype(0)
        for m in range(chunks):
            origins[m] = origin(u32(first_pixel + u32(m) * lanes + lane), g)
        row = u32((warp // warps_x) * u32(rows) * lanes_y + (lane // lanes_x) * u32(4))
        column = u32((warp % warps_x) * u32(columns) * lanes_x + (lane % lanes_x) * u32(4))

        buffer = u32(0)
        tap = warp
        weight = u32(first_filter * u32(offsets.size) + thread)
        fetch(x, origins, offsets, tap, pixels, packed, weight, weights)
        store(pixels, weights, thread, lane, warp, buffer, pixel_tile, weight_tile)
        cuda.syncthreads()
        left = u32(g.taps)
        while left >= depth:
            tap = u32(tap + depth)
            weight = u32(weight + weight_slice)
            fetch(x, origins, offsets, tap, pixels, packed, weight, weights)
            first = u32(buffer * weight_buffer + row)
            second = u32(buffer * pixel_buffer + column)
            multiply(first, second, weight_tile, pixel_tile, sums)
            buffer = u32(buffer ^ u32(1))
            store(pixels, weights, thread, lane, warp, buffer, pixel_tile, weight_tile)
            cuda.syncthreads()
            left = u32(left - depth)
        first = u32(buffer * weight_buffer + row)
        second = u32(buffer * pixel_buffer + column)
        while left > u32(0):
            step(first, second, weight_tile, pixel_tile, sums)
            first = u32(first + height)
            second = u32(second + width)
            left = u32(left - u32(1))

        filters, plane, pixel_count = u32(g.filters), u32(g.output_plane), u32(g.pixels)
        write(
            sums,
            pixel_tile,
            bias,
            g.biased,
            y,
            first_filter,
            filters,
            first_pixel,
            pixel_count,
            plane,
        )

    return convolution_forward


def forward(x, weights, bias, shape: geometry.ConvolutionShape, activation, tile: Tile):
    """y for checked arguments; see ``kernels.convolution.cuda.forward``."""
    dtype = x.dtype.type
    y = memory.empty(shape.y, x.dtype)
    packed = memory.empty((tile.packed_size(shape.filters, shape.taps),), x.dtype)
    offsets = memory.empty((tile.packed_steps(shape.taps),), "uint32")
    sizes = Sizes.of(shape, bias is not None)
    weights = flat("weights", weights)
    flat("packed weights", packed)
    launch_over(_pack_kernel(dtype), packed.size, weights, packed, offsets, tile.height, sizes)
    blocks = (ceil_division(sizes.pixels, tile.width), ceil_division(shape.filters, tile.height))
    launch(
        _forward_kernel(tile, dtype, activation),
        blocks,
        tile.threads,
        flat("x", x),
        packed,
        offsets,
        weights if bias is None else bias,
        flat("y", y),
        sizes,
    )
    return y
