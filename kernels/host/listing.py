"""Lists of the needed cells of maps (``cell_maps.py``), and the tables by which windows read them.

Cells are listed by residue: those whose row and column leave the same remainders modulo ``spacing``
stand together, row by row. So the cells that a window of this spacing reads in a row follow one
another.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from kernels.host.bits import ones, trailing_zeros
from kernels.host.cell_maps import BITS, SIDE, count
from kernels.host.compilation import compiled, compiled_parallel, inlined

# Rough cost in nanoseconds of an entry of a table, on one thread
LOOK_UP_NS = 0.5
# Runs of outputs whose taps a thread looks up at once
RUNS = 64
_INSIDE = SIDE - 1
_ONE, _NONE, _EVERY = np.uint64(1), np.uint64(0), ~np.uint64(0)


def listed(cells, spacing, origin):
    """(begins, rows, columns, numbers) of a map's list.

    Args:
        cells: a map.
        spacing: spacing of the list, (rows, columns).
        origin: (row, column) of the map's first cell in the list's coordinates.

    Returns:
        begins, rows and columns of the list's runs, int32: neighbours in a row, ``spacing`` apart.
        A run has the number of its first cell, and that cell's row and column; behind all begins
        stands the number of cells. And numbers, int32, n x SIDE x min(spacing, SIDE): of each row
        of each tile, the number of its first cell that leaves each remainder; undefined where there
        is none.
    """
    return _listed(*cells, count(cells), spacing, origin)


@compiled
def _listed(slots, tiles, count, spacing, origin):
    begins = np.empty(count + 1, np.int32)
    rows, columns = np.empty(count, np.int32), np.empty(count, np.int32)
    numbers = np.empty((len(tiles), SIDE, min(spacing[1], SIDE)), np.int32)
    tile_rows, tile_columns = np.nonzero(slots >= 0)
    left, lists = tile_columns << BITS, (begins, rows, columns)
    beginning = np.empty(len(tiles), np.int64)
    first = np.searchsorted(tile_rows, np.arange(slots.shape[0] + 1))
    runs, number, mask = 0, 0, _every_nth_bit(spacing[1])
    for remainder_y in range(spacing[0]):
        for remainder_x in range(spacing[1]):
            for tile in range(len(tiles)):
                beginning[tile] = (remainder_x - left[tile]) % spacing[1]
            of_tiles, end = (tiles, left, beginning, first), (runs, number)
            runs, number = _list_residue(
                lists, numbers, of_tiles, remainder_y, spacing, mask, origin, end
            )
    begins[runs] = number
    return begins[: runs + 1].copy(), rows[:runs].copy(), columns[:runs].copy(), numbers


@inlined
def _list_residue(lists, numbers, of_tiles, first_row, spacing, mask, origin, end):
    """List the cells of one residue from the ``end`` of the list on, (runs, cells); returns its new
    end.

    Args:
        lists: (begins, rows, columns) of the runs.
        numbers: as ``listed`` gives them.
        of_tiles: the tiles, the first column of each, the place in it of the first column that
            leaves the remainder, and the first tile of each row of tiles.
        first_row: the remainder of the rows.
        spacing, origin: as ``listed`` takes them.
        mask: the columns of remainder 0, as ``_every_nth_bit`` gives them.
    """
    (begins, rows, columns), (runs, number) = lists, end
    (tiles, left, beginning, first), spacing_x = of_tiles, spacing[1]
    for y in range(first_row, (len(first) - 1) << BITS, spacing[0]):
        row, behind = y & _INSIDE, np.int64(-1)  # the column behind the last run of the row
        for tile in range(first[y >> BITS], first[(y >> BITS) + 1]):
            word, begin = tiles[tile, row], beginning[tile]
            if word == _NONE or begin >= SIDE:
                continue
            others = ~(mask << np.uint64(begin))  # columns of other remainders
            waiting = word & ~others
            if waiting != _NONE:
                numbers[tile, row, begin] = number
            while waiting != _NONE:
                x = trailing_zeros(waiting)
                beyond = x + trailing_zeros(~((word | others) >> np.uint64(x)))
                if left[tile] + x != behind:
                    begins[runs] = number
                    rows[runs], columns[runs] = origin[0] + y, origin[1] + left[tile] + x
                    runs += 1
                cells = (beyond - x + spacing_x - 1) // spacing_x
                number, behind = number + cells, left[tile] + x + cells * spacing_x
                if beyond >= SIDE:
                    break
                waiting &= _EVERY << np.uint64(beyond)
    return runs, number


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
        slots, tiles: the map.
        numbers: numbers of the cells, as ``listed`` gives them.
        spacing: spacing of the list's columns.
    """

    slots: np.ndarray
    tiles: np.ndarray
    numbers: np.ndarray
    spacing: int


class WindowTaps(NamedTuple):
    """The cells of a window that are looked up; they follow row by row.

    Attributes:
        kernel, dilation: number of cells, and distances between them, (rows, columns).
        corner: (rows, columns) from an output to its first tap in the source's map.
        reach: number of neighbours in the source's list that a tap stands for, itself included.
    """

    kernel: tuple[int, int]
    dilation: tuple[int, int]
    corner: tuple[int, int]
    reach: int


def table(source, runs, apart, taps, begin):
    """Numbers of the cells that windows read, outputs x taps, int32.

    Args:
        source: the ``NumberedMap`` that they read.
        runs: the runs of the outputs' list, as ``listed`` gives them.
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
    # In one function: a call for each tap would count references to arrays, and take longer
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
    return source.numbers[slot, row, first] + ones(source.tiles[slot, row] & in_front)


@compiled
def _every_nth_bit(spacing):
    """A word whose bits 0, ``spacing``, 2 * ``spacing``, ... are 1: the columns of remainder 0."""
    word = _NONE
    for x in range(0, SIDE, spacing):
        word |= _ONE << np.uint64(x)
    return word


@compiled
def block_runs(rows, columns, bits, pitch):
    """(begins, blocks): where runs of cells begin that lie in the same block of 2**bits rows and
    columns, and the block of each: its row times ``pitch`` plus its column, -1 outside.

    Args:
        rows, columns: places of the cells, int32; outside of the image one of them is negative.
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
        offsets, widths: two numbers of each run's window, of which row * width + column + offset is
            the place; a width of 0 is outside.
    """
    places = np.full(len(rows), -1, np.int32)
    for run in range(len(begins)):
        end = begins[run + 1] if run + 1 < len(begins) else len(rows)
        offset, width = offsets[run], widths[run]
        if width > 0:
            for i in range(begins[run], end):
                places[i] = rows[i] * width + columns[i] + offset
    return places
