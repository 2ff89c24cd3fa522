"""Gradient by the weights over listed cells: the implicit product of ``kernels.convolution``.

    dw[k, t] = sum over p of e[k, p] * x[c, rows[i, p] + j],  t = (c, i, j)

The tiles, the main loop and the sharing out of the pixels p, which are the steps, are those of
``convolution.cuda_gradient_weights``. A thread's pixel has a place of its own for each row i of the
window. So the columns are numbered (i, c, j), each row rounded up to fours, and what a thread
fetches at a time, four columns, has one place, looked up a slice ahead if registers allow. The
kernel that adds the partial sums puts them into the order of the weights.

Multiply-adds: P*K*kh*C*kw, C*kw rounded up. Workspace: the partial sums.
"""

from functools import cache

from kernels.convolution.cuda_gradient_weights import accumulator, shared_out
from kernels.convolution.cuda_pixel_tile import Columns, steps_of_turn
from kernels.convolution.cuda_tile import Tile, placer
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, ceil_division, flat
from kernels.device.loads import load_from, load_shared, place_of, shared_place
from kernels.listed_convolution import ListedShape
from kernels.listed_convolution.cuda_forward import sizes_of
from kernels.memory import cuda as memory

FOUR = 4


def columns_of(shape: ListedShape) -> int:
    """Columns of a product: those of a window's rows, rounded up to fours."""
    return shape.kernel[0] * ceil_division(shape.run, FOUR) * FOUR


@device
def _run_of(g):
    """Columns of a row of the window, C * kw, and the same rounded up."""
    run = u32(u32(g.taps) // u32(g.kernel[0]))
    return run, u32(u32(run + u32(FOUR - 1)) // u32(FOUR) * u32(FOUR))


@cache
def _taps_of_lists(tile: Tile, one_row):
    """Of lists: each group of columns has its own place; ``one_row`` of the window, all the same.

    The table of the list is kh x (P + M). Where its rows begin for a group stands in the shared
    table, as far behind the group's distances as the tile is wide.
    """
    steps, depth, width = steps_of_turn(tile), u32(tile.depth), u32(tile.width)
    turns, of_turn = tile.depth // steps, 4 * (tile.threads // tile.depth)
    # A turn has these groups and next to them those of the following one, the last of a slice, too
    groups = 1 if one_row else ceil_division(tile.width, turns * of_turn)
    rows, between = (groups * turns + 1) * of_turn, u32(turns * of_turn)
    first_row, next_row = u32(tile.height + tile.width), u32(tile.width + of_turn)

    @device
    def distance(first_tap, slot, g):
        run, rounded = _run_of(g)
        if slot >= width:
            i = u32(u32(first_tap + slot - width) // rounded)
            return u32(min(i, u32(u32(g.kernel[0]) - u32(1))) * u32(u32(g.pixels) + u32(g.plane)))
        at = u32(min(u32(u32(first_tap + slot) % rounded), u32(run - u32(1))))
        c, j = divmod_u32(at, g.kernel[1])
        return u32(c * u32(g.plane) + j)

    @device
    def move(p, error, table, cursor):
        """To the pixel p, or the last one; and look up where its windows' first rows begin."""
        first, end, listed, at_rows, look_ups = cursor
        at = u32(first + min(p, u32(end - u32(1))))
        of_pixel = place_of(listed, at)
        for n in range(groups):
            row = load_shared(table, at_rows, u32(n * between))
            look_ups[n] = u32(load_from(listed, of_pixel, row))
        return p, place_of(error, at), of_pixel

    @device
    def open_pixel(first, end, lane, team, first_tap, arrays, look_ups, g):
        error, _, listed, table = arrays
        at_rows = shared_place(table, u32(first_row + u32(4) * team))
        cursor = first, end, listed, at_rows, look_ups
        return move(lane, error, table, cursor), cursor

    @device
    def advance(pixel, source):
        error, _, table, cursor = source
        return move(u32(pixel[0] + depth), error, table, cursor)

    @device
    def place(pixel, source, n, at_table, at):
        _, x, table, (_, _, listed, _, look_ups) = source
        here = place_of(x, look_ups[0 if one_row else n])
        if turns > 1 and not one_row:  # for the next turn
            row = load_shared(table, at_table, u32(at + next_row))
            look_ups[n] = u32(load_from(listed, pixel[2], row))
        return here

    return Columns(steps, True, groups, rows, distance, open_pixel, advance, place)


@cache
def _gradient_kernel(tile: Tile, dtype, one_row):
    columns_of_list = _taps_of_lists(tile, one_row)
    accumulate = accumulator(tile, dtype, columns_of_list)

    @kernel(tile.threads, tile.blocks, tile.depth // columns_of_list.steps)
    def listed_convolution_gradient_weights(
        error,  # K*P
        x,  # C*M
        rows,  # kh*(P + M)
        partial,  # splits x K*columns
        first,  # the first pixel of the first split
        share,  # pixels of a split
        add,  # whether to add to what ``partial`` holds
        columns,
        g,  # ConvolutionSizes
    ):
        accumulate(error, x, rows, partial, first, share, add, u32(columns), g)

    return listed_convolution_gradient_weights


@cache
def _add_kernel(dtype, tile_width):
    column_of, width = placer(tile_width), u32(tile_width)

    @kernel(ELEMENTWISE_THREADS)
    def add_listed_partial(
        partial,  # splits x K*columns
        gradient,  # K*C*kh*kw
        splits,
        columns,
        g,  # ConvolutionSizes
    ):
        at = u32(cuda.grid(1))
        if at < gradient.size:
            rest, j = divmod_u32(at, g.kernel[1])
            rest, i = divmod_u32(rest, g.kernel[0])
            k, c = divmod_u32(rest, u32(g.taps) // u32(u32(g.kernel[0]) * u32(g.kernel[1])))
            _, rounded = _run_of(g)
            tile, slot = divmod_u32(u32(i * rounded + c * u32(g.kernel[1]) + j), width)
            at_sum = u32(k * u32(columns) + tile * width + column_of(slot))
            total, split = partial[at_sum], u32(1)
            while split < splits:
                at_sum = u32(at_sum + u32(g.filters) * u32(columns))
                total += partial[at_sum]
                split = u32(split + u32(1))
            gradient[at] = total

    return add_listed_partial


def gradient_weights(x, rows, error, shape: ListedShape, tile: Tile):
    """dw for checked arguments; see ``kernels.listed_convolution.cuda.gradient_weights``."""
    dtype, sizes = x.dtype.type, sizes_of(shape)
    gradient = memory.empty(shape.weights, x.dtype)
    tiles = ceil_division(columns_of(shape), tile.width), ceil_division(shape.filters, tile.height)
    columns = tiles[0] * tile.width
    sums = shape.filters * columns
    share, splits = shared_out(shape.outputs, tiles[0] * tiles[1], sums * x.dtype.itemsize, tile)
    partial = flat("partial sums", memory.empty((splits, sums), x.dtype))
    arrays = flat("error", error), flat("x", x), flat("rows", rows), partial
    for start in range(0, shape.outputs, splits * share):
        here = min(splits, ceil_division(shape.outputs - start, share))
        launch(
            _gradient_kernel(tile, dtype, shape.kernel[0] == 1),
            (*tiles, here),
            tile.threads,
            *arrays,
            start,
            share,
            start > 0,
            columns,
            sizes,
        )
    adding = partial, flat("gradient", gradient), splits, columns, sizes
    launch_over(_add_kernel(dtype, tile.width), gradient.size, *adding)
    return gradient
