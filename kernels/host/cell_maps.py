"""Maps of needed cells: sparse bitmaps in tiles of ``SIDE`` x ``SIDE`` bits.

Only tiles with needed cells are stored, so a long stroke costs no more than what lies around it. A
map is a pair: ``slots``, rows x columns of tiles, int32, the number of the tile there, counted row
by row, or -1 for none; and ``tiles``, n x SIDE words, one for each row, its first column in the
lowest bit.

``traced`` makes all maps of a net in one call, as ``Maps``: a call for each would take longer than
small ones do.
"""

from typing import NamedTuple

import numpy as np

from kernels.host.bits import ones
from kernels.host.compilation import compiled, inner

BITS = 6
SIDE = 1 << BITS
_INSIDE = SIDE - 1
_ONE, _NONE = np.uint64(1), np.uint64(0)


class Maps(NamedTuple):
    """Maps by group of pixels and number: map m of group g is the one at g * maps of a group + m.

    Attributes:
        slots: those of all maps, one map after the other, flat.
        tiles: those of all maps.
        places: (maps + 1) x 4, int64: a map's first slot, its rows and columns of slots, and its
            first tile; behind the last map, where a further one would begin.
    """

    slots: np.ndarray
    tiles: np.ndarray
    places: np.ndarray


@compiled
def traced(pixels, groups, origins, reads, apart):
    """(``Maps``, counts) of the pixels and of all that is read for them.

    Args:
        pixels: P x 2, int64, rows and columns, one group after the other.
        groups: where each group begins, and the end of the last one.
        origins: groups x 2, int64: row and column of a group's first cell in its maps.
        reads: n x 8, int64, in the order in which they are followed: the numbers of a map of
            outputs and of the map that these read, and (y, x) of the kernel, dilation and corner as
            ``reached`` takes them. Map 0 holds the pixels; others have their numbers in the order
            in which they are first read.
        apart: by number of a map, columns from a cell of a run to the next.

    Returns:
        the maps, and maps x 2, int64: how many cells each has, and how many runs of neighbours at
        most: one that goes on in the next tile is counted there once more.
    """
    maps = []
    for group in range(len(origins)):
        first, some = len(maps), pixels[groups[group] : groups[group + 1]]
        maps.append(marked(some[:, 0] - origins[group, 0], some[:, 1] - origins[group, 1]))
        for i in range(len(reads)):
            reader, source = maps[first + reads[i, 0]], first + reads[i, 1]
            window = (reads[i, 2], reads[i, 3]), (reads[i, 4], reads[i, 5])
            cells = reached(*reader, *window, (reads[i, 6], reads[i, 7]))
            if source == len(maps):
                maps.append(cells)
            else:
                maps[source] = united(*maps[source], *cells)
    return _one_behind_the_other(maps, apart)


@compiled
def _one_behind_the_other(maps, apart):
    places = np.zeros((len(maps) + 1, 4), np.int64)
    for m in range(len(maps)):
        slots, tiles = maps[m]
        places[m, 1], places[m, 2] = slots.shape
        places[m + 1, 0] = places[m, 0] + slots.size
        places[m + 1, 3] = places[m, 3] + len(tiles)
    all_slots = np.empty(places[-1, 0], np.int32)
    all_tiles = np.empty((places[-1, 3], SIDE), np.uint64)
    counts = np.zeros((len(maps), 2), np.int64)
    for m in range(len(maps)):
        slots, tiles = maps[m]
        all_slots[places[m, 0] : places[m + 1, 0]] = slots.ravel()
        all_tiles[places[m, 3] : places[m + 1, 3]] = tiles
        counts[m] = _counted(tiles, apart[m % len(apart)])
    return Maps(all_slots, all_tiles, places), counts


@compiled
def _counted(tiles, apart):
    """(cells, runs of neighbours that are ``apart``) of a map's tiles."""
    cells, runs = 0, 0
    for tile in range(len(tiles)):
        for row in range(SIDE):
            word = tiles[tile, row]
            before = word << np.uint64(apart) if apart < SIDE else _NONE
            cells += ones(word)
            runs += ones(word & ~before)
    return cells, runs


@compiled
def marked(rows, columns):
    """The map of listed cells, ints of at least 0."""
    taken = np.zeros(((rows.max() >> BITS) + 1, (columns.max() >> BITS) + 1), np.uint8)
    for i in range(len(rows)):
        taken[rows[i] >> BITS, columns[i] >> BITS] = 1
    slots, tiles = _empty(taken)
    for i in range(len(rows)):
        slot = slots[rows[i] >> BITS, columns[i] >> BITS]
        tiles[slot, rows[i] & _INSIDE] |= _ONE << np.uint64(columns[i] & _INSIDE)
    return slots, tiles


@compiled
def reached(slots, tiles, kernel, dilation, corner):
    """The map of all cells that the windows of needed outputs, a map, read.

    Args:
        slots, tiles: the outputs.
        kernel, dilation: extents of the window and distances of its cells, pairs (y, x).
        corner: (rows, columns) from an output to the first cell of its window.
    """
    if kernel[0] > 1 or corner[0] > 0:
        down = (corner[0], 0), (dilation[0], 0)
        slots, tiles = _moved(slots, tiles, kernel[0], *down)
    return _moved(slots, tiles, kernel[1], (0, corner[1]), (0, dilation[1]))


@compiled
def united(slots, tiles, other_slots, other_tiles):
    """The map of the cells of two maps."""
    height = max(slots.shape[0], other_slots.shape[0])
    width = max(slots.shape[1], other_slots.shape[1])
    taken = np.zeros((height, width), np.uint8)
    for of_one in (slots, other_slots):
        rows, columns = np.nonzero(of_one >= 0)
        for tile in range(len(rows)):
            taken[rows[tile], columns[tile]] = 1
    all_slots, all_tiles = _empty(taken)
    for of_one, words in ((slots, tiles), (other_slots, other_tiles)):
        rows, columns = np.nonzero(of_one >= 0)
        for tile in range(len(words)):
            into = all_tiles[all_slots[rows[tile], columns[tile]]]
            for row in range(SIDE):
                into[row] |= words[tile, row]
    return all_slots, all_tiles


@compiled
def _empty(taken):
    """(slots, tiles of zeros) of a map of which some tiles are ``taken``."""
    slots = np.full(taken.shape, -1, np.int32)
    count = 0
    for y in range(taken.shape[0]):
        for x in range(taken.shape[1]):
            if taken[y, x]:
                slots[y, x] = count
                count += 1
    return slots, np.zeros((count, SIDE), np.uint64)


@compiled
def _moved(slots, tiles, count, first, step):
    """The map of all cells moved ``count`` times, down and right: by ``first``, and by ``step``
    more each time."""
    down, right = first[0] + (count - 1) * step[0], first[1] + (count - 1) * step[1]
    height = slots.shape[0] + ((down + _INSIDE) >> BITS)
    width = slots.shape[1] + ((right + _INSIDE) >> BITS)
    taken = np.zeros((height, width), np.uint8)
    rows, columns = np.nonzero(slots >= 0)
    top, left = (rows << BITS) + first[0], (columns << BITS) + first[1]
    for tile in range(len(tiles)):
        _mark(taken, tiles[tile], (top[tile], left[tile]), count, step)
    new_slots, new_tiles = _empty(taken)
    for tile in range(len(tiles)):
        _fill(new_slots, new_tiles, tiles[tile], (top[tile], left[tile]), count, step)
    return new_slots, new_tiles


@inner
def _mark(taken, words, corner, count, step):
    """Mark in ``taken`` the tiles that a tile's cells reach, as its ``corner`` moves."""
    extent = _extent(words)
    for i in range(count if extent[0] != _NONE else 0):
        y, column, _, here, beyond, parts = _landing(extent, corner, i, step)
        for begin, end in parts:
            if begin < end:
                row = (y + begin) >> BITS
                taken[row, column] |= here
                if beyond:
                    taken[row, column + 1] = 1


@inner
def _fill(slots, tiles, words, corner, count, step):
    """Add a tile's cells to the tiles that they reach, as its ``corner`` moves."""
    extent = _extent(words)
    for i in range(count if extent[0] != _NONE else 0):
        y, column, shift, here, beyond, parts = _landing(extent, corner, i, step)
        for begin, end in parts:
            if begin < end:
                row, at, some = (y + begin) >> BITS, (y + begin) & _INSIDE, words[begin:end]
                if here:
                    _add_left(tiles[slots[row, column], at:], some, shift)
                if beyond:
                    _add_right(tiles[slots[row, column + 1], at:], some, shift)


@inner
def _landing(extent, corner, i, step):
    """Where a tile's cells lie after move ``i``: (row of its corner; column of tiles, and columns
    from there; whether cells lie in that column of tiles, and in the next one; the two ranges of
    its rows that lie in one row of tiles each)."""
    anywhere, top, bottom = extent
    y, x = corner[0] + i * step[0], corner[1] + i * step[1]
    shift = np.uint64(x & _INSIDE)
    here = anywhere << shift != _NONE
    beyond = (anywhere >> _ONE) >> (np.uint64(_INSIDE) - shift) != _NONE
    split = min(bottom, SIDE - (y & _INSIDE))
    return y, x >> BITS, shift, here, beyond, ((top, split), (max(top, split), bottom))


@inner
def _add_left(into, words, shift):
    """Add the columns that stay in a column of tiles."""
    for n in range(len(words)):
        into[n] |= words[n] << shift


@inner
def _add_right(into, words, shift):
    """Add the columns that move to the next column of tiles."""
    for n in range(len(words)):
        into[n] |= (words[n] >> _ONE) >> (np.uint64(_INSIDE) - shift)


@compiled
def _extent(words):
    """(all words of a tile in one, the first row that holds a cell, the one behind the last)."""
    anywhere, top, bottom = _NONE, 0, 0
    for row in range(SIDE):
        if words[row] != _NONE:
            top = row if anywhere == _NONE else top
            anywhere |= words[row]
            bottom = row + 1
    return anywhere, top, bottom
