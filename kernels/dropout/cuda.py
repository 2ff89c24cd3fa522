"""Dropout on the device: a thread for each cell computes its own random number.

y[n, c, i, j] = x[n, c, i, j] / (1 - rate) where kept, else 0
"""

from functools import cache

import numpy as np

from kernels.device.api import cuda, device, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32, unravel
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.dropout import BITS, check_apply, is_list
from kernels.memory import cuda as memory


@device
def mixed(word, value):
    """``word`` with ``value`` mixed in, modulo 2^32."""
    word = u32(u32(word ^ value) * u32(0x9E3779B1))
    word = u32(u32(word ^ u32(word >> u32(16))) * u32(0x85EBCA6B))
    word = u32(u32(word ^ u32(word >> u32(13))) * u32(0xC2B2AE35))
    return u32(word ^ u32(word >> u32(16)))


@cache
def _kernel(dtype, by_cell):
    @kernel(ELEMENTWISE_THREADS)
    def apply_dropout(
        x,  # N*C*H*W
        rows,  # N, or W
        columns,  # N, or W
        y,  # N*C*H*W
        channels,  # C
        size,  # (H, W)
        spacing,  # (y, x)
        threshold,
        scale,
        key,  # (seed, step, layer)
    ):
        at = u32(cuda.grid(1))
        if at < y.size:
            plane, i, j = unravel(at, size)
            n, c = divmod_u32(plane, channels)
            word = mixed(mixed(mixed(u32(0), key[0]), key[1]), key[2])
            word = mixed(word, c)
            if by_cell:
                n, j = j, u32(0)
            word = mixed(word, u32(u32(rows[n]) + i * u32(spacing[0])))
            word = mixed(word, u32(u32(columns[n]) + j * u32(spacing[1])))
            kept = u32(word >> u32(32 - BITS)) >= threshold
            y[at] = x[at] * scale if kept else dtype(0)

    return apply_dropout


@operator
def apply(x, rows, columns, *, spacing, rate, key):
    """x / (1 - rate) where a cell is kept, else 0; applied to the error, the gradient.

    Args:
        x: N x C x H x W, float32 or float64.
        rows, columns: N, int32: the dense position of cell (0, 0) of each map. Or W, of each
            cell of a list 1 x C x 1 x W (``kernels.listed_cells``).
        spacing: (y, x) dense pixels between neighbouring cells.
        rate: share of cells to drop, 0 <= rate < 1.
        key: (seed, step, layer), ints of at least 0.
    """
    check_apply(x, rows, columns, spacing, rate, key, lists=True)
    by_cell = is_list(x, rows)
    y = memory.empty(x.shape, x.dtype)
    number = x.dtype.type
    launch_over(
        _kernel(number, by_cell),
        y.size,
        flat("x", x),
        rows,
        columns,
        flat("y", y),
        x.shape[1],
        tuple(x.shape[2:]),
        tuple(spacing),
        np.uint32(int(rate * 2**BITS)),
        number(1 / (1 - rate)),
        tuple(np.uint32(word % 2**32) for word in key),
    )
    return y
