"""Lists of the needed cells of maps (``cell_maps.py``), and the tables by which windows read them.

Cells are listed by residue: those whose row and column leave the same remainders modulo ``spacing``
stand together, row by row. So the cells that a window of this spacing reads in a row follow one
another.
"""

from itertools import accumulate
from operator import mul
from typing import NamedTuple

import numpy as np
from numba import prange

from kernels.host.bits import ones, trailing_zeros
from kernels.host.cell_maps import BITS, SIDE
from kernels.host.compilation import compiled, compiled_parallel, inlined

# Rough cost in nanoseconds of an entry of a table, on one thread
LOOK_UP_NS = 0.5
# Runs of outputs whose taps a thread looks up at once
RUNS = 64
_INSIDE = SIDE - 1
_ONE, _NONE, _EVERY = np.uint64(1), np.uint64(0), ~np.uint64(0)


class Lists(NamedTuple):
    """The lists of ``Maps``: by number of a map, those of all groups one after the other.

    Attributes:
        runs: 3 x n, int32: where the runs of neighbours begin in their list, and the row and column
            of their first cells. Behind the runs of a list stands the number of its cells.
        bounds: lists x (groups + 1), int64: the first run of each group, and the place behind the
            last one.
        numbers: int32, flat, of each row of each tile of a map the number of its first cell that
            leaves each remainder; undefined where there is none.
        firsts: the place of each map's numbers, int64.
    """

    runs: np.ndarray
    bounds: np.ndarray
    numbers: np.ndarray
    firsts: np.ndarray


@compiled
def listed(maps, counts, spacings, origins):
    """The ``Lists`` of maps.

    Args:
        maps, counts: as ``cell_maps.traced`` gives them.
        spacings: by number of a map, int64: spacing of its list, (rows, columns).
        origins: groups x 2: (row, column) of a group's first cell in the lists' coordinates.
    """
    all_slots, all_tiles, places = maps
    groups, lists = len(origins), len(spacings)
    runs = np.empty((3, counts[:, 1].sum() + lists), np.int32)
    bounds = np.empty((lists, groups + 1), np.int64)
    firsts = np.zeros(len(counts) + 1, np.int64)
    for m in range(len(counts)):
        of_a_row = min(spacings[m % lists, 1], SIDE)
        firsts[m + 1] = firsts[m] + (places[m + 1, 3] - places[m, 3]) * SIDE * of_a_row
    numbers, end = np.empty(firsts[-1], np.int32), 0
    for number in range(lists):
        spacing, cells = (spacings[number, 0], spacings[number, 1]), 0
        for group in range(groups):
            m, bounds[number, group] = group * lists + number, end
            tiles = all_tiles[places[m, 3] : places[m + 1, 3]]
            slots = all_slots[places[m, 0] : places[m + 1, 0]]
            of_map = numbers[firsts[m] : firsts[m + 1]]
            of_tiles = of_map.reshape(len(tiles), SIDE, min(spacing[1], SIDE))
            slots = slots.reshape(places[m, 1], places[m, 2])
            origin = origins[group, 0], origins[group, 1]
            end, cells = _list_map(runs, of_tiles, (slots, tiles), spacing, origin, (end, cells))
        bounds[number, groups] = end
        runs[0, end], runs[1, end], runs[2, end] = cells, 0, 0
        end += 1
    return Lists(runs[:, :end].copy(), bounds, numbers, firsts)


@compiled
def _list_map(all_runs, numbers, cells, spacing, origin, end):
    """List the cells of one map from the ``end`` of the list on, (runs, cells); returns its new
    end."""
    slots, tiles = cells
    tile_rows, tile_columns = np.nonzero(slots >= 0)
    left, lists = tile_columns << BITS, (all_runs[0], all_runs[1], all_runs[2])
    beginning = np.empty(len(tiles), np.int64)
    first = np.searchsorted(tile_rows, np.arange(slots.shape[0] + 1))
    (runs, number), mask = end, _every_nth_bit(spacing[1])
    for remainder_y in range(spacing[0]):
        for remainder_x in range(spacing[1]):
            for tile in range(len(tiles)):
                beginning[tile] = (remainder_x - left[tile]) % spacing[1]
            of_tiles, end = (tiles, left, beginning, first), (runs, number)
            runs, number = _list_residue(
                lists, numbers, of_tiles, remainder_y, spacing, mask, origin, end
            )
    return runs, number


@inlined
def _list_residue(lists, numbers, of_tiles, first_row, spacing, mask, origin, end):
    """List the cells of one residue from the ``end`` of the list on, (runs, cells); returns its new
    end.

    Args:
        lists: (begins, rows, columns) of the runs.
        numbers: of the map's tiles, as ``Lists`` has them.
        of_tiles: the tiles, the first column of each, the place in it of the first column that
            leaves the remainder, and the first tile of each row of tiles.
        first_row: the remainder of the rows.
        spacing, origin: of the list; of the map in the list's coordinates.
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


def tables(maps, lists, spacings, origins, readings):
    """Numbers of the cells that windows read: of each reading a table, outputs x taps, int32.

    Args:
        maps, spacings, origins: as ``listed`` takes them.
        lists: their ``Lists``.
        readings: n x 9, int64: as ``reads`` of ``cell_maps.traced``, but the kernel has only the
            taps that are looked up; and the number of neighbours in the source's list that a tap
            stands for, itself included.
    """
    outputs = lists.runs[0, lists.bounds[readings[:, 0], -1]].tolist()
    taps = (readings[:, 2] * readings[:, 3]).tolist()
    ends = [0, *accumulate(map(mul, outputs, taps))]
    entries = np.empty(ends[-1], np.int32)
    items = _items(lists.bounds, readings)
    arguments = items, maps, lists, spacings, origins, readings, np.array(ends)
    _look_up(entries, *arguments, work=LOOK_UP_NS * entries.size)
    return [
        entries[begin:end].reshape(shape)
        for begin, end, shape in zip(ends, ends[1:], zip(outputs, taps))
    ]


@compiled
def _items(bounds, readings):
    """n x 3, int64: a reading, a group, and the first of up to ``RUNS`` runs of its outputs."""
    parts = -(-(bounds[:, 1:] - bounds[:, :-1]) // RUNS)
    count = 0
    for reading in range(len(readings)):
        count += parts[readings[reading, 0]].sum()
    items, n = np.empty((count, 3), np.int64), 0
    for reading in range(len(readings)):
        reader = readings[reading, 0]
        for group in range(parts.shape[1]):
            for part in range(parts[reader, group]):
                items[n, 0], items[n, 1] = reading, group
                items[n, 2] = bounds[reader, group] + part * RUNS
                n += 1
    return items


@compiled_parallel
def _look_up(entries, items, maps, lists, spacings, origins, readings, begins):
    (slots, tiles, places), (runs, bounds, numbers, firsts) = maps, lists
    for item in prange(len(items)):
        reading, group, first_run = items[item, 0], items[item, 1], items[item, 2]
        reader, source = readings[reading, 0], readings[reading, 1]
        height, width, reach = readings[reading, 2], readings[reading, 3], readings[reading, 8]
        apart, spacing, taps = spacings[reader, 1], spacings[source, 1], height * width
        # Where neighbours' cells are contiguous in the list, their numbers advance by a constant
        touching = apart % spacing == 0 and apart <= reach * spacing
        step = apart // spacing if touching else 0
        m, residue_mask = group * len(spacings) + source, _every_nth_bit(spacing)
        source_map = (
            slots[places[m, 0] : places[m + 1, 0]].reshape(places[m, 1], places[m, 2]),
            tiles[places[m, 3] : places[m + 1, 3]],
            numbers[firsts[m] : firsts[m + 1]].reshape(-1, SIDE, min(spacing, SIDE)),
            spacing,
            residue_mask,
        )
        top = readings[reading, 6] - origins[group, 0]
        left = readings[reading, 7] - origins[group, 1]
        for run in range(first_run, min(first_run + RUNS, bounds[reader, group + 1])):
            outputs = runs[0, run + 1] - runs[0, run]
            for i in range(height):
                y = runs[1, run] + top + i * readings[reading, 4]
                for j in range(width):
                    x = runs[2, run] + left + j * readings[reading, 5]
                    at = begins[reading] + runs[0, run] * taps + i * width + j
                    if step:
                        number = _number(source_map, y, x)
                        for n in range(outputs):
                            entries[at + n * taps] = number + n * step
                        continue
                    for n in range(outputs):
                        entries[at + n * taps] = _number(source_map, y, x + n * apart)


@inlined
def _number(source, y, x):
    """The number of a needed cell in its list.

    Args:
        source: slots and tiles of its map, their numbers, the spacing of the list's columns, and
            the columns of remainder 0, as ``_every_nth_bit`` gives them.
    """
    slots, tiles, numbers, spacing, residue_mask = source
    slot, row, column = slots[y >> BITS, x >> BITS], y & _INSIDE, x & _INSIDE
    first = column % spacing
    in_front = (residue_mask << np.uint64(first)) & ((_ONE << np.uint64(column)) - _ONE)
    return numbers[slot, row, first] + ones(tiles[slot, row] & in_front)


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
