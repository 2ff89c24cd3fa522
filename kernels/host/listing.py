"""Which cells of maps are needed, their lists, and the tables by which windows read them.

A map of needed cells is made of blocks of ``SIDE`` x ``SIDE`` bits, 1 where a cell is needed, for
those places alone where some are: so a long stroke costs no more than what lies around it. It is a
pair: ``slots``, rows x columns of blocks, int32, which block lies where, -1 for none; and
``blocks``, n x SIDE words, one for each row, its first column in the lowest bit.

Cells are listed by residue: those whose row and column leave the same remainders modulo ``spacing``
stand together, row by row. So the cells that a window of this spacing reads in a row follow one
another.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from kernels.host.bits import ones, trailing_zeros
from kernels.host.compilation import compiled, compiled_parallel

# Rough cost in nanoseconds of an entry of a table, on one thread
LOOK_UP_NS = 0.5
# Runs of outputs whose taps a thread looks up at once
RUNS = 64
BITS = 6
SIDE = 1 << BITS
_INSIDE = SIDE - 1
_ONE, _NONE, _EVERY = np.uint64(1), np.uint64(0), ~np.uint64(0)


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


@compiled
def reached(slots, blocks, kernel, dilation, corner):
    """The map of all cells that the windows of needed outputs, a map, read.

    Args:
        slots, blocks: the outputs.
        kernel, dilation: of the window, pairs (y, x).
        corner: (rows, columns) from an output to the first cell of its window.
    """
    if kernel[0] > 1 or corner[0] > 0:
        down = (corner[0], 0), (dilation[0], 0)
        slots, blocks = _moved(slots, blocks, kernel[0], *down)
    return _moved(slots, blocks, kernel[1], (0, corner[1]), (0, dilation[1]))


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


def listed(cells, spacing, origin):
    """(begins, rows, columns, numbers) of a map's list.

    Args:
        cells: a map.
        spacing: of the list.
        origin: (row, column) of the map's first cell, which its own are told from.

    Returns:
        the runs of the list, whose cells are neighbours in a row, ``spacing`` apart: the number of
        the first cell of each and, behind all, of cells; row and column of each first cell, int32.
        And for each row of the map's blocks the number of its first cell that leaves each
        remainder, int32, n x SIDE x min(spacing, SIDE); undefined where there is none.
    """
    return _listed(*cells, count(cells), spacing, origin)


@compiled
def _listed(slots, blocks, count, spacing, origin):
    begins = np.empty(count + 1, np.int32)
    rows, columns = np.empty(count, np.int32), np.empty(count, np.int32)
    numbers = np.empty((len(blocks), SIDE, min(spacing[1], SIDE)), np.int32)
    left = np.empty(len(blocks), np.int64)  # of each block
    first = np.zeros(slots.shape[0] + 1, np.int64)  # block of each row of blocks
    for y in range(slots.shape[0]):
        first[y + 1] = first[y]
        for x in range(slots.shape[1]):
            if slots[y, x] >= 0:
                left[slots[y, x]] = x << BITS
                first[y + 1] += 1
    spacing_x, residue_mask = spacing[1], _every_nth_bit(spacing[1])
    runs, number = 0, 0
    beginning = np.empty(len(blocks), np.int64)
    for first_row in range(spacing[0]):
        for first_column in range(spacing_x):
            for slot in range(len(blocks)):
                beginning[slot] = (first_column - left[slot]) % spacing_x
            for y in range(first_row, slots.shape[0] << BITS, spacing[0]):
                row, behind = y & _INSIDE, np.int64(-1)  # of the last run in the row
                for slot in range(first[y >> BITS], first[(y >> BITS) + 1]):
                    word, begin = blocks[slot, row], beginning[slot]
                    if word == _NONE or begin >= SIDE:
                        continue
                    others = ~(residue_mask << np.uint64(begin))  # of other remainders
                    waiting = word & ~others
                    if waiting != _NONE:
                        numbers[slot, row, begin] = number
                    while waiting != _NONE:
                        x = trailing_zeros(waiting)
                        end = x + trailing_zeros(~((word | others) >> np.uint64(x)))
                        if left[slot] + x != behind:
                            begins[runs] = number
                            rows[runs], columns[runs] = origin[0] + y, origin[1] + left[slot] + x
                            runs += 1
                        cells = (end - x + spacing_x - 1) // spacing_x
                        number, behind = number + cells, left[slot] + x + cells * spacing_x
                        if end >= SIDE:
                            break
                        waiting &= _EVERY << np.uint64(end)
    begins[runs] = number
    return begins[: runs + 1].copy(), rows[:runs].copy(), columns[:runs].copy(), numbers


@compiled
def places(begins, rows, columns, apart):
    """(rows, columns) of all cells of a list, int32, from its runs and the spacing of columns."""
    all_rows, all_columns = np.empty(begins[-1], np.int32), np.empty(begins[-1], np.int32)
    for run in range(len(rows)):
        all_rows[begins[run] : begins[run + 1]] = rows[run]
        of_run = all_columns[begins[run] : begins[run + 1]]
        for n in range(len(of_run)):
            of_run[n] = columns[run] + n * apart
    return all_rows, all_columns


class NumberedMap(NamedTuple):
    """A map whose needed cells have numbers in a list.

    Attributes:
        slots, blocks: the map.
        numbers: as ``listed`` gives them.
        spacing: of the list's columns.
    """

    slots: np.ndarray
    blocks: np.ndarray
    numbers: np.ndarray
    spacing: int


class WindowTaps(NamedTuple):
    """The cells of a window that are looked up; they follow row by row.

    Attributes:
        kernel, dilation: how many, and how far apart, (rows, columns).
        corner: (rows, columns) from an output to its first tap in the source's map.
        reach: how many neighbours in the source's list each tap stands for, itself included.
    """

    kernel: tuple[int, int]
    dilation: tuple[int, int]
    corner: tuple[int, int]
    reach: int


def table(source, runs, apart, taps, begin):
    """Numbers of the cells that windows read, outputs x taps, int32.

    Args:
        source: the ``NumberedMap`` that they read.
        runs: of the outputs' list: begins, rows and columns as ``listed`` gives them.
        apart: the spacing of its columns.
        taps: ``WindowTaps``.
        begin: what is added to the numbers.
    """
    entries = np.empty((int(runs[0][-1]), taps.kernel[0] * taps.kernel[1]), np.int32)
    # Where neighbours' cells are contiguous in the list, their numbers advance by a constant
    touching = apart % source.spacing == 0 and apart <= taps.reach * source.spacing
    step = apart // source.spacing if touching else 0
    _look_up(entries, source, runs, apart, step, taps, begin, work=LOOK_UP_NS * entries.size)
    return entries


@compiled_parallel
def _look_up(entries, source, runs, apart, step, taps, begin):
    (begins, rows, columns), residue_mask = runs, _every_nth_bit(source.spacing)
    kernel, dilation, corner, _ = taps
    for part in prange(-(-len(rows) // RUNS)):
        for run in range(part * RUNS, min((part + 1) * RUNS, len(rows))):
            first, end = begins[run], begins[run + 1]
            for i in range(kernel[0]):
                y = rows[run] + corner[0] + i * dilation[0]
                for j in range(kernel[1]):
                    x = columns[run] + corner[1] + j * dilation[1]
                    of_tap = entries[first:end, i * kernel[1] + j]
                    if step:
                        number = begin + _number(source, residue_mask, y, x)
                        for n in range(len(of_tap)):
                            of_tap[n] = number + n * step
                        continue
                    for n in range(len(of_tap)):
                        of_tap[n] = begin + _number(source, residue_mask, y, x + n * apart)


@compiled
def _number(source, residue_mask, y, x):
    """The number of a needed cell in its list; ``residue_mask`` as ``_every_nth_bit`` gives it."""
    slot, row, column = source.slots[y >> BITS, x >> BITS], y & _INSIDE, x & _INSIDE
    first = column % source.spacing
    in_front = (residue_mask << np.uint64(first)) & ((_ONE << np.uint64(column)) - _ONE)
    return source.numbers[slot, row, first] + ones(source.blocks[slot, row] & in_front)


@compiled
def _every_nth_bit(spacing):
    """A word whose bits 0, ``spacing``, 2 * ``spacing``, ... are 1: the columns of remainder 0."""
    word = _NONE
    for x in range(0, SIDE, spacing):
        word |= _ONE << np.uint64(x)
    return word


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
def _moved(slots, blocks, count, first, step):
    """The map of all cells moved ``count`` times, down and right: by ``first``, and by ``step``
    more each time."""
    down, right = first[0] + (count - 1) * step[0], first[1] + (count - 1) * step[1]
    height = slots.shape[0] + ((down + _INSIDE) >> BITS)
    width = slots.shape[1] + ((right + _INSIDE) >> BITS)
    taken = np.zeros((height, width), np.uint8)
    new_slots, new_blocks = _empty(taken)
    for filling in (False, True):
        if filling:
            new_slots, new_blocks = _empty(taken)
        for block_row in range(slots.shape[0]):
            for block_column in range(slots.shape[1]):
                if slots[block_row, block_column] < 0:
                    continue
                words = blocks[slots[block_row, block_column]]
                anywhere, top, bottom = _extent(words)
                if anywhere == _NONE:
                    continue
                for i in range(count):
                    x = (block_column << BITS) + first[1] + i * step[1]
                    y = (block_row << BITS) + first[0] + i * step[0]
                    column, shift = x >> BITS, np.uint64(x & _INSIDE)
                    beyond = (anywhere >> _ONE) >> (np.uint64(_INSIDE) - shift) != _NONE
                    here = anywhere << shift != _NONE
                    split = min(bottom, SIDE - (y & _INSIDE))  # rows in front lie in one block
                    for begin, end in ((top, split), (max(top, split), bottom)):
                        if begin >= end:
                            continue
                        row = (y + begin) >> BITS
                        if not filling:
                            taken[row, column] |= here
                            if beyond:
                                taken[row, column + 1] = 1
                            continue
                        at = (y + begin) & _INSIDE
                        if here:
                            into = new_blocks[new_slots[row, column], at:]
                            for n in range(end - begin):
                                into[n] |= words[begin + n] << shift
                        if beyond:
                            into = new_blocks[new_slots[row, column + 1], at:]
                            for n in range(end - begin):
                                word = words[begin + n] >> _ONE
                                into[n] |= word >> (np.uint64(_INSIDE) - shift)
    return new_slots, new_blocks


@compiled
def _extent(words):
    """(all words of a block in one, the first row that holds a cell, the one behind the last)."""
    anywhere, top, bottom = _NONE, 0, 0
    for row in range(SIDE):
        if words[row] != _NONE:
            top = row if anywhere == _NONE else top
            anywhere |= words[row]
            bottom = row + 1
    return anywhere, top, bottom


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
