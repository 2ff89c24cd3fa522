"""Weight gradient on the host: tiles of output channels x taps that run over the pixels.

Pixels are taken in blocks of ``BLOCK``, whose errors are packed so that the channels of a pixel are
neighbours. Each group of blocks has a sum of its own, and these are added in order, so the result
does not depend on the number of threads.
"""

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.convolution import PARTIAL_BYTES, PARTIAL_SUMS
from kernels.host import simd
from kernels.host.choosing import by_vectors
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.simd import COLUMNS, Runs
from kernels.host.threads import CELL, MULTIPLY_ADD
from kernels.host.work_sharing import queue, take
from kernels.memory import cpu as memory

BLOCK = 256


class _Maps(NamedTuple):
    """The flat arrays, and the sizes of the error map."""

    source: np.ndarray
    error: np.ndarray
    batch: int
    filters: int
    height: int
    width: int
    image_pitch: int  # in the source, from window to window of the next image,
    row_pitch: int  # of the next row
    column_pitch: int  # and of the next column


class _Tiling(NamedTuple):
    """How the sums are shared out."""

    taps: np.ndarray  # where they lie from a window's corner
    lanes: int
    vectors: int  # that hold all output channels
    blocks: np.ndarray  # of these: first vector, vectors
    groups: int  # of pixels, each with sums of its own


def accumulate(gradient, x, error, shape):
    """Fill ``gradient`` (K*C*kh*kw) from flat ``x`` and ``error`` of a ``ConvolutionShape``."""
    (sy, sx), (h, w) = shape.window.stride, shape.size
    lanes, taps = simd.lanes(x.itemsize), _taps(shape)
    pixels = shape.batch * shape.output[0] * shape.output[1]
    groups, _, channels = sums = partial_shape(shape.weights, pixels, x.itemsize)
    vectors = channels // lanes
    partial = memory.zeros(sums, x.dtype)
    pitches = shape.channels * h * w, sy * w, sx
    maps = _Maps(x, error, shape.batch, shape.filters, *shape.output, *pitches)
    tiling = _Tiling(taps, lanes, vectors, np.array(simd.blocks(vectors)), groups)
    work = MULTIPLY_ADD * pixels * gradient.size
    _add_up(partial.reshape(-1), maps, tiling, queue(), numba.get_num_threads(), work=work)
    _sum_groups(gradient.reshape(shape.filters, shape.taps), partial, work=CELL * partial.size)


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

    @inner
    def add_block(sums, errors, source, pixels, taps, lanes):
        for column in range(0, len(taps), COLUMNS):
            offsets = taps[column : column + COLUMNS]
            tile = simd.tile_of_zeros(errors, vectors, COLUMNS)
            for q in range(len(pixels)):
                e = q * vectors * lanes
                tile = simd.multiply_add(tile, errors, e, lanes, source, pixels[q], offsets)
            at = sums.at + column * sums.pitch
            simd.add_vectors(tile, sums.array, at, sums.pitch, COLUMNS)

    return add_block


_add_block = by_vectors([_loop(v) for v in range(1, simd.MAX_VECTORS + 1)])


@inner
def _pack(packed, errors, channels, pixels, lanes):
    """Copy a run of ``pixels`` of each channel: pixel q of channel k becomes number k of run q."""
    whole, wide = channels // COLUMNS * COLUMNS, pixels // lanes * lanes
    for k in range(0, whole, COLUMNS):
        for q in range(0, wide, lanes):
            at = errors.at + k * errors.pitch + q
            tile = simd.tile_of_columns(errors.array, at, errors.pitch, 1, COLUMNS)
            to = packed.at + q * packed.pitch + k
            simd.store_transposed(tile, packed.array, to, packed.pitch, lanes)
    for k in range(channels):
        for q in range(wide if k < whole else 0, pixels):
            error = errors.array[errors.at + k * errors.pitch + q]
            packed.array[packed.at + q * packed.pitch + k] = error


@inner
def _list_pixels(pixels, begin, maps):
    """Where the windows of the pixels from number ``begin`` on lie in the source."""
    n = begin // (maps.height * maps.width)
    y, x = begin // maps.width % maps.height, begin % maps.width
    for q in range(len(pixels)):
        pixels[q] = n * maps.image_pitch + y * maps.row_pitch + x * maps.column_pitch
        x += 1
        if x == maps.width:
            x, y = 0, y + 1
        if y == maps.height:
            y, n = 0, n + 1


@compiled_parallel
def _add_up(partial, maps, tiling, items, threads):
    lanes, plane = tiling.lanes, maps.height * maps.width
    total = maps.batch * plane
    blocks = -(-total // BLOCK)
    for _ in prange(threads):
        errors = np.empty(BLOCK * simd.MAX_VECTORS * lanes, partial.dtype)
        pixels = np.empty(BLOCK, np.int64)
        item = take(items)
        while item < tiling.groups * len(tiling.blocks):
            group = item // len(tiling.blocks)
            first, v = tiling.blocks[item % len(tiling.blocks)]
            item = take(items)
            channels = min(v * lanes, maps.filters - first * lanes)
            at = (group * len(tiling.taps) * tiling.vectors + first) * lanes
            sums = Runs(partial, at, tiling.vectors * lanes)
            errors[:] = 0
            first_block = blocks * group // tiling.groups
            for block in range(first_block, blocks * (group + 1) // tiling.groups):
                begin = block * BLOCK
                count = min(BLOCK, total - begin)
                _list_pixels(pixels[:count], begin, maps)
                q = 0
                while q < count:
                    n, pixel = (begin + q) // plane, (begin + q) % plane
                    run = min(count - q, plane - pixel)
                    at = (n * maps.filters + first * lanes) * plane + pixel
                    packed = Runs(errors, q * v * lanes, v * lanes)
                    _pack(packed, Runs(maps.error, at, plane), channels, run, lanes)
                    q += run
                _add_block(v, sums, errors, maps.source, pixels[:count], tiling.taps, lanes)


@compiled_parallel
def _sum_groups(out, partial):
    filters, taps = out.shape
    for tap in prange(taps):
        for k in range(filters):
            total = partial[0, tap, k]
            for group in range(1, len(partial)):
                total += partial[group, tap, k]
            out[k, tap] = total
