"""Tiles whose columns are pixels of maps: how their slices are staged, and their sums written.

A warp reads and writes chunks of 32 neighbouring pixels of a map, and lane l puts those of 4
chunks, l, 32 + l, 64 + l and 96 + l, side by side in shared memory. So global accesses are
coalesced, and shared ones take 128 bits without bank conflicts.
"""

from functools import cache

from kernels.activation.cuda import function as activation_function
from kernels.convolution.cuda_tile import Tile, in_buffer, in_turn, lane_and_warp, positioner
from kernels.device.api import cuda, device, u32
from kernels.device.limits import MAX_ELEMENTS
from kernels.device.loads import computed_once, load4

# No element has this index
NOWHERE = u32(MAX_ELEMENTS)


@cache
def stager(tile: Tile, dtype):
    """Device functions (locate, fetch, store): a slice of packed weights, and one of pixels too.

    ``locate`` gives the indices of a thread's weights in the first slice, clamped to the last row
    and step. Warp w fetches the pixels of the steps w, w + warps and so on of
    a slice. ``buffer`` is 0 for the first buffers, and all ones for the second ones, which begin at
    a power of two.
    """
    threads, width, height, depth = (
        u32(n) for n in (tile.threads, tile.width, tile.height, tile.depth)
    )
    lanes, warps = u32(tile.warp_threads), u32(tile.warp_count)
    chunks, together, steps = tile.chunks, tile.chunks_together, tile.warp_steps
    loads, run = tile.weight_loads, tile.weights_together
    weights_in, pixels_in = map(in_buffer, tile.pixel_layout.buffers)
    numbers = lane_and_warp(tile)

    @device
    def locate(first_row, row_pitch, step_count, indices):
        last_step = u32(min(step_count, depth) - u32(1))
        for m in range(loads):
            e = u32(u32(run) * u32(u32(cuda.threadIdx.x) + u32(m) * threads))
            # By a constant, a quotient and a remainder take fewer registers than ``divmod_u32``
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
    def store(values, buffer, tiles):
        (pixels, weights), (weight_tile, pixel_tile) = values, tiles
        lane, warp = numbers()
        at = weights_in(computed_once(u32(run * cuda.threadIdx.x)), buffer)
        for m in range(run * loads):
            weight_tile[at + u32(m // run * run) * threads + u32(m % run)] = weights[m]
        at = pixels_in(u32(warp * width + u32(together) * lane), buffer)
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
    width, chunks, together = u32(tile.width), tile.chunks, tile.chunks_together
    (row_run, run), (corner, _, _) = tile.runs, positioner(tile)
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
            # Not by ``lane_and_warp``, or registers would keep them throughout the main loop
            lane, warp = u32(cuda.threadIdx.x % lanes), u32(cuda.threadIdx.x // lanes)
            owner_of_thread = u32((warp // warps_x) * lanes_y + lane // lanes_x)
            _, first_column = corner()
            cuda.syncthreads()
            for k in range(count):
                at = u32((owner_of_thread * per_pass + u32(k)) * width + first_column)
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
