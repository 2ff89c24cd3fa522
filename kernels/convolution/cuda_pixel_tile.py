"""Tiles whose steps are pixels: how their slices are staged, and multiplied in turns.

A thread has one pixel of a slice. It reads its pixel of 4 rows, or at 4 columns, next to what its
neighbour reads, and stores the 4 values side by side, so that the transposition causes no bank
conflicts. The steps of a slice are many, so that neighbouring threads read neighbouring pixels;
written out they would exceed the first instruction cache, so a loop takes them in turns.
"""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

from kernels.convolution.cuda_tile import (
    SharedLayout,
    Tile,
    adder,
    in_turn,
    pitch,
    vector_length,
)
from kernels.device.api import device, u32
from kernels.device.limits import ceil_division
from kernels.device.loads import (
    BY_PLACE,
    load_from,
    load_shared,
    multiple_of,
    shared_after,
    store_shared,
)

# Instruction budget of the main loop (the 16 KB of the first instruction cache, less a margin), and
# estimated instructions per slice and per fetched value
LONGEST_LOOP, OF_SLICE, OF_VALUE = 1020, 50, 2.5
# Steps of a slice: the depths that tiles have, which the pixels of a block are a multiple of, so
# that sums do not depend on it
DEEPEST, SHALLOWEST = 32, 8
# Bytes of shared memory that the system takes for each block since compute capability 8.0
RESERVED_BYTES = 1024


class Columns(NamedTuple):
    """How a block reads what its taps multiply.

    A thread has one pixel of a slice. Its ``pixel`` is (p, place of the error, and what these
    functions need of it); the ``source`` is (error, x, table of distances, cursor).

    Attributes:
        steps: steps of a turn.
        registers: registers of a thread for look-ups.
        shared: entries that the columns add to the block's table in shared memory.
        distance: device function (first_tap, slot, g): the distance from the window's place to the
            column in a slot of the tile; for the slots beyond, what the columns add to the table.
        open: device function (first, end, lane, team, first_tap, arrays, look_ups, g), which gives
            (pixel, cursor); ``arrays`` are (error, x, table of the list, table of distances).
        advance: device function (pixel, source): moves on by a slice.
        place: device function (pixel, source, n): the place of the group of columns that is the
            thread's n-th in a turn.
        look_up: device function (pixel, source, n, at_table, at): loads what ``place`` needs in the
            next turn; the group's table entries begin ``at`` elements after ``at_table``.
    """

    steps: int
    registers: int
    shared: int
    distance: object
    open: object
    advance: object
    place: object
    look_up: object


def steps_of_turn(tile: Tile) -> int:
    """Steps of a slice that the code of the main loop has one after the other, a power of two.

    A slice takes as many turns of that code as it has groups of this many steps.
    """
    loads = sum(n // run for n, run in zip((tile.rows, tile.columns), tile.runs))
    fetched = OF_VALUE * (tile.height + tile.width) / tile.threads
    of_step, steps = tile.rows * tile.columns + loads + fetched, tile.depth
    while steps > 1 and OF_SLICE + steps * of_step > LONGEST_LOOP:
        steps //= 2
    return steps


def fitted(tile: Tile, shared_bytes: int) -> Tile:
    """The tile with the deepest slices for which ``tile.blocks`` blocks fit into shared memory.

    Args:
        shared_bytes: shared memory of a multiprocessor.
    """
    if blocks_with_room(tile, shared_bytes) >= tile.blocks or tile.depth // 2 < SHALLOWEST:
        return tile
    shallower = replace(tile, depth=tile.depth // 2)
    vectors = 4 * tile.threads // shallower.depth
    if tile.height % vectors or tile.width % vectors:  # not as much to fetch for every thread
        return tile
    return fitted(shallower, shared_bytes)


def blocks_with_room(tile: Tile, shared_bytes: int) -> int:
    """Blocks of float32 that fit into a multiprocessor's shared memory."""
    table, slices = tile.height + tile.width, 2 * layout_of(tile).buffers[0]
    return shared_bytes // (4 * (table + slices) + RESERVED_BYTES)


def first_column(tile: Tile) -> int:
    """Where a step's columns begin, side by side with its rows: at a multiple of a vector."""
    return ceil_division(tile.height, 4) * 4


def layout_of(tile: Tile) -> SharedLayout:
    """How rows and columns lie in one shared array."""
    between = pitch(first_column(tile) + ceil_division(tile.width, 4) * 4)
    return SharedLayout((between, between), (tile.depth * between,) * 2)


@device
def _place_of_rows(pixel, source, n):
    """For rows what ``Columns.place`` is for columns: one place serves all."""
    return pixel[1]


@device
def place_of_pixel(pixel, source, n):
    """``Columns.place`` where one place serves all columns."""
    return pixel[2]


@device
def look_nothing_up(pixel, source, n, at_table, at):
    """``Columns.look_up`` where one place serves all columns."""


class StagedPart(NamedTuple):
    """What a thread stages of a slice's rows, or of its columns, in a part of a turn.

    Attributes:
        factor: 0 for rows, 1 for columns.
        first, end: range of its vectors, which are counted within a turn.
        always: number of vectors that every turn has; some turns have one more.
        turns_with_extra: number of turns that have one more.
        together: elements of a vector.
        distance: elements from one vector to the next.
        begin: index in shared memory of a step's first vector.
        begin_table: index in the table of these vectors' distances.
    """

    factor: int
    first: int
    end: int
    always: int
    turns_with_extra: int
    together: int
    distance: int
    begin: int
    begin_table: int

    @classmethod
    def of(cls, tile: Tile, factor: int, turns: int, part: int, parts: int):
        """What one of the ``parts`` of a turn stages; a slice has ``turns`` turns."""
        extent, teams = (tile.height, tile.width)[factor], tile.threads // tile.depth
        together = vector_length(extent)
        vectors = extent // together // teams
        # Vectors of fewer than 4 are all fetched in the first turn: places move on by 4
        spread = turns if together == 4 else 1
        of_turn = ceil_division(vectors, spread)
        return cls(
            factor=factor,
            first=of_turn * part // parts,
            end=of_turn * (part + 1) // parts,
            always=of_turn if turns == 1 else vectors // turns if spread > 1 else 0,
            turns_with_extra=vectors - (of_turn - 1) * spread,
            together=together,
            distance=spread * teams * together,
            begin=factor * first_column(tile),
            begin_table=factor * tile.height,
        )

    @property
    def fetched(self) -> int:
        """Values of all vectors."""
        return (self.end - self.first) * self.together


def _fetcher(staged: StagedPart, slot: int, place_of_group, look_up):
    """Device function (cursor, source, values): fetches them into registers from ``slot`` on."""
    factor, first, end, together = staged.factor, staged.first, staged.end, staged.together
    begin, distance = staged.begin_table, staged.distance
    always, turns_with_extra = staged.always, u32(staged.turns_with_extra)

    @device
    def fetch(cursor, source, values):
        (turn, at_table, pixel), array, table = cursor, source[factor], source[2]
        for n in range(first, end):
            at = begin + n * distance
            if n < always or turn < turns_with_extra:
                place = place_of_group(pixel, source, n)
                for q in range(together):
                    away = load_shared(table, at_table, u32(at + q))
                    values[slot + (n - first) * together + q] = load_from(array, place, away)
            look_up(pixel, source, n, at_table, u32(at))

    return fetch


def _storer(staged: StagedPart, slot: int):
    """Device function (turn, values, shared, at): stores the registers from ``slot`` on."""
    first, end, together = staged.first, staged.end, staged.together
    begin, distance = staged.begin, staged.distance
    always, turns_with_extra = staged.always, u32(staged.turns_with_extra)

    @device
    def store(turn, values, shared, at):
        for n in range(first, end):
            if n < always or turn < turns_with_extra:
                for q in range(together):
                    value = values[slot + (n - first) * together + q]
                    store_shared(shared, at, u32(begin + n * distance + q), value)

    return store


def _part(
    tile: Tile, dtype, columns: Columns, of_rows: StagedPart, of_columns: StagedPart, steps: range
):
    """Device functions (fetch, multiply, store) of a part, which multiplies ``steps`` of a turn."""
    slot, pitches = of_rows.fetched, layout_of(tile).pitches
    fetch_rows = _fetcher(of_rows, 0, _place_of_rows, look_nothing_up)
    fetch_columns = _fetcher(of_columns, slot, columns.place, columns.look_up)
    store_rows, store_columns = _storer(of_rows, 0), _storer(of_columns, slot)
    add = adder(tile, dtype, pitches, len(steps), BY_PLACE)
    row_run, column_run = (u32(min(16, run * dtype(0).itemsize)) for run in tile.runs)
    after = u32(steps.start * pitches[0])

    @device
    def fetch(cursor, source, values):
        turn, at_table, pixel = cursor
        cursor = turn, multiple_of(u32(16), at_table), pixel
        fetch_rows(cursor, source, values[0])
        fetch_columns(cursor, source, values[0])

    @device
    def multiply(buffer, corner, tiles, sums):
        row, column = multiple_of(row_run, corner[0]), multiple_of(column_run, corner[1])
        row, column = shared_after(tiles[0], row, after), shared_after(tiles[1], column, after)
        add(row, column, tiles[0], tiles[1], sums)

    @device
    def store(values, buffer, tiles):
        fetched, turn, at = values
        at = multiple_of(u32(16), at)
        store_rows(turn, fetched, tiles[0], at)
        store_columns(turn, fetched, tiles[0], at)

    return fetch, multiply, store


@cache
def parts_of(tile: Tile, dtype, columns: Columns):
    """The parts of a turn, and the most values that a thread fetches for one of them.

    A turn is divided into parts to save registers. Each fetches some rows and columns of a slice,
    multiplies some steps of the previous slice, and stores what it fetched.

    Raises:
        ValueError: threads that share a step would not each have as many vectors to fetch.
    """
    extents, teams = (tile.height, tile.width), tile.threads // tile.depth
    if teams > 1 and any(extent % (4 * teams) for extent in extents):
        raise ValueError(
            f"tile is {tile.height} x {tile.width} with {tile.threads} threads and slices of "
            f"{tile.depth} steps; expected rows and columns by {4 * teams}, four for each thread "
            "of a step"
        )
    together, turns = min(8, columns.steps), tile.depth // columns.steps
    count, parts, fetched = columns.steps // together, [], []
    for part in range(count):
        staged = [StagedPart.of(tile, factor, turns, part, count) for factor in (0, 1)]
        steps = range(part * together, (part + 1) * together)
        parts.append(_part(tile, dtype, columns, *staged, steps))
        fetched.append(sum(one.fetched for one in staged))
    return parts, max(fetched)


@cache
def repeater(tile: Tile, steps: int):
    """Makes of the device functions of a turn's parts that of a slice, for ``main_loop``.

    A loop over turns keeps the code short; each turn advances four addresses: of the thread's first
    row and column, of what it looks up, and of what it stores.

    Args:
        tile: the kernel's tile.
        steps: steps of a turn.
    """
    teams = tile.threads // tile.depth
    turns, between = tile.depth // steps, layout_of(tile).pitches[0]
    down, on = u32(steps * between), u32(4 * teams)
    size = u32(tile.depth * between)

    def repeated(parts):
        turn_of = in_turn(parts)

        @device
        def slice_of(buffer, pixel, source, values, corner, tiles, sums):
            (registers, (at_table, end), at), (row, column), (shared, _) = values, corner, tiles
            table = source[2]
            here = u32(-u32(buffer) * size)
            row, column = shared_after(shared, row, here), shared_after(shared, column, here)
            at = shared_after(shared, at, u32(u32(buffer) * size))
            if turns == 1:
                cursor, values = (u32(0), at_table, pixel), (registers, u32(0), at)
                turn_of(buffer, cursor, source, values, (row, column), tiles, sums)
            else:
                turn = u32(0)
                while at_table != end:  # not all tiles need the number of the turn
                    cursor, values = (turn, at_table, pixel), (registers, turn, at)
                    turn_of(buffer, cursor, source, values, (row, column), tiles, sums)
                    row = shared_after(shared, row, down)
                    column = shared_after(shared, column, down)
                    at, at_table = shared_after(shared, at, on), shared_after(table, at_table, on)
                    turn = u32(turn + u32(1))

        return slice_of

    return repeated
