"""Which cells of maps are needed, their lists, and the tables by which windows read them.

A map of needed cells is made of bytes, rows x columns of a region, 1 where a cell is needed. Cells
are listed by residue: those whose row and column leave the same remainders modulo ``spacing`` stand
together, row by row. So the cells that a window of this spacing reads in a row follow one another.
"""

import numpy as np
from numba import prange

from kernels.host.compilation import compiled, compiled_parallel

# Nanoseconds of one thread, of an entry of a table
LOOK_UP = 5


@compiled
def reach(needed, outputs, kernel, dilation, corner):
    """Set in ``needed`` all cells that the windows of needed ``outputs`` read.

    Args:
        needed, outputs: maps of the source and of the outputs.
        kernel, dilation: of the window, pairs (y, x).
        corner: (rows, columns) from an output to the first cell of its window.
    """
    (height, width), (top, left) = outputs.shape, corner
    rows = np.zeros((height + (kernel[0] - 1) * dilation[0], width), np.uint8)
    for y in range(height):
        for i in range(kernel[0]):
            target, source = rows[y + i * dilation[0]], outputs[y]
            for x in range(width):
                target[x] |= source[x]
    for y in range(len(rows)):
        for j in range(kernel[1]):
            begin = left + j * dilation[1]
            target, source = needed[top + y][begin : begin + width], rows[y]
            for x in range(width):
                target[x] |= source[x]


@compiled
def listed(needed, spacing):
    """(rows, columns, numbers): where each needed cell lies, int32, in the order of the list, and
    the map of the cells' numbers in it, -1 elsewhere."""
    height, width = needed.shape
    count = 0
    for y in range(height):
        for x in range(width):
            count += needed[y, x]
    rows, columns = np.empty(count, np.int32), np.empty(count, np.int32)
    numbers = np.full((height, width), -1, np.int32)
    number = 0
    for first_row in range(min(spacing[0], height)):
        for first_column in range(min(spacing[1], width)):
            for y in range(first_row, height, spacing[0]):
                for x in range(first_column, width, spacing[1]):
                    if needed[y, x]:
                        rows[number], columns[number] = y, x
                        numbers[y, x] = number
                        number += 1
    return rows, columns, numbers


def table(numbers, rows, columns, kernel, dilation, corner, begin):
    """Numbers of the cells that windows read, outputs x taps, int32.

    Args:
        numbers: of the source's cells, as ``listed`` gives them.
        rows, columns: of the outputs.
        kernel, dilation, corner: of the window, as in ``reach``; taps follow row by row.
        begin: what is added to the numbers.
    """
    taps = np.empty((len(rows), kernel[0] * kernel[1]), np.int32)
    places = rows + np.int32(corner[0]), columns + np.int32(corner[1])
    _look_up(taps, numbers, *places, kernel, dilation, begin, work=LOOK_UP * taps.size)
    return taps


@compiled_parallel
def _look_up(taps, numbers, rows, columns, kernel, dilation, begin):
    for p in prange(len(rows)):
        for i in range(kernel[0]):
            y = rows[p] + i * dilation[0]
            for j in range(kernel[1]):
                taps[p, i * kernel[1] + j] = begin + numbers[y, columns[p] + j * dilation[1]]


@compiled
def block_runs(rows, columns, bits, pitch):
    """(begins, blocks): where runs of cells begin that lie in the same block of 2**bits rows and
    columns, and the block of each: its row times ``pitch`` plus its column, -1 outside.

    Args:
        rows, columns: of the cells, int32; outside of the image one of them is negative.
    """
    begins, blocks = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    last = np.int64(-2)
    for i in range(len(rows)):
        block = np.int64(-1)
        if rows[i] >= 0 and columns[i] >= 0:
            block = np.int64(rows[i] >> bits) * pitch + (columns[i] >> bits)
        if block != last:
            begins.append(i)
            blocks.append(block)
            last = block
    return np.array(begins), np.array(blocks)


@compiled
def flat_places(rows, columns, begins, offsets, widths):
    """Places of cells in windows that lie one behind the other, int32, -1 outside.

    Args:
        rows, columns: as ``block_runs``, whose ``begins`` these are.
        offsets, widths: of each run's window, so that row * width + column + offset is the place; a
            width of 0 is outside.
    """
    places = np.full(len(rows), -1, np.int32)
    for run in range(len(begins)):
        end = begins[run + 1] if run + 1 < len(begins) else len(rows)
        offset, width = offsets[run], widths[run]
        if width > 0:
            for i in range(begins[run], end):
                places[i] = rows[i] * width + columns[i] + offset
    return places
