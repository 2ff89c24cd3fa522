"""Limits of indices and grids, and how many threads a row of a map or a block gets.

Kernels index with unsigned 32-bit numbers: a signed index takes twice the instructions, because in
Numba it may be negative and then counts from the end. So every array that is passed to a kernel
passes through ``flat``, which refuses those that 32 bits cannot index.
"""

import math

# Indices of threads beyond the last element, up to a block or a tile, must not wrap around
MAX_ELEMENTS = 2**32 - 2**16
# Positions outside of a map, a window or a few dilations away, must not wrap around into it
MOST_ROWS = 2**29
MAX_GRID = (2**31 - 1, 65535, 65535)
ELEMENTWISE_THREADS = 256
WARP = 32
# Resident warps that hide latencies on a multiprocessor. On an H100, two warps on each of its four
# schedulers issue instructions in 71 to 75% of all cycles, and fewer warps in proportionally fewer
LATENCY_HIDING_WARPS = 8
# Warps assumed to keep a multiprocessor busy where matrix products and splits of pixels are small
BUSY_WARPS = 4
# The fewest blocks that a multiprocessor of any device can hold at a time
RESIDENT_BLOCKS = 16


def ceil_division(a: int, b: int) -> int:
    """The least n with n * b >= a."""
    return -(-a // b)


def threads_of_row(width: int) -> int:
    """Threads for a row of a map: whole warps for a long row, so that no warp spans two rows."""
    return ceil_division(width, WARP) * WARP if width >= 4 * WARP else width


def threads_of_spread(count: int, multiprocessors: int) -> int:
    """Threads of a block that spread ``count`` threads over all multiprocessors.

    They are as few whole warps as leave each multiprocessor no more blocks than it holds at once,
    so that the fullest one gets hardly more than its share; but at most ``ELEMENTWISE_THREADS``.
    """
    warps = ceil_division(count, WARP)
    of_block = ceil_division(warps, RESIDENT_BLOCKS * multiprocessors)
    return min(WARP * of_block, ELEMENTWISE_THREADS)


def flat(name: str, array):
    """``array``, C-contiguous, as one axis, for a kernel.

    Raises:
        ValueError: it has more elements than a 32-bit index can count.
    """
    check_count(name, array.size)
    return array.reshape(array.size)


def check_shape(name: str, shape) -> None:
    """Refuse arrays and maps too large for 32-bit indices.

    Raises:
        ValueError: naming the array.
    """
    check_count(name, math.prod(shape))
    if len(shape) == 4 and max(shape[2:]) > MOST_ROWS:
        raise ValueError(
            f"{name} is {shape[2]} x {shape[3]}; expected at most {MOST_ROWS} rows and columns, "
            "because kernels index with 32 bits"
        )


def check_count(name: str, elements: int) -> None:
    """Refuse more ``elements`` than a 32-bit index can count.

    Raises:
        ValueError: naming the array.
    """
    if elements > MAX_ELEMENTS:
        raise ValueError(
            f"{name} has {elements} elements; expected at most {MAX_ELEMENTS}, "
            "because kernels index with 32 bits"
        )
