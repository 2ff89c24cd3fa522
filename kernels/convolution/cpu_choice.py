"""Which of the host's two loops over pixels is faster: ``cpu_rows`` or ``cpu_scattered``."""

from functools import lru_cache
from math import prod
from typing import NamedTuple

from kernels.convolution.cpu_rows_plan import FEW, NARROW, is_run, next_vectors, rows_at_once
from kernels.convolution.cpu_workspace import SCATTERED_COLUMNS, tile_shape
from kernels.host import simd
from kernels.host.simd import COLUMNS


class _Times(NamedTuple):
    """Cost of each step, in vector multiply-adds of the widest tile of a row."""

    row_step: tuple[float, ...]  # a multiply-add, by the vectors of the tile, from 1 on
    row_tile: int  # from one tile to the next
    scattered_step: tuple[float, ...]
    scattered_tile: int
    regions: float  # added to a scattered step where there are taps outside the source


# By the columns of a tile. Fitted to the zoo's layers with rows below NARROW, forward and backward,
# on one thread of an AMD EPYC (Zen 4); 128-bit machines use the entry with the same tile shape
_TIMES = {
    # AVX-512: one multiply-add a cycle hides all loads, but those of tiles of one vector
    8: _Times((1.1, 1, 1, 1, 1), 430, (1.35, 1, 1.05), 320, 0.25),
    # AVX2: two per cycle leave less time for address arithmetic, which small tiles of scattered
    # pixels need just as much
    4: _Times((1.6, 1.15, 1), 270, (2.3, 1.2, 1.15), 260, 0.3),
}[COLUMNS]


@lru_cache(1024)
def in_rows(batch, depth, filters, size, window, inside, lanes):
    """Whether ``cpu_rows`` is faster than ``cpu_scattered``: always if rows are long or maps are
    read in place, otherwise by their cost.

    Args:
        size: (H, W) of the output.
        inside: the share of the taps' rows, and of their columns, that lie inside the source.
    """
    if window.stride != (1, 1):
        return False
    if size[1] >= NARROW:
        return True
    rows = _of_rows(depth, filters, size, window, inside, lanes)
    if window.kernel == (1, 1) and min(depth, filters) <= FEW:
        return rows < float("inf")
    taps, pixels = depth * prod(window.kernel), batch * prod(size)
    return batch * rows <= _of_scattered(taps, filters, pixels, inside, lanes)


def _of_rows(depth, filters, size, window, inside, lanes):
    """Cost of one map in rows, which skip rows of taps outside the source; infinite where they are
    too short."""
    kernel, dilation = window.kernel, window.dilation
    if kernel == (1, 1):
        size = 1, prod(size)
    (height, width), span = size, (kernel[1] - 1) * dilation[1]
    most, together = tile_shape(filters)
    one_run = is_run(height, width, dilation[0] if kernel[0] > 1 else 1)
    rows = rows_at_once(height, width, span, kernel[0], True) if one_run else 1
    length = (rows - 1) * (width + span) + width
    if length < lanes and not one_run:
        return float("inf")
    taps = depth * prod(kernel) * (1 if one_run else inside[0])
    total, done = 0, 0
    while done < length:
        v = next_vectors(length, done, lanes, most, one_run)
        total += _TIMES.row_step[v - 1] * v * together * taps + _TIMES.row_tile
        done += v * lanes
    return total * height / rows * -(-filters // together)


def _of_scattered(taps, filters, pixels, inside, lanes):
    """Cost of all pixels, which read just the taps inside the source."""
    taps, regions = taps * prod(inside), _TIMES.regions if prod(inside) < 1 else 0
    total = 0
    for _, v in simd.vector_groups(-(-filters // lanes)):
        columns = SCATTERED_COLUMNS[v - 1]
        step = (_TIMES.scattered_step[v - 1] + regions) * v * columns
        total += -(-pixels // columns) * (step * taps + _TIMES.scattered_tile)
    return total
