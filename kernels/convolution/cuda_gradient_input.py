"""Gradient by the input: an implicit matrix product of weights and the error map.

    dx[n, c, y, x] = sum over t = (i, j, k) of w[k, c, i, j] * e[n, k, (y - i*d) / s, (x - j*d) / s]
    over the taps where both quotients are whole and inside the error map

Which quotients are whole depends only on the remainders of y and x by s. So the pixels are divided
into parts by their remainders; all pixels of a part have the same taps, and a stride of 1. The
channels k of the error map run fastest: within a tap a thread's pixels stay at their places in the
error map, and the main loop computes no taps. Neighbouring threads read neighbouring errors. No
flipped or padded copy of a map is made.

Where a tap lies outside of the error map, its weight is multiplied by 0: exact, unless the weight
is not finite.

Multiply-adds: N*C*H*W*K*kh*kw / (sy*sx), taps beyond the error map's border included. Bytes: each
block of channels reads the error map and each block of pixels reads the weights once; the gradient
is written once. Workspace: a copy of the weights, its channels rounded up to fours.
"""

from functools import cache
from itertools import product
from math import gcd, prod
from typing import NamedTuple

from kernels.checks import Pair
from kernels.convolution import ConvolutionShape
from kernels.convolution.cuda_map_tile import NOWHERE, stager, writer
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
from kernels.device.loads import computed_once, load_if, place_of
from kernels.memory import cuda as memory


class Part(NamedTuple):
    """The pixels of the gradient with the same remainders by the stride, and their taps.

    These pixels have the gradient of a convolution with stride 1: pixel (y, x) of the part reads
    the error at (y, x) - ``shift`` - (i, j) * ``step`` at its tap (i, j).
    """

    batch: int
    channels: int
    filters: int
    first_pixel: Pair
    pixel_step: Pair
    size: Pair  # pixels
    image_size: Pair
    first_tap: Pair
    tap_step: Pair
    taps: Pair
    kernel: Pair
    shift: Pair
    step: Pair
    output: Pair

    @classmethod
    def all_of(cls, shape: ConvolutionShape):
        """The parts of a convolution's input."""
        window = shape.window
        axes = [_parts(*a) for a in zip(shape.size, window.kernel, window.stride, window.dilation)]
        for pair in product(*axes):
            yield cls(
                batch=shape.batch,
                channels=shape.channels,
                filters=shape.filters,
                pixel_step=window.stride,
                image_size=shape.size,
                kernel=window.kernel,
                output=shape.output,
                **{name: tuple(axis[name] for axis in pair) for name in pair[0]},
            )

    def blocks(self, tile: Tile) -> Pair:
        """The grid of a tile's blocks."""
        pixels = ceil_division(self.batch * prod(self.size), tile.width)
        return pixels, ceil_division(self.channels, tile.height)


def _parts(size, kernel, stride, dilation):
    """Along one axis, for each remainder: its pixels, its taps, and which errors these read."""
    tap_step = stride // gcd(stride, dilation)
    for remainder in range(min(size, stride)):
        taps = [i for i in range(kernel) if i * dilation % stride == remainder]
        first = taps[0] if taps else 0
        yield {
            "first_pixel": remainder,
            "size": ceil_division(size - remainder, stride),
            "first_tap": first,
            "tap_step": tap_step,
            "taps": len(taps),
            "shift": (first * dilation - remainder) // stride if taps else 0,
            "step": tap_step * dilation // stride,
        }


@cache
def _pack_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def pack_weights_transposed(
        weights,  # K*C*kh*kw
        packed,  # steps x channels and more; steps are taps x filters
        pitch,
        g,  # Part
    ):
        i = u32(cuda.grid(1))
        if i < packed.size:
            filters, channels = u32(g.filters), u32(g.channels)
            t, c = divmod_u32(i, pitch)
            tap, k = divmod_u32(t, filters)
            y, x = divmod_u32(tap, max(g.taps[1], 1))
            x = u32(u32(g.first_tap[1]) + x * u32(g.tap_step[1]))
            y = u32(u32(g.first_tap[0]) + y * u32(g.tap_step[0]))
            at = u32(u32(k * channels + c) * u32(g.kernel[0]) + y)
            packed[i] = weights[u32(at * u32(g.kernel[1]) + x)] if c < channels else dtype(0)

    return pack_weights_transposed


class Neighbours(NamedTuple):
    """Which errors a block's pixels read at each tap.

    Attributes:
        open: device function (first_pixel, positions, places, g), before the first tap.
        move: device function (tap, j, table, positions, places, present, g): advances from the tap
            in column j of the window to the next, and updates the error addresses and which pixels
            have one; returns the tap's column.
    """

    open: object
    move: object


@cache
def _of_maps(tile: Tile):
    """The neighbours of pixels of maps, whose positions are (rows, columns); there is no table."""
    lanes, chunks = u32(tile.warp_threads), tile.chunks

    @device
    def open_pixels(first_pixel, positions, places, g):
        ys, xs = positions
        filters, pixels = u32(g.filters), u32(u32(g.size[0]) * u32(g.size[1]))
        error_plane = u32(u32(g.output[0]) * u32(g.output[1]))
        for m in range(chunks):
            n, p = divmod_u32(u32(first_pixel + u32(m) * lanes), pixels)
            ys[m], xs[m] = divmod_u32(p, u32(g.size[1]))
            image = u32(n * filters * error_plane)
            places[m] = u32(image + ys[m] * u32(g.output[1]) + xs[m])
            # A pixel beyond the last has no error
            ys[m] = ys[m] if n < u32(g.batch) else NOWHERE

    @device
    def move(tap, j, table, positions, places, present, g):
        ys, xs = positions
        if tap == u32(0):
            down, across = u32(g.shift[0]), u32(g.shift[1])
        else:
            j, down, across = u32(j + u32(1)), u32(0), u32(g.step[1])
            if j == u32(g.taps[1]):
                j, down, across = u32(0), u32(g.step[0]), u32(across - j * across)
        distance = u32(down * u32(g.output[1]) + across)
        for m in range(chunks):
            ys[m], xs[m] = u32(ys[m] - down), u32(xs[m] - across)
            places[m] = u32(places[m] - distance)
            inside = ys[m] < u32(g.output[0]) and xs[m] < u32(g.output[1])
            present[m] = computed_once(u32(1) if inside else u32(0))
        return j

    return Neighbours(open_pixels, move)


@cache
def _fetcher(tile: Tile, dtype, first_slice):
    """A device function that fetches a slice: the first one of a tap, or another."""
    warps, chunks, steps = u32(tile.warp_count), tile.chunks, tile.warp_steps
    _, fetch_weights, _ = stager(tile, dtype)

    @device
    def fetch(at, source, values):
        """Fetch the slice whose errors begin at the filter k, and whose weights at a step."""
        (k, step), (errors, weights) = at, values
        (error, packed, places, present, weight_indices), sizes = source
        warp, filters, plane, pitch = sizes
        for q in range(steps):
            of_map = u32(k + warp + u32(q) * warps)
            if first_slice:  # which alone may have more steps than there are filters
                of_map = u32(min(of_map, u32(filters - u32(1))))
            of_map = u32(of_map * plane)
            for m in range(chunks):
                e, place = q * chunks + m, place_of(error, u32(places[m] + of_map))
                errors[e] = load_if(present[m], error, place, u32(0), errors[e])
        fetch_weights(packed, weight_indices, u32(step * pitch), weights)

    return fetch


@cache
def _mover(tile: Tile, dtype, neighbours: Neighbours):
    """``Neighbours.move``; the errors of pixels that have none at the tap become 0."""
    fetched, move_on = tile.pixels_fetched, neighbours.move

    @device
    def move(tap, j, table, positions, source, errors, g):
        (_, _, places, present, _), _ = source
        j = move_on(tap, j, table, positions, places, present, g)
        for m in range(fetched):
            errors[m] = dtype(0)
        return j

    return move


@cache
def _accumulator(tile: Tile, dtype, neighbours: Neighbours):
    """Device function (table, positions, source, values, corner, tiles, sums, g): adds all taps."""
    depth = u32(tile.depth)
    multiply = multiplier(tile, dtype, tile.pixel_layout, 0, tile.depth)
    multiply_rest = partial_multiplier(tile, dtype, tile.pixel_layout)
    fetch_first, fetch_next = (_fetcher(tile, dtype, first) for first in (True, False))
    move, (_, _, store) = _mover(tile, dtype, neighbours), stager(tile, dtype)

    @device
    def fetch(cursor, source, values):
        first_step, k, _ = cursor
        fetch_next((k, u32(first_step + k)), source, values)

    @device
    def advance(cursor, source):
        first_step, k, last_k = cursor
        return first_step, u32(min(u32(k + depth), last_k)), last_k

    loop = main_loop(tile, [(fetch, multiply, store)], advance)

    @device
    def accumulate(table, positions, source, values, corner, tiles, sums, g):
        filters, taps = u32(g.filters), u32(u32(g.taps[0]) * u32(g.taps[1]))
        # The last slice of a tap ends with the last filter: it may repeat some of the slice before
        last_k = u32(max(filters, depth) - depth)
        last_step = u32(max(u32(taps * filters), depth) - depth)
        tap, j, step, buffer = u32(0), u32(0), u32(0), u32(0)
        if tap < taps:
            j = move(u32(0), j, table, positions, source, values[0], g)
            fetch_first((u32(0), step), source, values)
            store(values, buffer, tiles)
            cuda.syncthreads()
        while tap < taps:
            cursor = step, u32(0), last_k
            left, buffer = loop(filters, buffer, cursor, source, values, corner, tiles, sums)
            done = u32(filters - left)
            k = u32(min(done, last_k))
            skipped = u32(u32(step + done) - min(u32(step + k), last_step)), u32(done - k)
            # The last slice of a tap, while the first one of the next tap is fetched
            tap, step = u32(tap + u32(1)), u32(step + filters)
            if tap < taps:
                j = move(tap, j, table, positions, source, values[0], g)
                fetch_first((u32(0), u32(min(step, last_step))), source, values)
            multiply_rest(left, skipped, buffer, corner, tiles, sums)
            if tap < taps:
                buffer = u32(~buffer)
                store(values, buffer, tiles)
                cuda.syncthreads()

    return accumulate


@cache
def _pixel_placer(tile: Tile):
    """Device function (first_pixel, row, pixels, places, g): where a thread's pixels lie in the
    gradient. A part has ``pixels`` of an image, ``row`` of them in a row."""
    lanes, chunks = u32(tile.warp_threads), tile.chunks

    @device
    def place_pixels(first_pixel, row, pixels, places, g):
        plane = u32(u32(g.image_size[0]) * u32(g.image_size[1]))
        for m in range(chunks):
            n, p = divmod_u32(u32(first_pixel + u32(m) * lanes), pixels)
            y, x = divmod_u32(p, row)
            x = u32(x * u32(g.pixel_step[1]) + u32(g.first_pixel[1]))
            y = u32(y * u32(g.pixel_step[0]) + u32(g.first_pixel[0]))
            place = u32(n * u32(g.channels) * plane + y * u32(g.image_size[1]) + x)
            places[m] = place if n < u32(g.batch) else NOWHERE

    return place_pixels


@cache
def gatherer(tile: Tile, dtype, neighbours: Neighbours):
    """Device function (error, table, packed, pitch, gradient, g): the body of a kernel.

    ``table`` is what ``neighbours`` look up; the rest is as in ``convolution_gradient_input``.
    """
    chunks, count, fetched = tile.chunks, tile.rows * tile.columns, tile.pixels_fetched
    weights_fetched, weight_loads = tile.weights_fetched, tile.weight_loads
    weight_buffers, pixel_buffers = (2 * size for size in tile.pixel_layout.buffers)
    start, numbers = opener(tile, dtype), lane_and_warp(tile)
    open_pixels, (locate_weights, _, _) = neighbours.open, stager(tile, dtype)
    accumulate = _accumulator(tile, dtype, neighbours)
    place_pixels, write = _pixel_placer(tile), writer(tile, dtype, None)

    @device
    def gather(error, table, packed, pitch, gradient, g):
        weight_tile = cuda.shared.array(weight_buffers, dtype)
        pixel_tile = cuda.shared.array(pixel_buffers, dtype)
        sums = cuda.local.array(count, dtype)
        values = cuda.local.array(fetched, dtype), cuda.local.array(weights_fetched, dtype)
        weight_indices = cuda.local.array(weight_loads, u32)
        positions = cuda.local.array(chunks, u32), cuda.local.array(chunks, u32)
        places = cuda.local.array(chunks, u32)
        present = cuda.local.array(chunks, u32)

        filters, channels, pitch = u32(g.filters), u32(g.channels), u32(pitch)
        error_plane = u32(u32(g.output[0]) * u32(g.output[1]))
        plane = u32(u32(g.image_size[0]) * u32(g.image_size[1]))
        row, pixels = u32(g.size[1]), u32(u32(g.size[0]) * u32(g.size[1]))
        lane, warp = numbers()
        (first_channel, first_pixel), corner = start(sums)
        first_pixel = u32(first_pixel + lane)
        open_pixels(first_pixel, positions, places, g)
        steps = u32(u32(u32(g.taps[0]) * u32(g.taps[1])) * filters)
        locate_weights(first_channel, pitch, steps, weight_indices)
        arrays = error, packed, places, present, weight_indices
        source, tiles = (arrays, (warp, filters, error_plane, pitch)), (weight_tile, pixel_tile)
        accumulate(table, positions, source, values, corner, tiles, sums, g)
        place_pixels(first_pixel, row, pixels, places, g)
        write(sums, pixel_tile, gradient, False, gradient, places, first_channel, channels, plane)

    return gather


@cache
def _gradient_kernel(tile: Tile, dtype):
    gather = gatherer(tile, dtype, _of_maps(tile))

    @kernel(tile.threads, tile.blocks, tile=tile)
    def convolution_gradient_input(
        error,  # N*K*Ho*Wo
        packed,  # steps x channels and more; steps are taps x filters
        pitch,  # of the steps in packed
        gradient,  # N*C*H*W
        g,  # Part
    ):
        gather(error, error, packed, pitch, gradient, g)

    return convolution_gradient_input


def gradient_input(error, weights, shape: ConvolutionShape, tile: Tile):
    """dx for checked arguments; see ``kernels.convolution.cuda.gradient_input``."""
    dtype = error.dtype.type
    gradient = memory.empty(shape.x, error.dtype)
    for part in Part.all_of(shape):
        packed, pitch = pack(weights, part, tile)
        arrays = flat("error", error), packed, pitch, flat("gradient", gradient)
        launch(_gradient_kernel(tile, dtype), part.blocks(tile), tile.threads, *arrays, part)
    return gradient


def pack(weights, part: Part, tile: Tile):
    """(weights, steps x channels and more, steps being taps x filters; their pitch) for a tile."""
    shape = tile.packed_shape(part.channels, prod(part.taps) * part.filters)
    packed = flat("packed weights", memory.empty(shape, weights.dtype))
    packing = flat("weights", weights), packed, shape[1], part
    launch_over(_pack_kernel(weights.dtype.type), packed.size, *packing)
    return packed, shape[1]
