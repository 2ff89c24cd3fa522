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
from kernels.convolution.cuda_tile import NOWHERE, Tile, multiplier, positioner, stager, writer
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
from kernels.cuda_loads import moved, place_of
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
        offsets,  # steps and more; the last tap's beyond the taps
        steps,
        height,
        g,  # Sizes
    ):
        i = u32(cuda.grid(1))
        taps, kernel_y, kernel_x = u32(g.taps), u32(g.kernel[0]), u32(g.kernel[1])
        if i < packed.size:
            t = u32(i // u32(height))
            k = u32((t // u32(steps)) * u32(height) + i % u32(height))
            t = u32(t % u32(steps))
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
    lanes, warps = u32(tile.warp_threads), u32(tile.warp_count)
    height, width, depth = u32(tile.height), u32(tile.width), u32(tile.depth)
    chunks, count = tile.chunks, tile.rows * tile.columns
    steps = tile.depth // tile.warp_count  # of a slice, whose pixels a warp fetches
    fetched, weights_fetched = steps * chunks, 4 * tile.weight_quads
    weight_slice = u32(tile.height * tile.depth)
    weight_buffers, pixel_buffers = 2 * tile.weight_buffer, 2 * tile.pixel_buffer
    weight_buffer, pixel_buffer = u32(tile.weight_buffer), u32(tile.pixel_buffer)
    multiply, multiply_some = multiplier(tile, dtype, tile.height, tile.width, tile.depth)
    own, _, _ = positioner(tile)
    fetch_weights, store = stager(tile, dtype)
    write = writer(tile, dtype, activation)

    @device
    def fetch(x, origins, distances, pixels):
        for q in range(steps):
            for m in range(chunks):
                pixels[q * chunks + m] = x[u32(origins[m] + distances[q])]

    @device
    def look_up(offsets, tap, distances):
        for q in range(steps):
            distances[q] = offsets[tap + u32(q) * warps]

    @kernel(tile.threads, tile.blocks)
    def convolution_forward(
        x,  # N*C*H*W
        packed,  # blocks of filters x steps x height
        offsets,  # steps and more
        bias,  # K
        y,  # N*K*Ho*Wo
        steps_packed,
        g,  # Sizes
    ):
        weight_tile = cuda.shared.array(weight_buffers, dtype)
        pixel_tile = cuda.shared.array(pixel_buffers, dtype)
        sums = cuda.local.array(count, dtype)
        pixels = cuda.local.array(fetched, dtype)
        weights = cuda.local.array(weights_fetched, dtype)
        distances = cuda.local.array(steps, u32)
        origins = cuda.local.array(chunks, u32)
        places = cuda.local.array(chunks, u32)

        thread = u32(cuda.threadIdx.x)
        lane, warp = u32(thread % lanes), u32(thread // lanes)
        filters, plane, pixel_count = u32(g.filters), u32(g.output_plane), u32(g.pixels)
        first_filter = u32(u32(cuda.blockIdx.y) * height)
        first_pixel = u32(u32(cuda.blockIdx.x) * width + lane)
        row, column = own()
        for m in range(count):
            sums[m] = dtype(0)
        # Where the windows of the thread's pixels begin; a pixel beyond the last is the last
        for m in range(chunks):
            p = u32(min(u32(first_pixel + u32(m) * lanes), u32(pixel_count - u32(1))))
            n = u32(p // plane)
            p = u32(p - n * plane)
            oy = u32(p // u32(g.output_width))
            ox = u32(p - oy * u32(g.output_width))
            place = u32(n * u32(g.image) + oy * u32(g.pixel[0]) + ox * u32(g.pixel[1]))
            origins[m] = place

        tap, buffer = warp, u32(0)
        weight = place_of(packed, u32(first_filter * u32(steps_packed) + u32(4) * thread))
        look_up(offsets, tap, distances)
        fetch(x, origins, distances, pixels)
        fetch_weights(packed, weight, weights)
        store(weights, pixels, buffer, weight_tile, pixel_tile)
        tap = u32(tap + depth)
        look_up(offsets, tap, distances)
        cuda.syncthreads()
        left = u32(g.taps)
        while left >= depth:
            weight = moved(packed, weight, weight_slice)
            fetch(x, origins, distances, pixels)
            fetch_weights(packed, weight, weights)
            first = u32(row | (buffer & weight_buffer))
            second = u32(column | (buffer & pixel_buffer))
            multiply(first, second, weight_tile, pixel_tile, sums)
            buffer = u32(~buffer)
            store(weights, pixels, buffer, weight_tile, pixel_tile)
            tap = u32(tap + depth)
            look_up(offsets, tap, distances)
            cuda.syncthreads()
            left = u32(left - depth)
        first = u32(row | (buffer & weight_buffer))
        second = u32(column | (buffer & pixel_buffer))
        multiply_some(left, first, second, weight_tile, pixel_tile, sums)

        for m in range(chunks):
            p = u32(first_pixel + u32(m) * lanes)
            place = u32(p + u32(p // plane) * u32(filters - u32(1)) * plane)
            places[m] = place if p < pixel_count else NOWHERE
        write(sums, pixel_tile, bias, g.biased, y, places, first_filter, filters, plane)

    return convolution_forward


def forward(x, weights, bias, shape: geometry.ConvolutionShape, activation, tile: Tile):
    """y for checked arguments; see ``kernels.convolution.cuda.forward``."""
    dtype = x.dtype.type
    y = memory.empty(shape.y, x.dtype)
    packed = memory.empty(tile.packed_shape(shape.filters, shape.taps), x.dtype)
    steps = packed.shape[1]
    offsets = memory.empty((steps + tile.depth,), "uint32")
    sizes = Sizes.of(shape, bias is not None)
    weights, packed = flat("weights", weights), flat("packed weights", packed)
    count = max(packed.size, offsets.size)
    pack = _pack_kernel(dtype)
    launch_over(pack, count, weights, packed, offsets, steps, tile.height, sizes)
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
        steps,
        sizes,
    )
    return y
