"""Weights and biases as the host's register tiles read them."""

import numpy as np
from numba import prange

from kernels.host.compilation import compiled_parallel
from kernels.host.threads import CELL
from kernels.memory import cpu as memory


def packed(weights, group, *, transposed=False, flipped=False):
    """K x C x kh x kw as K/group x C x kh*kw x ``group``, K padded with zeros; flat.

    Args:
        transposed: exchange input and output channels, for the input gradient.
        flipped: reverse the order of the taps.
    """
    k, c, kh, kw = weights.shape
    filters, depth = (c, k) if transposed else (k, c)
    out = memory.empty((-(-filters // group), depth, kh * kw, group), weights.dtype)
    weights = np.ascontiguousarray(weights).reshape(k, c, kh * kw)
    _pack(out, weights, transposed, flipped, work=CELL * out.size)
    return out.reshape(-1)


def starts(bias, filters, beyond, dtype):
    """What the sums of each channel start from, its bias or 0, followed by ``beyond`` zeros for the
    lanes of the last tile that have no channel."""
    numbers = np.zeros(filters + beyond, dtype)
    if bias is not None:
        numbers[:filters] = bias
    return numbers


@compiled_parallel
def _pack(out, weights, transposed, flipped):
    groups, depth, taps, group = out.shape
    filters = weights.shape[1] if transposed else weights.shape[0]
    for g in prange(groups):
        for c in range(depth):
            for t in range(taps):
                tap = taps - 1 - t if flipped else t
                for i in range(group):
                    k = g * group + i
                    if k >= filters:
                        out[g, c, t, i] = 0
                    elif transposed:
                        out[g, c, t, i] = weights[c, k, tap]
                    else:
                        out[g, c, t, i] = weights[k, c, tap]
