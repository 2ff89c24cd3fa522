"""Weights and biases as the host's register tiles read them."""

import numpy as np
from numba import prange

from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS
from kernels.memory import cpu as memory


def packed(weights, group, *, transposed=False, flipped=False):
    """K x C x kh x kw as K/group x C x kh*kw x ``group``, K padded with zeros; flat.

    Args:
        transposed: exchange input and output channels, for the input gradient.
        flipped: reverse the order of the taps.
    """
    k, c, kh, kw = weights.shape
    filters, depth, taps = (c, k, kh * kw) if transposed else (k, c, kh * kw)
    out = memory.empty((-(-filters // group), depth, taps, group), weights.dtype)
    weights = np.ascontiguousarray(weights).reshape(k, c, taps)
    if transposed:
        weights = weights.transpose(1, 0, 2)
    if flipped:
        weights = weights[:, :, ::-1]
    _pack(out, weights, work=ELEMENT_NS * out.size)
    return out.reshape(-1)


def packed_by_row(weights, group):
    """K x C x kh x kw as kw*C/group x kh x K x ``group``: the numbers that a row of taps reads in
    maps whose channels are neighbours, padded with zeros; flat."""
    filters, channels, kh, kw = weights.shape
    out = memory.empty((-(-kw * channels // group), kh, filters, group), weights.dtype)
    _pack_by_row(out, np.ascontiguousarray(weights), work=ELEMENT_NS * out.size)
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
def _pack_by_row(out, weights):
    groups, kh, filters, group = out.shape
    channels, kw = weights.shape[1], weights.shape[3]
    for k in prange(filters):
        out[groups - 1, :, k] = 0
        for i in range(kh):
            for j in range(kw):
                c = 0
                while c < channels:
                    g, lane = divmod(j * channels + c, group)
                    many = min(group - lane, channels - c)
                    for n in range(many):
                        out[g, i, k, lane + n] = weights[k, c + n, i, j]
                    c += many


@compiled_parallel
def _pack_by_column(out, weights, group, depth):
    filters, channels, kh, kw = weights.shape
    groups = -(-channels // group)
    slices = -(-filters // depth)
    for item in prange(slices * groups):  # so that what it fills stays in a cache
        first, g = item // groups * depth, item % groups
        many = min(depth, filters - first)
        begin = (first * groups + g * many) * group * kh * kw
        for k in range(many):
            for lane in range(group):
                c = g * group + lane
                for i in range(kh):
                    to = begin + ((kh - 1 - i) * many + k) * group + lane
                    for j in range(kw):
                        number = weights[first + k, c, i, j] if c < channels else 0
                        out[to + j * kh * many * group] = number
