"""Which cells of maps are needed, their lists, and the tables by which windows read them.

A map of needed cells is made of blocks of ``SIDE`` x ``SIDE`` bits, 1 where a cell is needed, for
those places alone where some are: so a long stroke costs no more than what lies around it. It is a
pair: ``slots``, rows x columns of blocks, int32, which block lies where, -1 for none; and
``blocks``, n x SIDE words, one for each row, its first column in the lowest bit.

Cells are listed by residue: those whose row and column leave the same remainders modulo ``spacing``
stand together, row by row. So the cells that a window of this spacing reads in a row follow one
another.
"""

import numpy as np
from numba import prange

from kernels.host.compilation import compiled, compiled_parallel

# Nanoseconds of one thread, of an entry of a table
LOOK_UP = 2
# Outputs whose taps a thread looks up at once
OUTPUTS = 512
BITS = 6
SIDE = 1 << BITS
_INSIDE = SIDE - 1
_ONE, _NONE = np.uint64(1), np.uint64(0)


@compiled
def marked(rows, columns):
    """The map of listed cells, int32, of at least 0."""
    taken = np.zeros(((rows.max() >> BITS) + 1, (columns.max() >> BITS) + 1), np.uint8)
    for i in range(len(rows)):
        taken[rows[i] >> BITS, columns[i] >> BITS] = 1
    slots, blocks = _empty(taken)
    for i in range(len(rows)):
        slot = slots[rows[i] >> BITS, columns[i] >> BITS]
        blocks[slot, rows[i] & _INSIDE] |= _ONE << np.uint64(columns[i] & _INSIDE)
    return slots, blocks


def reached(outputs, kernel, dilation, corner):
    """The map of all cells that the windows of needed ``outputs``, a map, read.

    Args:
        kernel, dilation: of the window, pairs (y, x).
        corner: (rows, columns) from an output to the first cell of its window.
    """
    rows = corner[0] + dilation[0] * np.arange(kernel[0])
    columns = corner[1] + dilation[1] * np.arange(kernel[1])
    if len(rows) > 1:
        outputs, rows = _moved(*outputs, rows, np.zeros_like(rows)), np.zeros(1, int)
    return _moved(*outputs, np.full(len(columns), rows[0]), columns)


@compiled
def united(slots, blocks, other_slots, other_blocks):
    """The map of the cells of two maps."""
    height = max(slots.shape[0], other_slots.shape[0])
    width = max(slots.shape[1], other_slots.shape[1])
    taken = np.zeros((height, width), np.uint8)
    for of_one in (slots, other_slots):
        for y in range(of_one.shape[0]):
            for x in range(of_one.shape[1]):
                if of_one[y, x] >= 0:
                    taken[y, x] = 1
    all_slots, all_blocks = _empty(taken)
    for of_one, words in ((slots, blocks), (other_slots, other_blocks)):
        for y in range(of_one.shape[0]):
            for x in range(of_one.shape[1]):
                if of_one[y, x] >= 0:
                    for row in range(SIDE):
                        all_blocks[all_slots[y, x], row] |= words[of_one[y, x], row]
    return all_slots, all_blocks


def count(cells) -> int:
    """How many cells a map has."""
    return int(np.bitwise_count(cells[1]).sum())


def listed(cells, spacing):
    """(rows, columns, numbers): where each cell of a map lies, int32, in the order of the list, and
    the cells' numbers in it, int32, n x SIDE x SIDE for the map's blocks; anything elsewhere."""
    return _listed(*cells, count(cells), spacing)


@compiled
def _listed(slots, blocks, count, spacing):
    rows, columns = np.empty(count, np.int32), np.empty(count, np.int32)
    numbers = np.empty((len(blocks), SIDE, SIDE), np.int32)
    left = np.empty(len(blocks), np.int64)  # of each block
    first = np.zeros(slots.shape[0] + 1, np.int64)  # block of each row of blocks
    for y in range(slots.shape[0]):
        first[y + 1] = first[y]
        for x in range(slots.shape[1]):
            if slots[y, x] >= 0:
                left[slots[y, x]] = x << BITS
                first[y + 1] += 1
    number = 0
    for first_row in range(spacing[0]):
        for first_column in range(spacing[1]):
            for y in range(first_row, slots.shape[0] << BITS, spacing[0]):
                row = y & _INSIDE
                for slot in range(first[y >> BITS], first[(y >> BITS) + 1]):
                    word = blocks[slot, row]
                    if word == _NONE:
                        continue
                    begin = left[slot]
                    for x in range((first_column - begin) % spacing[1], SIDE, spacing[1]):
                        if (word >> np.uint64(x)) & _ONE:
                            rows[number], columns[number] = y, begin + x
                            numbers[slot, row, x] = number
                            number += 1
    return rows, columns, numbers


def table(slots, numbers, rows, columns, kernel, dilation, corner, begin):
    """Numbers of the cells that windows read, outputs x taps, int32.

    Args:
        slots, numbers: of the source's map, and as ``listed`` gives them.
        rows, columns: of the outputs.
        kernel, dilation, corner: of the window, as in ``reached``; taps follow row by row.
        begin: what is added to the numbers.
    """
    taps = np.empty((len(rows), kernel[0] * kernel[1]), np.int32)
    places = rows + np.int32(corner[0]), columns + np.int32(corner[1])
    _look_up(taps, slots, numbers, *places, kernel, dilation, begin, work=LOOK_UP * taps.size)
    return taps


@compiled_parallel
def _look_up(taps, slots, numbers, rows, columns, kernel, dilation, begin):
    for part in prange(-(-len(rows) // OUTPUTS)):
        p, end = part * OUTPUTS, min((part + 1) * OUTPUTS, len(rows))
        while p < end:
            first = last = p  # of a run of neighbours, whose cells lie in two blocks at most
            while p < end and rows[p] == rows[first]:
                if not columns[last] <= columns[p] <= columns[first] + _INSIDE:
                    break
                last, p = p, p + 1
            for i in range(kernel[0]):
                y = rows[first] + i * dilation[0]
                slot_of, row = slots[y >> BITS], y & _INSIDE
                for j in range(kernel[1]):
                    tap, right = i * kernel[1] + j, j * dilation[1]
                    block = (columns[first] + right) >> BITS
                    here = numbers[slot_of[block], row]
                    beyond = numbers[slot_of[(columns[last] + right) >> BITS], row]
                    for o in range(first, p):
                        x = columns[o] + right
                        number = here[x & _INSIDE] if x >> BITS == block else beyond[x & _INSIDE]
                        taps[o, tap] = begin + number


@compiled
def _empty(taken):
    """(slots, blocks of zeros) of a map of which some blocks are taken."""
    slots = np.full(taken.shape, -1, np.int32)
    count = 0
    for y in range(taken.shape[0]):
        for x in range(taken.shape[1]):
            if taken[y, x]:
                slots[y, x] = count
                count += 1
    return slots, np.zeros((count, SIDE), np.uint64)


@compiled
def _moved(slots, blocks, rows, columns):
    """The map of all cells moved down by one of ``rows`` and right by the one of ``columns`` that
    stands beside it."""
    height = slots.shape[0] + ((rows.max() + _INSIDE) >> BITS)
    width = slots.shape[1] + ((columns.max() + _INSIDE) >> BITS)
    taken = np.zeros((height, width), np.uint8)
    new_slots, new_blocks = _empty(taken)
    for filling in (False, True):
        if filling:
            new_slots, new_blocks = _empty(taken)
        for block_row in range(slots.shape[0]):
            for block_column in range(slots.shape[1]):
                slot = slots[block_row, block_column]
                if slot < 0:
                    continue
                for i in range(len(rows)):
                    x = (block_column << BITS) + columns[i]
                    column, shift = x >> BITS, np.uint64(x & _INSIDE)
                    for row in range(SIDE):
                        word = blocks[slot, row]
                        if word == _NONE:
                            continue
                        y = (block_row << BITS) + rows[i] + row
                        here = word << shift
                        beyond = (word >> _ONE) >> (np.uint64(_INSIDE) - shift)
                        if here != _NONE:
                            if filling:
                                new_blocks[new_slots[y >> BITS, column], y & _INSIDE] |= here
                            else:
                                taken[y >> BITS, column] = 1
                        if beyond != _NONE:
                            if filling:
                                new_blocks[new_slots[y >> BITS, column + 1], y & _INSIDE] |= beyond
                            else:
                                taken[y >> BITS, column + 1] = 1
    return new_slots, new_blocks


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
