"""How a block of threads shares out the matrix product inside every convolution kernel.

    sums[row, column] += first[step, row] * second[step, column], one step after the other

A block owns a tile of ``height`` x ``width`` sums and walks through the steps in slices of
``depth``. While it multiplies one slice out of shared memory, it fetches the next one from global
memory into registers and writes it to a second buffer: one barrier for each slice. A thread holds
rows x columns sums in registers and reads 4 adjacent words at a time.

Where columns are pixels, a warp reads and writes chunks of 32 neighbouring pixels of a map, and
lane l puts those of 4 chunks, l, 32 + l, 64 + l and 96 + l, side by side in shared memory. So
global accesses are coalesced, and shared ones take 128 bits without bank conflicts.
"""

from dataclasses import dataclass
from functools import cache, reduce

from kernels.activation.cuda import function as activation_function
from kernels.cuda_api import MAX_ELEMENTS, ceil_division, cuda, device, u32
from kernels.geometry import Pair

# No element has this index
NOWHERE = u32(MAX_ELEMENTS)


@dataclass(frozen=True)
class Tile:
    """A block's share of a matrix product; pairs are (along rows, along columns).

    Attributes:
        rows, columns: sums of one thread, multiples of 4.
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
    def weights_per_thread(self) -> int:
        """Packed weights that each thread fetches for a slice."""
        return ceil_division(self.height * self.depth, self.threads)

    def packed_steps(self, steps: int) -> int:
        """Steps that packed weights hold: whole slices, and one that blocks fetch ahead."""
        return (ceil_division(steps, self.depth) + 1) * self.depth

    def packed_size(self, rows: int, steps: int) -> int:
        """Elements of packed weights; a thread's last fetch may reach beyond the last slice."""
        blocks = ceil_division(rows, self.height)
        return blocks * self.packed_steps(steps) * self.height + self.threads


@cache
def multiplier(tile: Tile, dtype, row_pitch: int, column_pitch: int, unrolled: int):
    """Device functions that add one step, and ``unrolled`` steps, to a thread's sums.

    They take where the thread's first row and column of the first step lie in shared memory, the
    two shared arrays, whose steps lie a pitch apart, and the sums. Calls of calls unroll the steps,
    which a loop would not.
    """
    rows, columns = tile.rows, tile.columns
    row_step, column_step = u32(4 * tile.lanes[0]), u32(4 * tile.lanes[1])

    @device
    def step(row, column, first, second, sums):
        a = cuda.local.array(rows, dtype)
        b = cuda.local.array(columns, dtype)
        for i in range(rows):
            a[i] = first[row + u32(i // 4) * row_step + u32(i % 4)]
        for j in range(columns):
            b[j] = second[column + u32(j // 4) * column_step + u32(j % 4)]
        for i in range(rows):
            for j in range(columns):
                sums[i * columns + j] += a[i] * b[j]

    def twice(steps, count):
        down, across = u32(count * row_pitch), u32(count * column_pitch)

        @device
        def both(row, column, first, second, sums):
            steps(row, column, first, second, sums)
            steps(row + down, column + across, first, second, sums)

        return both

    steps, count = step, 1
    while count < unrolled:
        steps, count = twice(steps, count), 2 * count
    return step, steps


@cache
def writer(tile: Tile, dtype, activation):
    """A device function that writes a block's sums to maps: y = f(sum + bias).

    The sums pass through shared memory, so that a warp writes 32 neighbouring pixels at a time.
    """
    rows, columns = tile.rows, tile.columns
    lanes_y, lanes_x = u32(tile.lanes[0]), u32(tile.lanes[1])
    warps_x, warps, lanes = u32(tile.warps[1]), u32(tile.warp_count), u32(tile.warp_threads)
    width, chunks, together = u32(tile.width), tile.chunks, tile.side_by_side
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
            own_column = u32((warp % warps_x) * u32(columns) * lanes_x + (lane % lanes_x) * u32(4))
            cuda.syncthreads()
            for k in range(count):
                at = u32((own_row * per_pass + u32(k)) * width + own_column)
                for j in range(columns):
                    slot = at + u32(j // 4) * u32(4) * lanes_x + u32(j % 4)
                    stage[slot] = sums[(i + k) * columns + j]
            cuda.syncthreads()
            s = warp
            while s < staged:
                owner = u32(s // per_pass)
                row = u32(first_row + (owner // lanes_y) * u32(rows) * lanes_y)
                own = u32(u32(i) + s % per_pass)
                row = u32(row + ((own // u32(4)) * lanes_y + owner % lanes_y) * u32(4))
                row = u32(row + own % u32(4))
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

    def then(one, other):
        @device
        def both(sums, stage, bias, biased, y, places, first_row, row_count, plane):
            one(sums, stage, bias, biased, y, places, first_row, row_count, plane)
            other(sums, stage, bias, biased, y, places, first_row, row_count, plane)

        return both

    passes = reduce(then, [pass_from(i) for i in range(0, rows, passing)])

    @device
    def write(sums, stage, bias, biased, y, first_row, row_count, first_pixel, pixels, plane):
        places = cuda.local.array(chunks, u32)
        for m in range(chunks):
            p = u32(first_pixel + u32(m) * lanes + cuda.threadIdx.x % lanes)
            place = u32(p + u32(p // plane) * u32(row_count - u32(1)) * plane)
            places[m] = place if p < pixels else NOWHERE
        passes(sums, stage, bias, biased, y, places, first_row, row_count, plane)

    return write
