"""Weight gradient on the host: tiles of output channels x taps that run over the pixels.

Pixels are taken in blocks of ``BLOCK``, whose errors are packed channel by channel. Blocks are
summed in groups and groups in order, so the result does not depend on the number of threads.
"""

import numpy as np
from numba import prange

from kernels import simd
from kernels.compilation import compiled, compiled_parallel
from kernels.memory import cpu as memory

BLOCK = 256
GROUPS = 16
PARTIAL_BYTES = 64 * 2**20


def accumulate(gradient, x, error, shape):
    """Fill ``gradient`` (K*C*kh*kw) from flat ``x`` and ``error`` of a ``ConvolutionShape``."""
    (sy, sx), (dy, dx), (kh, kw) = shape.window.stride, shape.window.dilation, shape.window.kernel
    h, w = shape.size
    c, i, j = np.ogrid[: shape.channels, :kh, :kw]
    taps = (c * h * w + i * dy * w + j * dx).ravel()
    taps = np.append(taps, np.full(simd.pixels(x.itemsize), taps[-1]))
    blocks = -(-shape.batch * shape.output[0] * shape.output[1] // BLOCK)
    groups = min(GROUPS, blocks, max(1, PARTIAL_BYTES // gradient.nbytes))
    partial = memory.zeros((groups, shape.filters, shape.taps), x.dtype)
    _gradient_weights(
        partial,
        x,
        error,
        taps,
        simd.lanes(x.itemsize),
        simd.pixels(x.itemsize),
        (shape.batch, *shape.output),
        (shape.channels * h * w, sy * w, sx),
    )
    _sum_groups(gradient, partial.reshape(groups, -1))


def _columns_filler(vectors):
    """The weight gradient's innermost loop: output channels x taps, along a block of pixels."""

    @compiled
    def fill(
        out, out_start, out_plane, channels, columns, source, taps, first, errors, zeros, pixels
    ):
        lanes = len(zeros)
        offsets = simd.offsets_from(out, taps, first)
        tile = simd.tile_of(zeros, 0, 0, vectors)
        for q in range(len(pixels)):
            tile = simd.multiply_add(
                tile, errors, q * vectors * lanes, lanes, source, pixels[q], offsets
            )
        simd.add_to(tile, out, out_start, out_plane, 1, channels, columns)

    return fill


_columns_1, _columns_2, _columns_3 = _columns_filler(1), _columns_filler(2), _columns_filler(3)


@compiled
def _columns(vectors, *place):
    if vectors == 3:
        _columns_3(*place)
    elif vectors == 2:
        _columns_2(*place)
    else:
        _columns_1(*place)


@compiled_parallel
def _gradient_weights(partial, source, error, taps, lanes, columns_at_once, shape, pitches):
    groups, filters, columns = partial.shape
    batch, height, width = shape
    image_pitch, row_pitch, column_pitch = pitches
    flat = partial.reshape(-1)
    plane = height * width
    total = batch * plane
    blocks = -(-total // BLOCK)
    vectors = -(-filters // lanes)
    channel_blocks = -(-vectors // simd.MAX_VECTORS)
    for item in prange(groups * channel_blocks):
        group, channel_block = item // channel_blocks, item % channel_blocks
        first_vector = channel_block * simd.MAX_VECTORS
        step = min(simd.MAX_VECTORS, vectors - first_vector)
        first = first_vector * lanes
        channels = min(step * lanes, filters - first)
        zeros = np.zeros(lanes, partial.dtype)
        errors = np.zeros((BLOCK, step * lanes), partial.dtype)
        pixels = np.empty(BLOCK, np.int64)
        for block in range(blocks * group // groups, blocks * (group + 1) // groups):
            begin = block * BLOCK
            number = min(BLOCK, total - begin)
            for q in range(number):
                n, cell = (begin + q) // plane, (begin + q) % plane
                y, x = cell // width, cell % width
                pixels[q] = n * image_pitch + y * row_pitch + x * column_pitch
                place = (n * filters + first) * plane + cell
                for k in range(channels):
                    errors[q, k] = error[place + k * plane]
            for column in range(0, columns, columns_at_once):
                _columns(
                    step,
                    flat,
                    (group * filters + first) * columns + column,
                    columns,
                    channels,
                    min(columns_at_once, columns - column),
                    source,
                    taps,
                    column,
                    errors.reshape(-1),
                    zeros,
                    pixels[:number],
                )


@compiled_parallel
def _sum_groups(out, partial):
    for i in prange(len(out)):
        total = partial[0, i]
        for group in range(1, len(partial)):
            total += partial[group, i]
        out[i] = total
