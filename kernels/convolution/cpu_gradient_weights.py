"""Weight gradient on the host: tiles of output channels x taps that run over the pixels.

Pixels are taken in blocks of ``BLOCK``, whose errors are packed channel by channel. Blocks are
summed in groups and groups in order, so the result does not depend on the number of threads.
"""

from functools import lru_cache

import numba
import numpy as np
from numba import prange

from kernels.convolution import PARTIAL_BYTES, PARTIAL_SUMS
from kernels.host import simd
from kernels.host.compilation import compiled, compiled_parallel
from kernels.host.simd import COLUMNS
from kernels.host.work_sharing import queue, take
from kernels.memory import cpu as memory

BLOCK = 256


def accumulate(gradient, x, error, shape):
    """Fill ``gradient`` (K*C*kh*kw) from flat ``x`` and ``error`` of a ``ConvolutionShape``."""
    (sy, sx), (h, w) = shape.window.stride, shape.size
    lanes, taps = simd.lanes(x.itemsize), _taps(shape)
    pixels = shape.batch * shape.output[0] * shape.output[1]
    groups, _, channels = sums = partial_shape(shape.weights, pixels, x.itemsize)
    vectors = channels // lanes
    partial = memory.zeros(sums, x.dtype)
    _gradient_weights(
        partial.reshape(-1),
        groups,
        x,
        error,
        shape.filters,
        taps,
        lanes,
        vectors,
        np.array(simd.blocks(vectors)),
        (shape.batch, *shape.output),
        (shape.channels * h * w, sy * w, sx),
        queue(),
        numba.get_num_threads(),
    )
    _sum_groups(gradient.reshape(shape.filters, shape.taps), partial)


def partial_shape(weights, pixels, itemsize):
    """Of the sums that a gradient by weights of that shape is taken in, over so many pixels:
    (sums, taps, channels), taps and channels filled up to whole tiles."""
    lanes, (filters, channels, kh, kw) = simd.lanes(itemsize), weights
    taps = -(-channels * kh * kw // COLUMNS) * COLUMNS
    vectors, blocks = -(-filters // lanes), -(-pixels // BLOCK)
    most = max(1, PARTIAL_BYTES // (taps * vectors * lanes * itemsize))
    return min(PARTIAL_SUMS, blocks, most), taps, vectors * lanes


@lru_cache(1024)
def _taps(shape):
    """Where the taps of a window lie from its corner, the last repeated to fill a tile."""
    (dy, dx), (kh, kw), (h, w) = shape.window.dilation, shape.window.kernel, shape.size
    c, i, j = np.ogrid[: shape.channels, :kh, :kw]
    taps = (c * h * w + i * dy * w + j * dx).ravel()
    return np.append(taps, np.full(-len(taps) % COLUMNS, taps[-1]))


def _loop(vectors):
    """The innermost loops: output channels x taps, along a block of pixels."""

    @compiled
    def add_block(partial, at, pitch, errors, source, pixels, taps, lanes):
        for column in range(0, len(taps), COLUMNS):
            offsets = taps[column : column + COLUMNS]
            tile = simd.tile_of_zeros(partial, vectors, COLUMNS)
            for q in range(len(pixels)):
                e = q * vectors * lanes
                tile = simd.multiply_add(tile, errors, e, lanes, source, pixels[q], offsets)
            simd.add_vectors(tile, partial, at + column * pitch, pitch, COLUMNS)

    return add_block


@compiled
def _pack(errors, to, pitch, error, at, plane, channels, pixels, lanes):
    """Copy a run of ``pixels`` of each channel: errors[to + q * pitch + k]."""
    whole, wide = channels // COLUMNS * COLUMNS, pixels // lanes * lanes
    for k in range(0, whole, COLUMNS):
        for q in range(0, wide, lanes):
            tile = simd.tile_of_columns(error, at + k * plane + q, plane, 1, COLUMNS)
            simd.store_transposed(tile, errors, to + q * pitch + k, pitch, lanes)
    for k in range(channels):
        for q in range(wide if k < whole else 0, pixels):
            errors[to + q * pitch + k] = error[at + k * plane + q]


_ADD_1, _ADD_2, _ADD_3 = _loop(1), _loop(2), _loop(3)


@compiled
def _add_block(vectors, *place):
    if vectors == 3:
        _ADD_3(*place)
    elif vectors == 2:
        _ADD_2(*place)
    else:
        _ADD_1(*place)


@compiled_parallel
def _gradient_weights(
    partial,
    groups,
    source,
    error,
    filters,
    taps,
    lanes,
    vectors,
    channel_blocks,
    shape,
    pitches,
    items,
    threads,
):
    batch, height, width = shape
    image_pitch, row_pitch, column_pitch = pitches
    plane = height * width
    total = batch * plane
    blocks = -(-total // BLOCK)
    for _ in prange(threads):
        errors = np.empty(BLOCK * simd.MAX_VECTORS * lanes, partial.dtype)
        pixels = np.empty(BLOCK, np.int64)
        item = take(items)
        while item < groups * len(channel_blocks):
            group = item // len(channel_blocks)
            first, v = channel_blocks[item % len(channel_blocks)]
            item = take(items)
            channels = min(v * lanes, filters - first * lanes)
            at = (group * len(taps) * vectors + first) * lanes
            errors[:] = 0
            for block in range(blocks * group // groups, blocks * (group + 1) // groups):
                begin = block * BLOCK
                count = min(BLOCK, total - begin)
                n, y, x = begin // plane, begin // width % height, begin % width
                for q in range(count):
                    pixels[q] = n * image_pitch + y * row_pitch + x * column_pitch
                    x += 1
                    if x == width:
                        x, y = 0, y + 1
                    if y == height:
                        y, n = 0, n + 1
                q = 0
                while q < count:
                    n, pixel = (begin + q) // plane, (begin + q) % plane
                    run = min(count - q, plane - pixel)
                    place = (n * filters + first * lanes) * plane + pixel
                    _pack(
                        errors,
                        q * v * lanes,
                        v * lanes,
                        error,
                        place,
                        plane,
                        channels,
                        run,
                        lanes,
                    )
                    q += run
                _add_block(
                    v,
                    partial,
                    at,
                    vectors * lanes,
                    errors,
                    source,
                    pixels[:count],
                    taps,
                    lanes,
                )


@compiled_parallel
def _sum_groups(out, partial):
    filters, taps = out.shape
    for tap in prange(taps):
        for k in range(filters):
            total = partial[0, tap, k]
            for group in range(1, len(partial)):
                total += partial[group, tap, k]
            out[k, tap] = total
