"""Forward pass and input gradient on the host: one gather over tables of taps.

Every output pixel sums its taps. The two passes differ in which taps a pixel has, and that is a
product of two short tables, one for the rows and one for the columns (``Taps``). Columns with the
same taps form a segment, so that no tile multiplies by a tap that is not there:

    forward          output ox reads x[ox*s + j*d] for every j: one segment
    input gradient   input x reads e[(x - j*d) / s] for the j that divide and lie inside

A tile (see ``kernels/simd.py``) holds sums of output channels x pixels. Its pixels are neighbours
of one row or, where rows are short, one place in neighbouring images of the batch: a patch net's
last maps are 1 x 1. Taps are summed in the order (channel, i, j) with fused multiply-adds, whatever
the tile, so both forms of a net give the same bits.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import prange

from kernels import simd
from kernels.compilation import compiled, compiled_parallel


@dataclass(frozen=True)
class Taps:
    """Along one axis: which taps each output reads, and where.

    Outputs start, start + step, ... (``count`` of them) form a segment: output number t of segment
    s reads, for its q-th tap, kernel entry ``entry[s, q]`` at source ``source[s, q] + t * pitch``.
    """

    start: np.ndarray
    count: np.ndarray
    step: int
    pitch: int
    taps: np.ndarray
    entry: np.ndarray
    source: np.ndarray

    @classmethod
    def reading(cls, outputs, kernel, stride, dilation):
        """The forward direction: output o reads o * stride + entry * dilation."""
        entry = np.arange(kernel)[None]
        one = np.array([kernel])
        return cls(one * 0, one * 0 + outputs, 1, stride, one, entry, entry * dilation)

    @classmethod
    def read_by(cls, inputs, outputs, kernel, stride, dilation):
        """The backward direction: input i was read by (i - entry * dilation) / stride."""
        segments = []
        for residue in range(min(stride, inputs)):
            count = -(-(inputs - residue) // stride)
            taps = [
                (j, (residue - j * dilation) // stride)
                for j in range(kernel)
                if (residue - j * dilation) % stride == 0
            ]
            edges = {0, count}
            for _, shift in taps:
                edges |= {min(max(edge, 0), count) for edge in (-shift, outputs - shift)}
            edges = sorted(edges)
            for first, end in pairwise(edges):
                inside = [(j, first + o) for j, o in taps if -first <= o <= outputs - end]
                segments.append((residue + first * stride, end - first, inside))
        width = max(1, max(len(inside) for _, _, inside in segments))
        entry = np.zeros((len(segments), width), np.int64)
        source = np.zeros_like(entry)
        for s, (_, _, inside) in enumerate(segments):
            for q, (j, o) in enumerate(inside):
                entry[s, q], source[s, q] = j, o
        return cls(
            np.array([first for first, _, _ in segments]),
            np.array([count for _, count, _ in segments]),
            stride,
            1,
            np.array([len(inside) for _, _, inside in segments]),
            entry,
            source,
        )

    def each(self):
        """The same taps with one segment for each output, in the order of the outputs."""
        order = [
            (start + t * self.step, s, t)
            for s, (start, count) in enumerate(zip(self.start, self.count))
            for t in range(count)
        ]
        _, s, t = np.array(sorted(order)).T
        source = self.source[s] + t[:, None] * self.pitch
        ones = np.ones_like(s)
        return Taps(np.arange(len(s)), ones, 1, self.pitch, self.taps[s], self.entry[s], source)


def packed(weights):
    """K x C x kh x kw as vectors x C x kh*kw x lanes, K padded with zeros to whole vectors."""
    k, c, kh, kw = weights.shape
    lanes = simd.lanes(weights.itemsize)
    vectors = -(-k // lanes)
    padded = np.zeros((vectors * lanes, c, kh * kw), weights.dtype)
    padded[:k] = weights.reshape(k, c, kh * kw)
    return np.ascontiguousarray(padded.reshape(vectors, lanes, c, kh * kw).transpose(0, 2, 3, 1))


def correlate(out, source, weights, kernel, start, rows, columns):
    """Fill N x K x H x W ``out`` from N x C x h x w ``source`` by its taps."""
    vectors, _, _, lanes = weights.shape
    starts = np.zeros(vectors * lanes, out.dtype)
    starts[: len(start)] = start
    rows = rows.each()
    pixels = simd.pixels(out.itemsize)
    widest = int(columns.count.max())
    filled = widest / (-(-widest // pixels) * pixels)
    images = pixels if out.shape[0] >= pixels and filled < 0.75 else 1
    if images > 1:
        columns = columns.each()
    _correlate(
        out.reshape(-1),
        out.shape,
        source.reshape(-1),
        source.shape,
        weights.reshape(-1),
        vectors,
        kernel,
        starts,
        rows.taps,
        rows.entry,
        rows.source,
        columns.start,
        columns.count,
        columns.step,
        columns.pitch,
        columns.taps,
        columns.entry,
        columns.source,
        images,
        pixels,
    )


def _tile_filler(vectors):
    """The innermost loops for a tile of ``vectors`` vectors of output channels."""

    @compiled
    def fill(
        out,
        out_start,
        out_plane,
        out_pitch,
        channels,
        pixels,
        source,
        source_start,
        source_plane,
        source_pitch,
        depth,
        weights,
        weight_start,
        weight_plane,
        weight_pitch,
        starts,
        first_channel,
        lanes,
        tap_weight,
        tap_source,
        taps,
    ):
        offsets = simd.offsets_along(out, source_pitch, pixels)
        tile = simd.tile_of(starts, first_channel, lanes, vectors)
        for c in range(depth):
            w = weight_start + c * weight_plane
            x = source_start + c * source_plane
            for t in range(taps):
                tile = simd.multiply_add(
                    tile,
                    weights,
                    w + tap_weight[t],
                    weight_pitch,
                    source,
                    x + tap_source[t],
                    offsets,
                )
        simd.store(tile, out, out_start, out_plane, out_pitch, channels, pixels)

    return fill


_fill_1, _fill_2, _fill_3 = _tile_filler(1), _tile_filler(2), _tile_filler(3)


@compiled
def _fill(vectors, *place):
    if vectors == 3:
        _fill_3(*place)
    elif vectors == 2:
        _fill_2(*place)
    else:
        _fill_1(*place)


@compiled
def _vectors_at_once(left):
    """How many of the ``left`` vectors of channels the next tile takes: 3, but 2 + 2 for 4."""
    return 2 if left == 4 else min(left, simd.MAX_VECTORS)


@compiled_parallel
def _correlate(
    out,
    out_shape,
    source,
    source_shape,
    weights,
    vectors,
    kernel,
    starts,
    row_taps,
    row_entry,
    row_source,
    column_start,
    column_count,
    column_step,
    column_pitch,
    column_taps,
    column_entry,
    column_source,
    images,
    row_pixels,
):
    batch, channels, height, width = out_shape
    _, depth, source_height, source_width = source_shape
    plane, source_plane = height * width, source_height * source_width
    lanes = len(starts) // vectors
    weight_plane = kernel[0] * kernel[1] * lanes
    weight_pitch = depth * weight_plane
    out_pitch = column_step if images == 1 else channels * plane
    source_pitch = column_pitch if images == 1 else depth * source_plane
    for item in prange(-(-batch // images) * height):
        n, y = item // height * images, item % height
        tap_weight = np.empty(row_taps[y] * column_entry.shape[1], np.int64)
        tap_source = np.empty_like(tap_weight)
        for s in range(len(column_start)):
            taps = 0
            for a in range(row_taps[y]):
                for b in range(column_taps[s]):
                    tap_weight[taps] = (row_entry[y, a] * kernel[1] + column_entry[s, b]) * lanes
                    tap_source[taps] = row_source[y, a] * source_width + column_source[s, b]
                    taps += 1
            count = column_count[s] if images == 1 else min(images, batch - n)
            out_start = n * channels * plane + y * width + column_start[s]
            v = 0
            while v < vectors:
                step = _vectors_at_once(vectors - v)
                first = v * lanes
                for t in range(0, count, row_pixels):
                    _fill(
                        step,
                        out,
                        out_start + first * plane + t * out_pitch,
                        plane,
                        out_pitch,
                        channels - first,
                        min(row_pixels, count - t),
                        source,
                        n * depth * source_plane + t * source_pitch,
                        source_plane,
                        source_pitch,
                        depth,
                        weights,
                        v * weight_pitch,
                        weight_plane,
                        weight_pitch,
                        starts,
                        first,
                        lanes,
                        tap_weight,
                        tap_source,
                        taps,
                    )
                v += step
