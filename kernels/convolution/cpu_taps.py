"""Which taps each output of a convolution reads, or each input of its gradient is read by.

Along one axis, outputs with the same taps form segments; a segment of rows and one of columns form
a region of the map, so that no tile multiplies by a tap that is not there:

    forward          output ox reads x[ox*s + j*d] for every j: one region
    input gradient   input x reads e[(x - j*d) / s] for the j that divide and lie inside
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Taps(NamedTuple):
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


def places_of_taps(shape, columns):
    """Where the taps of a ``ConvolutionShape``'s window lie from its corner in an input of C x H x
    W, the last one again up to whole tiles of ``columns``."""
    (dy, dx), (kh, kw), (h, w) = shape.window.dilation, shape.window.kernel, shape.size
    c, i, j = np.ogrid[: shape.channels, :kh, :kw]
    places = (c * h * w + i * dy * w + j * dx).ravel()
    return np.append(places, np.full(-len(places) % columns, places[-1]))
