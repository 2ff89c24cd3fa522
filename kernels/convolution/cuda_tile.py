"""How a block of threads shares out the matrix product inside every convolution kernel.

    sums[row, column] += first[step, row] * second[step, column], one step after the other

A block owns a tile of ``height`` x ``width`` sums and walks through the steps in slices of
``depth``. While it multiplies one slice out of shared memory, it fetches the next one from global
memory into registers and writes it to a second buffer: one barrier for each slice. A thread holds
rows x columns sums in registers and reads up to 4 adjacent words at a time.

Here is what all four kernels have in common: which sums a thread has, how it multiplies, and the
main loop. What they fetch and how they store it in shared memory stands with each of them.
"""

from dataclasses import dataclass
from functools import cache, reduce
from math import gcd
from typing import NamedTuple

from kernels.checks import Pair
from kernels.device.api import cuda, device, u32
from kernels.device.indices import divmod_u32
from kernels.device.limits import ceil_division
from kernels.device.loads import BY_INDEX, computed_once


class SharedLayout(NamedTuple):
    """How the slices of two factors lie in shared memory; pairs are (rows, columns).

    Attributes:
        pitches: elements from one step to the next.
        buffers: elements from the first buffer to the second one.
    """

    pitches: Pair
    buffers: Pair


@dataclass(frozen=True)
class Tile:
    """A block's part of a matrix product; pairs are (along rows, along columns).

    Attributes:
        rows, columns: sums of one thread; columns of pixels are multiples of 4.
        lanes: threads of a warp.
        warps: warps of a block.
        depth: steps in a slice, a power of two: where columns are pixels, a multiple of the number
            of warps; where steps are pixels, at most the number of threads.
        blocks: blocks that a multiprocessor must be able to hold.
    """

    rows: int
    columns: int
    lanes: Pair
    warps: Pair
    depth: int = 8
    blocks: int = 2

    @property
    def height(self) -> int:
        """Rows of a block's sums."""
        return self.rows * self.lanes[0] * self.warps[0]

    @property
    def width(self) -> int:
        """Columns of a block's sums."""
        return self.columns * self.lanes[1] * self.warps[1]

    @property
    def runs(self) -> Pair:
        """Adjacent rows, and columns, of a thread: one load from shared memory takes a run."""
        return gcd(4, self.rows), gcd(4, self.columns)

    @property
    def warp_threads(self) -> int:
        """Threads of a warp: 32, fewer only on the simulator."""
        return self.lanes[0] * self.lanes[1]

    @property
    def warp_count(self) -> int:
        """Warps of a block."""
        return self.warps[0] * self.warps[1]

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.warp_threads * self.warp_count

    @property
    def chunks(self) -> int:
        """Runs of neighbouring pixels that a warp fetches for a step, a pixel for each thread."""
        return self.width // self.warp_threads

    @property
    def chunks_together(self) -> int:
        """Chunks whose pixels lie side by side in shared memory."""
        return min(4, self.chunks)

    @property
    def warp_steps(self) -> int:
        """Steps of a slice whose pixels a warp fetches."""
        return self.depth // self.warp_count

    @property
    def pixels_fetched(self) -> int:
        """Pixels that each thread fetches for a slice."""
        return self.warp_steps * self.chunks

    @property
    def weights_together(self) -> int:
        """Neighbouring packed weights that one load takes: 4 where rows come in fours."""
        return 4 if self.height % 4 == 0 else 1

    @property
    def weight_loads(self) -> int:
        """Loads of packed weights by each thread for a slice."""
        return ceil_division(self.height * self.depth, self.weights_together * self.threads)

    @property
    def weights_fetched(self) -> int:
        """Packed weights that each thread fetches for a slice."""
        return self.weights_together * self.weight_loads

    @property
    def weight_buffer(self) -> int:
        """Elements of a slice of weights in shared memory, rounded up to a power of two."""
        return 1 << (self.threads * self.weights_fetched - 1).bit_length()

    @property
    def pixel_buffer(self) -> int:
        """Elements of a slice of pixels in shared memory, rounded up to a power of two."""
        return 1 << (self.width * self.depth - 1).bit_length()

    @property
    def pixel_layout(self) -> SharedLayout:
        """How a slice of weights and one of pixels lie in shared memory."""
        return SharedLayout((self.height, self.width), (self.weight_buffer, self.pixel_buffer))

    def packed_shape(self, rows: int, steps: int) -> tuple[int, int]:
        """Packed weights, steps x rows: at least one step, rows rounded up to what a load takes."""
        return max(1, steps), ceil_division(rows, self.weights_together) * self.weights_together


def pitch(extent: int) -> int:
    """Distance of steps in shared memory: an odd number of 4-word groups avoids bank conflicts."""
    return extent if extent % 8 else extent + 4


def vector_length(extent: int) -> int:
    """Elements of a vector: rows, or columns, of a step that a thread stores contiguously.

    Slot v*a + b of a step, v being their number, holds row b * extent/v + a, so that in the end
    neighbouring threads write neighbouring sums.
    """
    return gcd(4, extent)


@cache
def placer(extent: int):
    """Device function: the row, or column, of a step that a slot holds; see ``vector_length``."""
    together = vector_length(extent)
    vectors = u32(extent // together)

    @device
    def held_by(slot):
        vector, nth = divmod_u32(slot, together)
        return u32(nth * vectors + vector)

    return held_by


def in_turn(functions):
    """A device function that calls each of ``functions``, which take the same arguments."""

    def then(one, other):
        @device
        def both(*arguments):
            one(*arguments)
            other(*arguments)

        return both

    return reduce(then, functions)


@cache
def opener(tile: Tile, dtype):
    """Device function (sums): sets a thread's sums to 0, and tells which ones they are.

    It returns two pairs: the block's first row and column in the matrix, and the thread's first row
    and column within the tile.
    """
    count = tile.rows * tile.columns
    height, width = u32(tile.height), u32(tile.width)
    corner_of_thread, _, _ = positioner(tile)

    @device
    def start(sums):
        for m in range(count):
            sums[m] = dtype(0)
        corner = u32(u32(cuda.blockIdx.y) * height), u32(u32(cuda.blockIdx.x) * width)
        return corner, corner_of_thread()

    return start


@cache
def lane_and_warp(tile: Tile):
    """Device function: the number of a thread in its warp, and that of the warp."""
    lanes = u32(tile.warp_threads)

    @device
    def numbers():
        thread = u32(cuda.threadIdx.x)
        return u32(thread % lanes), u32(thread // lanes)

    return numbers


@cache
def positioner(tile: Tile):
    """Device functions (corner, row, column): of a thread's sums within the tile.

    ``corner`` gives the first row and column of the thread, ``row`` its i-th row from the first,
    and ``column`` its j-th column.
    """
    (row_run, column_run), numbers = tile.runs, lane_and_warp(tile)
    lanes_x, warps_x = u32(tile.lanes[1]), u32(tile.warps[1])
    warp_height, warp_width = u32(tile.rows * tile.lanes[0]), u32(tile.columns * tile.lanes[1])
    row_step, column_step = u32(row_run * tile.lanes[0]), u32(column_run * tile.lanes[1])

    @device
    def corner():
        lane, warp = numbers()
        row = u32(warp // warps_x * warp_height + lane // lanes_x * u32(row_run))
        column = u32(warp % warps_x * warp_width + lane % lanes_x * u32(column_run))
        return computed_once(row), computed_once(column)

    @device
    def row(first, i):
        return u32(first + u32(i // row_run) * row_step + u32(i % row_run))

    @device
    def column(first, j):
        return u32(first + u32(j // column_run) * column_step + u32(j % column_run))

    return corner, row, column


@cache
def in_buffer(size: int):
    """Device function (at, buffer): where the element ``at`` of a buffer lies in one of two.

    ``buffer`` is 0 for the first, and all ones for the second, which begins at ``size``.
    """
    aligned, size = size & (size - 1) == 0, u32(size)

    @device
    def beside(at, buffer):
        if aligned:
            return u32(at | (buffer & size))
        return u32(at - buffer * size)

    return beside


@cache
def adder(tile: Tile, dtype, pitches: Pair, steps: int, access=BY_INDEX):
    """Device function (row, column, first, second, sums): adds ``steps`` steps, a power of two.

    ``row`` and ``column`` tell where the thread's first ones lie in ``first`` and ``second``, as
    indices or, with ``BY_PLACE``, as places. Calls of calls unroll the steps, which a loop would
    not.
    """
    load, after = access
    if steps > 1:
        half = adder(tile, dtype, pitches, steps // 2, access)
        down, across = (u32(steps // 2 * pitch) for pitch in pitches)

        @device
        def add_steps(row, column, first, second, sums):
            half(row, column, first, second, sums)
            half(after(first, row, down), after(second, column, across), first, second, sums)

        return add_steps

    rows, columns = tile.rows, tile.columns
    (row_run, column_run), (lanes_y, lanes_x) = tile.runs, tile.lanes
    row_step, column_step = row_run * lanes_y, column_run * lanes_x

    @device
    def add_step(row, column, first, second, sums):
        a = cuda.local.array(rows, dtype)
        b = cuda.local.array(columns, dtype)
        for i in range(rows):
            a[i] = load(first, row, u32(i // row_run * row_step + i % row_run))
        for j in range(columns):
            b[j] = load(second, column, u32(j // column_run * column_step + j % column_run))
        for i in range(rows):
            for j in range(columns):
                sums[i * columns + j] += a[i] * b[j]

    return add_step


@cache
def multiplier(tile: Tile, dtype, layout: SharedLayout, first_step: int, steps: int):
    """Device function (buffer, corner, tiles, sums): adds ``steps`` steps of a slice to the sums.

    ``corner`` is the thread's first row and column, ``tiles`` are the two shared arrays.
    """
    row_in, column_in = map(in_buffer, layout.buffers)
    down, across = (u32(first_step * pitch) for pitch in layout.pitches)
    add = adder(tile, dtype, layout.pitches, steps)

    @device
    def multiply(buffer, corner, tiles, sums):
        row, column = row_in(corner[0], buffer), column_in(corner[1], buffer)
        add(row + down, column + across, tiles[0], tiles[1], sums)

    return multiply


@cache
def partial_multiplier(tile: Tile, dtype, layout: SharedLayout):
    """Device function (steps, skipped, buffer, corner, tiles, sums): adds ``steps`` of a slice.

    ``skipped`` are the steps before them, of the slice in each of the two ``tiles``.
    """
    row_in, column_in = map(in_buffer, layout.buffers)
    row_pitch, column_pitch = map(u32, layout.pitches)
    one, four = (adder(tile, dtype, layout.pitches, steps) for steps in (1, 4))

    @device
    def multiply(steps, skipped, buffer, corner, tiles, sums):
        row = u32(row_in(corner[0], buffer) + skipped[0] * row_pitch)
        column = u32(column_in(corner[1], buffer) + skipped[1] * column_pitch)
        while steps >= u32(4):
            four(row, column, tiles[0], tiles[1], sums)
            row = u32(row + u32(4) * row_pitch)
            column = u32(column + u32(4) * column_pitch)
            steps = u32(steps - u32(4))
        while steps > u32(0):
            one(row, column, tiles[0], tiles[1], sums)
            row = u32(row + row_pitch)
            column = u32(column + column_pitch)
            steps = u32(steps - u32(1))

    return multiply


def main_loop(tile: Tile, parts, advance, ahead=False, together=in_turn):
    """Double-buffered main loop: multiplies one slice while the next is fetched.

    Device function (left, buffer, cursor, source, values, corner, tiles, sums), which returns
    (left, buffer). ``left`` counts steps, those of the slice in ``buffer`` among them: it stops
    before the last slice, and leaves that in ``buffer``. The ``cursor`` tells which slice to fetch
    from the ``source``, by way of the ``values``, which are registers.

    Args:
        tile: the kernel's tile.
        parts: the parts of a turn, each the device functions fetch(cursor, source, values),
            multiply(buffer, corner, tiles, sums) and store(values, buffer, tiles).
        advance: the device function (cursor, source), which gives the cursor of the next slice.
        ahead: whether to advance as soon as a slice is stored, so that what ``advance`` loads has
            arrived by the next fetch; else right before that, which takes fewer registers.
        together: makes one device function of those that work off a part each; all of them take
            (buffer, cursor, source, values, corner, tiles, sums).
    """
    depth = u32(tile.depth)

    def worker(fetch, multiply, store):
        @device
        def work(buffer, cursor, source, values, corner, tiles, sums):
            fetch(cursor, source, values)
            multiply(buffer, corner, tiles, sums)
            store(values, u32(~buffer), tiles)

        return work

    work = together([worker(*part) for part in parts])

    @device
    def loop(left, buffer, cursor, source, values, corner, tiles, sums):
        while left > depth:
            if not ahead:
                cursor = advance(cursor, source)
            work(buffer, cursor, source, values, corner, tiles, sums)
            buffer = u32(~buffer)
            if ahead:
                cursor = advance(cursor, source)
            cuda.syncthreads()
            left = u32(left - depth)
        return left, buffer

    return loop
