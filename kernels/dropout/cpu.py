"""Dropout on the host, one row at a time."""

import numpy as np
from numba import prange

from kernels.dropout import BITS, check_apply
from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.maps import place_of_row
from kernels.host.threads import ELEMENT_NS
from kernels.memory import cpu as memory


@operator
def apply(x, rows, columns, *, spacing, rate, key):
    """x where it is kept, scaled by 1 / (1 - rate); also the gradient, applied to the error.

    Args:
        x: N x C x H x W, float32 or float64.
        rows, columns: N, int32: the dense position of cell (0, 0) of each map.
        spacing: (y, x) dense pixels between neighbouring cells.
        rate: share of cells to drop, 0 <= rate < 1.
        key: (seed, step, layer), ints of at least 0.

    Returns:
        an array like x. Workspace: none.
    """
    check_apply(x, rows, columns, spacing, rate, key)
    y = memory.empty(x.shape, x.dtype)
    threshold = np.uint32(int(rate * 2**BITS))
    words = tuple(np.uint32(word % 2**32) for word in key)
    numbers = threshold, x.dtype.type(1 / (1 - rate)), words
    _apply(y, x, rows, columns, spacing, *numbers, work=2 * ELEMENT_NS * x.size)
    return y


@inner
def _mixed(word, value):
    u = np.uint32
    word = u(u(word ^ value) * u(0x9E3779B1))
    word = u(u(word ^ (word >> u(16))) * u(0x85EBCA6B))
    word = u(u(word ^ (word >> u(13))) * u(0xC2B2AE35))
    return u(word ^ (word >> u(16)))


@compiled_parallel
def _apply(y, x, rows, columns, spacing, threshold, scale, key):
    batch, channels, height, width = x.shape
    for row in prange(batch * channels * height):
        n, c, i = place_of_row(row, channels, height)
        word = np.uint32(0)
        for value in key:
            word = _mixed(word, value)
        word = _mixed(word, np.uint32(c))
        word = _mixed(word, np.uint32(rows[n] + i * spacing[0]))
        for j in range(width):
            bits = _mixed(word, np.uint32(columns[n] + j * spacing[1]))
            kept = np.uint32(bits >> np.uint32(32 - BITS)) >= threshold
            y[n, c, i, j] = x[n, c, i, j] * scale if kept else x.dtype.type(0)
