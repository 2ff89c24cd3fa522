"""Which of the host's loops over pixels is faster: ``cpu_rows``, ``cpu_scattered`` or, for an input
gradient, ``cpu_rows_of_errors``."""

from functools import lru_cache
from math import prod
from typing import NamedTuple

from kernels.convolution.cpu_rows_plan import FEW, NARROW, is_run, next_vectors, rows_at_once
from kernels.convolution.cpu_workspace import SCATTERED_COLUMNS, filters_at_once, tile_shape
from kernels.host import simd
from kernels.host.simd import COLUMNS


class _Times(NamedTuple):
    """Cost of each step, in vector multiply-adds of the widest tile of a row."""

    row_step: tuple[float, ...]  # a multiply-add, by the vectors of the tile, from 1 on
    row_tile: int  # from one tile to the next
    row_of_errors: int  # from one row of errors to the next
    scattered_step: tuple[float, ...]
    scattered_tile: int
    regions: float  # added to a scattered step where there are taps outside the source


# By the columns of a tile. Fitted to the zoo's layers with rows below NARROW, forward and backward,
# on one thread of an AMD EPYC (Zen 4), those of rows of errors on a Zen 5; 128-bit machines use the
# entry with the same tile shape
_TIMES = {
    # AVX-512: one multiply-add a cycle hides all loads, but those of tiles of one vector
    8: _Times((1.1, 1, 1, 1, 1), 430, 30, (1.35, 1, 1.05), 320, 0.25),
    # AVX2: two per cycle leave less time for address arithmetic, which small tiles of scattered
    # pixels need just as much
    4: _Times((1.6, 1.15, 1), 270, 130, (2.3, 1.2, 1.15), 260, 0.3),
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


@lru_cache(1024)
def in_rows_of_errors(x, error, window, lanes):
    """Whether ``cpu_rows_of_errors`` is the fastest for an input gradient: always if rows of inputs
    are long, otherwise by their cost. Rows of errors fill a vector.

    With one tap no zeros beside the errors are multiplied anyway; channels of one tile would leave
    too few items for many threads.

    Args:
        x, error: shapes of the inputs, N x C x H x W, and of the errors.
    """
    (batch, channels, *size), (_, filters, *output) = x, error
    few = output[1] < lanes or channels <= tile_shape(channels)[1]
    if window.stride != (1, 1) or window.kernel == (1, 1) or few:
        return False
    if size[1] >= NARROW:
        return True
    inside = tuple(a / b for a, b in zip(output, size))
    rows = _of_rows(filters, channels, size, window, inside, lanes)
    taps, pixels = filters * prod(window.kernel), batch * prod(size)
    scattered = _of_scattered(taps, channels, pixels, inside, lanes)
    return batch * _of_rows_of_errors(x, error, window, lanes) <= min(batch * rows, scattered)


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


def _of_rows_of_errors(x, error, window, lanes):
    """Cost of one map in rows of errors, which skip every tap outside of the source."""
    (_, channels, height, _), (_, filters, *output) = x, error
    most, together = tile_shape(channels)
    step = done = 0
    while done < output[1]:
        v = next_vectors(output[1], done, lanes, most, True)
        step += _TIMES.row_step[v - 1] * v * together
        done += v * lanes
    rows, columns = window.kernel
    slices = -(-filters // filters_at_once(error, channels, window, lanes))
    steps = rows * output[0] * filters * step
    return -(-channels // together) * columns * (steps + height * slices * _TIMES.row_of_errors)


def _of_scattered(taps, filters, pixels, inside, lanes):
    """Cost of all pixels, which read just the taps inside the source."""
    taps, regions = taps * prod(inside), _TIMES.regions if prod(inside) < 1 else 0
    total = 0
    for _, v in simd.vector_groups(-(-filters // lanes)):
        columns = SCATTERED_COLUMNS[v - 1]
        step = (_TIMES.scattered_step[v - 1] + regions) * v * columns
        total += -(-pixels // columns) * (step * taps + _TIMES.scattered_tile)
    return total
