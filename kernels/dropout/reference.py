"""Dropout in NumPy, float64."""

import numpy as np

from kernels.dropout import BITS, check_apply
from kernels.foreign import operator


@operator
def apply(x, rows, columns, *, spacing, rate, key):
    """x where it is kept, scaled by 1 / (1 - rate); ``key`` is (seed, step, layer)."""
    check_apply(x, rows, columns, spacing, rate, key)
    _, channels, height, width = x.shape
    c = np.arange(channels)[:, None, None]
    y = rows[:, None, None, None] + np.arange(height)[:, None] * spacing[0]
    z = columns[:, None, None, None] + np.arange(width) * spacing[1]
    word = np.uint32(0)
    for value in (*key, c, y, z):
        word = _mixed(word, np.asarray(value).astype(np.uint32))
    kept = (word >> np.uint32(32 - BITS)) >= int(rate * 2**BITS)
    return np.where(kept, x.astype(np.float64) / (1 - rate), 0.0)


def _mixed(word, value):
    """``word`` with ``value`` mixed in, modulo 2^32."""
    with np.errstate(over="ignore"):
        word = (word ^ value) * np.uint32(0x9E3779B1)
        word = (word ^ (word >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        word = (word ^ (word >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return word ^ (word >> np.uint32(16))
