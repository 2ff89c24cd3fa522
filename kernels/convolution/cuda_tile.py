"""How a block of threads shares out the matrix product inside every convolution kernel.

    sums[row, column] += first[step, row] * second[step, column], one step after the other

A block owns a tile of ``height`` x ``width`` sums and walks through the steps in slices of
``depth``. While it multiplies one slice out of shared memory, it fetches the next one from global
memory into registers and writes it to a second buffer: one barrier for each slice. A thread holds
rows x columns sums in registers and reads up to 4 adjacent words at a time.

Where columns are pixels, a warp reads and writes chunks of 32 neighbouring pixels of a map, and
lane l puts those of 4 chunks, l, 32 + l, 64 + l and 96 + l, side by side in shared memory. So
global accesses are coalesced, and shared ones take 128 bits without bank conflicts.
"""

from dataclasses import dataclass
from functools import cache, reduce
from math import gcd

from kernels.activation.cuda import function as activation_function
from kernels.checks import Pair
from kernels.device.api import cuda, device, u32
from kernels.device.limits import MAX_ELEMENTS, ceil_division
from kernels.device.loads import kept, load4

# No element has this index
NOWHERE = u32(MAX_ELEMENTS)


@dataclass(frozen=True)
class Tile:
    """A block's share of a matrix product; pairs are (along rows, along columns).

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
    def side_by_side(self) -> int:
        """Chunks whose pixels lie side by side in shared memory."""
        return min(4, self.chunks)

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

    def packed_shape(self, rows: int, steps: int) -> tuple[int, int]:
        """Packed weights, steps x rows: at least one step, rows rounded up to what a load takes."""
        return max(1, steps), ceil_division(rows, self.weights_together) * self.weights_together


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
def positioner(tile: Tile):
    """Device functions (own, row, column): of a thread's sums within the tile.

    ``own`` gives the first row and column of the thread, ``row`` its i-th row from the first, and
    ``column`` its j-th column.
    """
    (row_run, column_run), lanes = tile.runs, u32(tile.warp_threads)
    lanes_y, lanes_x, warps_x = u32(tile.lanes[0]), u32(tile.lanes[1]), u32(tile.warps[1])
    rows, columns = u32(tile.rows), u32(tile.columns)

    @device
    def own():
        thread = u32(cuda.threadIdx.x)
        lane, warp = u32(thread % lanes), u32(thread // lanes)
        row = u32((warp // warps_x) * rows * lanes_y + lane // lanes_x * u32(row_run))
        column = u32((warp % warps_x) * columns * lanes_x + lane % lanes_x * u32(column_run))
        return kept(row), kept(column)

    @device
    def row(first, i):
        return u32(first + u32(i // row_run * row_run) * lanes_y + u32(i % row_run))

    @device
    def column(first, j):
        return u32(first + u32(j // column_run * column_run) * lanes_x + u32(j % column_run))

    return own, row, column


@cache
def multiplier(tile: Tile, dtype, row_pitch: int, column_pitch: int, unrolled: int):
    """Device functions that add ``unrolled`` steps, and any number of steps, to a thread's sums.

    They take where the thread's first row and column of the first step lie in shared memory, the
    two shared arrays, whose steps lie a pitch apart, and the sums. Calls of calls unroll the steps,
    which a loop would not.
    """
    rows, columns = tile.rows, tile.columns
    (row_run, column_run), (lanes_y, lanes_x) = tile.runs, tile.lanes
    row_step, column_step = u32(row_run * lanes_y), u32(column_run * lanes_x)
    row_pitch, column_pitch = u32(row_pitch), u32(column_pitch)

    @device
    def step(row, column, first, second, sums):
        a = cuda.local.array(rows, dtype)
        b = cuda.local.array(columns, dtype)
        for i in range(rows):
            a[i] = first[row + u32(i // row_run) * row_step + u32(i % row_run)]
        for j in range(columns):
            b[j] = second[column + u32(j // column_run) * column_step + u32(j % column_run)]
        for i in range(rows):
            for j in range(columns):
                sums[i * columns + j] += a[i] * b[j]

    def twice(steps, count):
        down, across = u32(count) * row_pitch, u32(count) * column_pitch

        @device
        def both(row, column, first, second, sums):
            steps(row, column, first, second, sums)
            steps(row + down, column + across, first, second, sums)

        return both

    chain = [step]
    while 2 ** len(chain) <= unrolled:
        chain.append(twice(chain[-1], 2 ** (len(chain) - 1)))
    four_steps = chain[2]

    @device
    def multiply_some(steps, row, column, first, second, sums):
        while steps >= u32(4):
            four_steps(row, column, first, second, sums)
            row = u32(row + u32(4) * row_pitch)
            column = u32(column + u32(4) * column_pitch)
            steps = u32(steps - u32(4))
        while steps > u32(0):
            step(row, column, first, second, sums)
            row = u32(row + row_pitch)
            column = u32(column + column_pitch)
            steps = u32(steps - u32(1))

    return chain[-1], multiply_some


@cache
def stager(tile: Tile, dtype):
    """Device functions (locate, fetch, store): a slice of packed weights, and one of pixels too.

    ``locate`` gives the indices of a thread's weights in the first slice; beyond the last row, step
    or slice the last ones will do. Warp w fetches the pixels of the steps w, w + warps and so on of
    a slice. ``buffer`` is 0 for the first buffers, and all ones for the second ones, which begin at
    a power of two.
    """
    threads, width, height, depth = (
        u32(n) for n in (tile.threads, tile.width, tile.height, tile.depth)
    )
    lanes, warps = u32(tile.warp_threads), u32(tile.warp_count)
    chunks, together, steps = tile.chunks, tile.side_by_side, tile.depth // tile.warp_count
    loads, run = tile.weight_loads, tile.weights_together
    weight_buffer, pixel_buffer = u32(tile.weight_buffer), u32(tile.pixel_buffer)

    @device
    def locate(first_row, row_pitch, step_count, indices):
        last_step = u32(min(step_count, depth) - u32(1))
        for m in range(loads):
            e = u32(u32(run) * u32(u32(cuda.threadIdx.x) + u32(m) * threads))
            step = u32(min(u32(e // height), last_step))
            row = u32(min(u32(first_row + e % height), u32(row_pitch - u32(run))))
            indices[m] = u32(step * row_pitch + row)

    @device
    def fetch(packed, indices, distance, weights):
        for m in range(loads):
            if run == 4:
                four = load4(packed, u32(indices[m] + distance))
                for q in range(4):
                    weights[4 * m + q] = four[q]
            else:
                weights[m] = packed[u32(indices[m] + distance)]

    @device
    def store(weights, pixels, buffer, weight_tile, pixel_tile):
        thread = u32(cuda.threadIdx.x)
        at = u32(kept(u32(u32(run) * thread)) | (buffer & weight_buffer))
        for m in range(run * loads):
            weight_tile[at + u32(m // run * run) * threads + u32(m % run)] = weights[m]
        at = u32((thread // lanes) * width + u32(together) * (thread % lanes))
        at = u32(at | (buffer & pixel_buffer))
        for q in range(steps):
            for m in range(chunks):
                run_of_chunks = u32(m // together * together) * lanes
                slot = at + u32(q) * warps * width + run_of_chunks + u32(m % together)
                pixel_tile[slot] = pixels[q * chunks + m]

    return locate, fetch, store


@cache
def writer(tile: Tile, dtype, activation):
    """A device function that writes a block's sums to maps: y = f(sum + bias).

    The sums pass through shared memory, so that a warp writes 32 neighbouring pixels at a time.
    """
    rows, columns = tile.rows, tile.columns
    lanes_y, lanes_x = u32(tile.lanes[0]), u32(tile.lanes[1])
    warps_x, warps, lanes = u32(tile.warps[1]), u32(tile.warp_count), u32(tile.warp_threads)
    width, chunks, together = u32(tile.width), tile.chunks, tile.side_by_side
    (row_run, run), (own, _, _) = tile.runs, positioner(tile)
    row_run = u32(row_run)
    # Rows of each thread that pass at a time: as many as two slices of pixels make room for
    owners = tile.lanes[0] * tile.warps[0]
    passing = min(rows, 2 * tile.depth // owners)
    no_bias = dtype(-0.0)
    f = activation_function(activation, dtype)

    def pass_from(i):
        count = min(passing, rows - i)
        per_pass, staged = u32(count), u32(count * owners)

        @device
        def write_rows(sums, stage, bias, biased, y, places, first_row, row_count, plane):
            values = cuda.local.array(together, dtype)
            lane, warp = u32(cuda.threadIdx.x % lanes), u32(cuda.threadIdx.x // lanes)
            own_row = u32((warp // warps_x) * lanes_y + lane // lanes_x)
            _, own_column = own()
            cuda.syncthreads()
            for k in range(count):
                at = u32((own_row * per_pass + u32(k)) * width + own_column)
                for j in range(columns):
                    slot = at + u32(j // run * run) * lanes_x + u32(j % run)
                    stage[slot] = sums[(i + k) * columns + j]
            cuda.syncthreads()
            s = warp
            while s < staged:
                owner = u32(s // per_pass)
                row = u32(first_row + (owner // lanes_y) * u32(rows) * lanes_y)
                nth = u32(u32(i) + s % per_pass)
                row = u32(row + ((nth // row_run) * lanes_y + owner % lanes_y) * row_run)
                row = u32(row + nth % row_run)
                if row < row_count:
                    b = bias[row] if biased else no_bias
                    for m in range(0, chunks, together):
                        at = u32(s * width + u32(m) * lanes + u32(together) * lane)
                        for q in range(together):
                            values[q] = stage[at + u32(q)]
                        for q in range(together):
                            if places[m + q] != NOWHERE:
                                y[u32(places[m + q] + row * plane)] = f(values[q] + b)
                s = u32(s + warps)

        return write_rows

    return in_turn([pass_from(i) for i in range(0, rows, passing)])
