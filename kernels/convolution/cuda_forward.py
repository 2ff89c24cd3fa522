"""Forward convolution: implicit matrix product of weights and pixels, no copy of the input.

    y[k, p] = f(b[k] + sum over t = (c, i, j) of w[k, t] * x[n, c, oy*s + i*d, ox*s + j*d]),
    p = (n, oy, ox) flattened

An input's address is that of its pixel's window plus the offset of its tap. A thread computes its
pixels' windows once; a table holds the offsets of the taps, made by the kernel that packs the
weights in the order in which blocks read them. Each sum is one accumulator that runs through the
taps in order, whatever the tile, the stride and the dilation: the dense form has the patch net's
bits. With a 1 x 1 window the taps are channels, and no table is read: a plain matrix product.

Multiply-adds: N*K*Ho*Wo*C*kh*kw. Bytes: each block of filters reads the input and each block of
pixels reads the weights once; the output is written once. Workspace: a copy of the weights.
"""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

from kernels.convolution import ConvolutionShape
from kernels.convolution.cuda_map_tile import NOWHERE, stager, writer
from kernels.convolution.cuda_sizes import ConvolutionSizes, tap_offset
from kernels.convolution.cuda_tile import (
    Tile,
    lane_and_warp,
    main_loop,
    multiplier,
    opener,
    partial_multiplier,
)
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, ceil_division, flat
from kernels.memory import cuda as memory


@cache
def _pack_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def pack_weights(
        weights,  # K*taps, or taps*K
        packed,  # steps x filters and more
        offsets,  # steps and more, clamped to the last tap
        pitch,
        weights_at,  # the first one, and distances between filters, and between taps
        g,  # ConvolutionSizes
    ):
        i = u32(cuda.grid(1))
        if i < packed.size:
            t, k = divmod_u32(i, pitch)
            first, of_filter, of_tap = weights_at
            at = u32(u32(first) + k * u32(of_filter) + t * u32(of_tap))
            packed[i] = weights[at] if k < u32(g.filters) else dtype(0)
        if i < offsets.size:
            offsets[i] = tap_offset(min(i, u32(u32(g.taps) - u32(1))), g)

    return pack_weights


class PixelSource(NamedTuple):
    """How a block fetches its pixels; arguments named ``source`` are (arrays, sizes) of the kernel.

    Attributes:
        origins: registers for where the pixels' windows begin.
        open: device function (first_pixel, x, tables, origins, g), before the first slice.
        locate: device function (step, source): looks up how far a warp's steps of a slice lie from
            there, or where their rows begin.
        fetch: device function (source, pixels).
    """

    origins: int
    open: object
    locate: object
    fetch: object


@cache
def _map_source(tile: Tile, pointwise):
    """Pixels of maps, whose table is (offsets of the taps). Of a 1 x 1 window a step is a channel,
    and no table is read."""
    warps, lanes = u32(tile.warp_count), u32(tile.warp_threads)
    chunks, steps = tile.chunks, tile.warp_steps

    @device
    def open_windows(first_pixel, tables, origins, g):
        """Where the windows of the thread's pixels begin, clamped to the last pixel."""
        plane, pixel_count = u32(g.output_plane), u32(g.pixels)
        for m in range(chunks):
            p = u32(min(u32(first_pixel + u32(m) * lanes), u32(pixel_count - u32(1))))
            n, p = divmod_u32(p, plane)
            oy, ox = divmod_u32(p, g.output[1])
            origins[m] = u32(n * u32(g.image) + oy * u32(g.pixel[0]) + ox * u32(g.pixel[1]))

    @device
    def locate(step, source):
        (_, tables, _, _, distances, _), (warp, plane, _, _, _) = source
        first = u32(step + warp)
        for q in range(steps):
            if pointwise:
                distances[q] = u32(u32(first + u32(q) * warps) * plane)
            else:
                distances[q] = tables[0][first + u32(q) * warps]

    return PixelSource(chunks, open_windows, locate, map_fetcher(tile))


@cache
def map_fetcher(tile: Tile):
    """``PixelSource.fetch`` where a pixel's windows have one origin, whatever the step."""
    chunks, steps = tile.chunks, tile.warp_steps

    @device
    def fetch(source, pixels):
        (x, _, _, origins, distances, _), _ = source
        for q in range(steps):
            for m in range(chunks):
                pixels[q * chunks + m] = x[u32(origins[m] + distances[q])]

    return fetch


def _slices(tile: Tile, dtype, source: PixelSource):
    """Device functions (begin, fetch, store, advance): slices of both factors, for ``main_loop``.

    ``begin`` takes (first_filter, first_pixel, tables, origins, weight_indices, pitch, g), before
    the first slice.
    """
    depth, (_, open_pixels, locate, fetch_pixels) = u32(tile.depth), source
    locate_weights, fetch_weights, store = stager(tile, dtype)

    @device
    def begin(first_filter, first_pixel, tables, origins, weight_indices, pitch, g):
        open_pixels(first_pixel, tables, origins, g)
        locate_weights(first_filter, pitch, u32(g.taps), weight_indices)

    @device
    def fetch(step, source, values):
        (_, _, packed, _, _, weight_indices), (_, _, pitch, _, _) = source
        pixels, weights = values
        fetch_pixels(source, pixels)
        fetch_weights(packed, weight_indices, u32(step * pitch), weights)

    @device
    def advance(step, source):
        _, (_, _, _, last_step, _) = source
        step = u32(min(u32(step + depth), last_step))
        locate(step, source)
        return step

    return begin, fetch, store, advance


def _output_placer(tile: Tile):
    """Device function (first_pixel, filters, g, places): where the thread's pixels lie in the
    output, ``NOWHERE`` beyond the last."""
    lanes, chunks = u32(tile.warp_threads), tile.chunks

    @device
    def place_outputs(first_pixel, filters, g, places):
        plane, pixel_count = u32(g.output_plane), u32(g.pixels)
        for m in range(chunks):
            p = u32(first_pixel + u32(m) * lanes)
            place = u32(p + u32(p // plane) * u32(filters - u32(1)) * plane)
            places[m] = place if p < pixel_count else NOWHERE

    return place_outputs


@cache
def convolver(tile: Tile, dtype, activation, source: PixelSource):
    """Device function (x, tables, packed, bias, y, pitch, biased, g): the body of a kernel.

    ``x`` and ``tables``, a tuple of arrays, are what the source reads; the rest is as in
    ``convolution_forward``.
    """
    depth, chunks = u32(tile.depth), tile.chunks
    steps, count, fetched = tile.warp_steps, tile.rows * tile.columns, tile.pixels_fetched
    weights_fetched, weight_loads = tile.weights_fetched, tile.weight_loads
    weight_buffers, pixel_buffers = (2 * size for size in tile.pixel_layout.buffers)
    start, numbers = opener(tile, dtype), lane_and_warp(tile)
    multiply = multiplier(tile, dtype, tile.pixel_layout, 0, tile.depth)
    multiply_rest = partial_multiplier(tile, dtype, tile.pixel_layout)
    begin, fetch, store, advance = _slices(tile, dtype, source)
    origin_count, locate = source.origins, source.locate
    place_outputs, write = _output_placer(tile), writer(tile, dtype, activation)
    loop = main_loop(tile, [(fetch, multiply, store)], advance, ahead=True)

    @device
    def convolve(x, tables, packed, bias, y, pitch, biased, g):
        weight_tile = cuda.shared.array(weight_buffers, dtype)
        pixel_tile = cuda.shared.array(pixel_buffers, dtype)
        sums = cuda.local.array(count, dtype)
        pixels = cuda.local.array(fetched, dtype)
        weights = cuda.local.array(weights_fetched, dtype)
        weight_indices = cuda.local.array(weight_loads, u32)
        distances = cuda.local.array(steps, u32)
        origins = cuda.local.array(origin_count, u32)
        places = cuda.local.array(chunks, u32)

        filters, taps, pitch = u32(g.filters), u32(g.taps), u32(pitch)
        lane, warp = numbers()
        (first_filter, first_pixel), corner = start(sums)
        first_pixel = u32(first_pixel + lane)
        begin(first_filter, first_pixel, tables, origins, weight_indices, pitch, g)

        # The last slice ends with the last step: it may repeat some of the slice before
        last_step = u32(max(taps, depth) - depth)
        arrays = x, tables, packed, origins, distances, weight_indices
        source = arrays, (warp, u32(g.plane), pitch, last_step, first_pixel)
        values, tiles = (pixels, weights), (weight_tile, pixel_tile)
        step, buffer = u32(0), u32(0)
        locate(step, source)
        fetch(step, source, values)
        store(values, buffer, tiles)
        step = advance(step, source)
        cuda.syncthreads()
        left, buffer = loop(taps, buffer, step, source, values, corner, tiles, sums)
        done = u32(taps - left)
        repeated = u32(done - min(done, last_step))
        multiply_rest(left, (repeated, repeated), buffer, corner, tiles, sums)

        place_outputs(first_pixel, filters, g, places)
        write(sums, pixel_tile, bias, biased, y, places, first_filter, filters, u32(g.output_plane))

    return convolve


@cache
def _forward_kernel(tile: Tile, dtype, activation, pointwise):
    convolve = convolver(tile, dtype, activation, _map_source(tile, pointwise))

    @kernel(tile.threads, tile.blocks, tile=tile)
    def convolution_forward(
        x,  # N*C*H*W
        packed,  # steps x filters and more
        offsets,  # steps and more
        bias,  # K
        y,  # N*K*Ho*Wo
        pitch,  # of the steps in packed
        biased,
        g,  # ConvolutionSizes
    ):
        convolve(x, (offsets,), packed, bias, y, pitch, biased, g)

    return convolution_forward


def forward(x, weights, bias, shape: ConvolutionShape, activation, tile: Tile):
    """y for checked arguments; see ``kernels.convolution.cuda.forward``."""
    y = memory.empty(shape.y, x.dtype)
    convolve(x, weights, (0, shape.taps, 1), bias, y, shape, activation, tile)
    return y


def gradient_input(error, weights, shape: ConvolutionShape, tile: Tile):
    """dx of a 1 x 1 convolution that reads every pixel: the error convolved with w transposed."""
    gradient = memory.empty(shape.x, error.dtype)
    transposed = replace(shape, channels=shape.filters, filters=shape.channels)
    places = 0, 1, shape.channels
    convolve(error, weights, places, None, gradient, transposed, None, tile)
    return gradient


def convolve(x, weights, weights_at, bias, y, shape, activation, tile):
    """Pack the weights and launch the convolution into y; ``weights_at`` as in ``pack``."""
    dtype, sizes = x.dtype.type, ConvolutionSizes.of(shape)
    pointwise = shape.window.kernel == (1, 1) and shape.channels >= tile.depth
    packed, offsets, pitch = pack(weights, weights_at, sizes, tile)
    launch(
        _forward_kernel(tile, dtype, activation, pointwise),
        (ceil_division(sizes.pixels, tile.width), ceil_division(shape.filters, tile.height)),
        tile.threads,
        flat("x", x),
        packed,
        offsets,
        flat("weights", weights) if bias is None else bias,
        flat("y", y),
        pitch,
        bias is not None,
        sizes,
    )


def pack(weights, weights_at, sizes: ConvolutionSizes, tile: Tile):
    """(weights, steps x filters and more; offsets of the steps; pitch of the steps) for a tile.

    ``weights_at`` are the place of the first of the ``weights``, and the distances between filters,
    and between taps.
    """
    packed = memory.empty(tile.packed_shape(sizes.filters, sizes.taps), weights.dtype)
    offsets, pitch = memory.empty((max(sizes.taps, tile.depth),), "uint32"), packed.shape[1]
    packed = flat("packed weights", packed)
    packing = flat("weights", weights), packed, offsets, pitch, weights_at, sizes
    launch_over(_pack_kernel(weights.dtype.type), max(packed.size, offsets.size), *packing)
    return packed, offsets, pitch
