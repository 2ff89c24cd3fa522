"""Which taps each output of a convolution reads, or each input of its gradient is read by.

Along one axis, outputs with the same taps form segments; a segment of rows and one of columns form
a region of the map, so that no tile multiplies by a tap that is not there:

    forward          output ox reads x[ox*s + j*d] for every j: one region
    input gradient   input x reads e[(x - j*d) / s] for the j that divide and lie inside
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


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

    def spacing(self, s):
        """Distance of neighbouring taps of segment s in the source; 1 for a single one."""
        return abs(int(self.source[s, 1] - self.source[s, 0])) if self.taps[s] > 1 else 1

    def reach(self, s):
        """(lowest, highest) source of segment s's taps, for its first output; (0, 0) for none."""
        if self.taps[s] == 0:
            return 0, 0
        source = self.source[s, : self.taps[s]]
        return int(source.min()), int(source.max())


def packed(weights, group):
    """K x C x kh x kw as groups x C x kh*kw x ``group``, K padded with zeros; flat."""
    k, c, kh, kw = weights.shape
    groups = -(-k // group)
    padded = np.zeros((groups * group, c, kh * kw), weights.dtype)
    padded[:k] = weights.reshape(k, c, kh * kw)
    packed = padded.reshape(groups, group, c, kh * kw).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(packed).reshape(-1)
