"""Weights and biases as the host's register tiles read them."""

import numpy as np
from numba import prange

from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS
from kernels.memory import cpu as memory


def packed(weights, group, *, transposed=False, flipped=False, by_tap=False):
    """K x C x kh x kw as K/group x C x kh*kw x ``group``, K padded with zeros; flat.

    Args:
        transposed: exchange input and output channels, for the input gradient.
        flipped: reverse the order of the taps.
        by_tap: K/group x kh*kw x C x ``group`` instead, for loops over the channels of one tap.
    """
    k, c, kh, kw = weights.shape
    filters, depth, taps = (c, k, kh * kw) if transposed else (k, c, kh * kw)
    sizes = (taps, depth) if by_tap else (depth, taps)
    out = memory.empty((-(-filters // group), *sizes, group), weights.dtype)
    weights = np.ascontiguousarray(weights).reshape(k, c, taps)
    if transposed:
        weights = weights.transpose(1, 0, 2)
    if flipped:
        weights = weights[:, :, ::-1]
    pack = _pack_by_tap if by_tap else _pack
    pack(out, weights, work=ELEMENT_NS * out.size)
    return out.reshape(-1)


def packed_by_column(weights, group, depth):
    """K x C x kh x kw as K/depth x C/group x kw x kh x ``depth`` x ``group``, the rows of taps from
    the last to the first, C padded with zeros, the last slice of filters shorter; flat.
    """
    filters, channels, kh, kw = weights.shape
    groups = -(-channels // group)
    out = memory.empty(filters * kh * kw * groups * group, weights.dtype)
    weights = np.ascontiguousarray(weights)
    _pack_by_column(out, weights, group, depth, work=ELEMENT_NS * out.size)
    return out


def starts(bias, filters, beyond, dtype):
    """What the sums of each channel start from, its bias or 0, followed by ``beyond`` zeros for the
    lanes of the last tile that have no channel."""
    numbers = np.zeros(filters + beyond, dtype)
    if bias is not None:
        numbers[:filters] = bias
    return numbers


@compiled_parallel
def _pack(out, weights):
    groups, depth, taps, group = out.shape
    for g in prange(groups):
        first = g * group
        channels = min(group, len(weights) - first)
        for c in range(depth):
            for i in range(group):
                for t in range(taps):
                    out[g, c, t, i] = weights[first + i, c, t] if i < channels else 0


@compiled_parallel
def _pack_by_tap(out, weights):
    """Lines of the cache are filled one after the other: those of a channel's taps may lie a power
    of two apart, and so in the same sets of the cache."""
    groups, taps, depth, group = out.shape
    for g in prange(groups):
        first = g * group
        channels = min(group, len(weights) - first)
        for c in range(depth):
            for t in range(taps):
                for i in range(group):
                    out[g, t, c, i] = weights[first + i, c, t] if i < channels else 0


@compiled_parallel
def _pack_by_column(out, weights, group, depth):
    filters, channels, kh, kw = weights.shape
    groups = -(-channels // group)
    plane = groups * group * kh * kw
    for k in prange(filters):
        first = k // depth * depth
        many = min(depth, filters - first)
        for g in range(groups):
            for i in range(kh):
                for j in range(kw):
                    to = first * plane + ((g * kw + j) * kh + kh - 1 - i) * many * group
                    to += (k - first) * group
                    for lane in range(group):
                        c = g * group + lane
                        out[to + lane] = weights[k, c, i, j] if c < channels else 0
