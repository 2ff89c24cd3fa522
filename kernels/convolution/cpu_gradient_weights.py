"""Weight gradient on the host: tiles of output channels x taps that run over the pixels.

Pixels are taken ``PIXELS`` at a time, whose errors are packed so that the channels of a pixel are
neighbours. Each group of pixels has a sum of its own, and these are added in order, so the result
does not depend on the number of threads. The last channels, where they would fill few of a vector's
lanes: ``cpu_last_channels.py``.
"""

from functools import lru_cache
from math import lcm
from typing import NamedTuple

import numba
import numpy as np
from numba import prange

from kernels.convolution.cpu_last_channels import add_last_channels, last_channels
from kernels.convolution.cpu_taps import places_of_taps
from kernels.convolution.cpu_workspace import BLOCK, PIXELS, partial_shape
from kernels.host import simd
from kernels.host.buffers import aligned
from kernels.host.choosing import by_vectors
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.simd import CHANNEL_COLUMNS, CHANNEL_VECTORS, COLUMNS, Runs
from kernels.host.threads import ELEMENT_NS, MULTIPLY_ADD_NS
from kernels.host.work_sharing import queue, take
from kernels.memory import cpu as memory


class _ErrorSizes(NamedTuple):
    """Sizes of the error map, and distances in the source from window to window."""

    batch: int
    filters: int
    height: int
    width: int
    image_pitch: int  # to the next image's
    row_pitch: int  # to the next row's
    column_pitch: int  # to the next column's


class _GradientTiling(NamedTuple):
    """How the sums are shared out."""

    taps: np.ndarray  # where they lie from a window's corner, up to whole tiles of any shape
    rows: int  # of sums: one for each tap, padded
    lanes: int
    vectors: int  # that hold all output channels
    channels: int  # that lie in the lanes
    vector_groups: np.ndarray  # of these: first vector, vectors
    groups: int  # of pixels, each with sums of its own


def accumulate(gradient, x, error, shape):
    """Fill ``gradient`` (K*C*kh*kw) from flat ``x`` and ``error`` of a ``ConvolutionShape``."""
    sums, sizes, tiling = _plan(shape, x.itemsize)
    partial = memory.zeros(sums, x.dtype)
    flat, threads = partial.reshape(-1), numba.get_num_threads()
    work = MULTIPLY_ADD_NS * shape.multiply_adds
    if tiling.channels:
        _add_up(flat, x, error, sizes, tiling, queue(), threads, work=work)
    if tiling.channels < shape.filters:
        add_last_channels(partial, x, error, shape, tiling.channels)
    _sum_groups(
        gradient.reshape(shape.filters, shape.taps), partial, work=ELEMENT_NS * partial.size
    )


@lru_cache(1024)
def _plan(shape, itemsize):
    """(shape of the partial sums, ``_ErrorSizes``, ``_GradientTiling``)."""
    (sy, sx), (h, w), lanes = shape.window.stride, shape.size, simd.lanes(itemsize)
    pixels = shape.batch * shape.output[0] * shape.output[1]
    groups, rows, channels = sums = partial_shape(shape.weights, pixels, itemsize)
    vectors = channels // lanes
    pitches = shape.channels * h * w, sy * w, sx
    sizes = _ErrorSizes(shape.batch, shape.filters, *shape.output, *pitches)
    channels = shape.filters - last_channels(shape, itemsize)
    vector_groups = np.array(simd.vector_groups(-(-channels // lanes), CHANNEL_VECTORS))
    taps = places_of_taps(shape, lcm(*CHANNEL_COLUMNS))
    tiles = taps, rows, lanes, vectors, channels, vector_groups
    return sums, sizes, _GradientTiling(*tiles, groups)


def _loop(vectors):
    """The innermost loops: output channels x taps, along a block of pixels."""
    columns = CHANNEL_COLUMNS[vectors - 1]

    def add_block(sums, rows, errors, source, pixels, taps, lanes):
        partial, first, pitch = sums
        for column in range(0, rows, columns):
            offsets = taps[column : column + columns]
            tile = simd.tile_of_zeros(partial, vectors, columns)
            for q in range(len(pixels)):
                e = q * vectors * lanes
                tile = simd.multiply_add(tile, errors, e, lanes, source, pixels[q], offsets)
            many = min(columns, rows - column)
            simd.add_vectors(tile, partial, first + column * pitch, pitch, many)

    return add_block


_add_block = by_vectors([_loop(v) for v in range(1, CHANNEL_VECTORS + 1)])


@inner
def _pack(packed, errors, channels, pixels, lanes):
    """Copy a run of ``pixels`` of each channel: pixel q of channel k becomes number k of run q."""
    (out, to, pitch), (error, at, plane) = packed, errors
    whole, wide = channels // COLUMNS * COLUMNS, pixels // lanes * lanes
    for k in range(0, whole, COLUMNS):
        for q in range(0, wide, lanes):
            tile = simd.tile_of_columns(error, at + k * plane + q, plane, 1, COLUMNS)
            simd.store_transposed(tile, out, to + q * pitch + k, pitch, lanes)
    for k in range(channels):
        for q in range(wide if k < whole else 0, pixels):
            out[to + q * pitch + k] = error[at + k * plane + q]


@inner
def _list_pixels(pixels, begin, sizes):
    """Where the windows of the pixels from number ``begin`` on lie in the source."""
    n = begin // (sizes.height * sizes.width)
    y, x = begin // sizes.width % sizes.height, begin % sizes.width
    for q in range(len(pixels)):
        pixels[q] = n * sizes.image_pitch + y * sizes.row_pitch + x * sizes.column_pitch
        x += 1
        if x == sizes.width:
            x, y = 0, y + 1
        if y == sizes.height:
            y, n = 0, n + 1


@compiled_parallel
def _add_up(partial, source, error, sizes, tiling, items, threads):
    lanes, plane = tiling.lanes, sizes.height * sizes.width
    total = sizes.batch * plane
    blocks = -(-total // BLOCK)
    at_once = min(total, PIXELS)
    for _ in prange(threads):
        # For the widest tile: exactly 128 KiB, of 2 vectors on AVX2, take up to 1.13 times as long
        errors = aligned(at_once * CHANNEL_VECTORS * lanes, partial.dtype)
        pixels = np.empty(at_once, np.int64)
        item = take(items)
        while item < tiling.groups * len(tiling.vector_groups):
            group = item // len(tiling.vector_groups)
            first, v = tiling.vector_groups[item % len(tiling.vector_groups)]
            channels = min(v * lanes, tiling.channels - first * lanes)
            at = (group * tiling.rows * tiling.vectors + first) * lanes
            sums = Runs(partial, at, tiling.vectors * lanes)
            errors[:] = 0
            end = min(blocks * (group + 1) // tiling.groups * BLOCK, total)
            for begin in range(blocks * group // tiling.groups * BLOCK, end, PIXELS):
                count = min(PIXELS, end - begin)
                _list_pixels(pixels[:count], begin, sizes)
                q = 0
                while q < count:
                    n, pixel = (begin + q) // plane, (begin + q) % plane
                    run = min(count - q, plane - pixel)
                    at = (n * sizes.filters + first * lanes) * plane + pixel
                    packed = Runs(errors, q * v * lanes, v * lanes)
                    _pack(packed, Runs(error, at, plane), channels, run, lanes)
                    q += run
                _add_block(v, sums, tiling.rows, errors, source, pixels[:count], tiling.taps, lanes)
            item = take(items)


@inner
def add_groups(partial, number, first, end):
    """Add the groups' sums of a tap to the first ones in order, for some channels. Line by line: a
    cache may hold few of the lines that lie as far apart as groups do."""
    for group in range(1, len(partial)):
        for k in range(first, end):
            partial[0, number, k] += partial[group, number, k]


@compiled_parallel
def _sum_groups(out, partial):
    filters, taps = out.shape
    for tap in prange(taps):
        add_groups(partial, tap, 0, filters)
        for k in range(filters):
            out[k, tap] = partial[0, tap, k]
