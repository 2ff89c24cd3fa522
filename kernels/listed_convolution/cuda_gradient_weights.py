"""Gradient by the weights over listed cells: the implicit product of ``kernels.convolution``.

    dw[k, t] = sum over p of e[k, p] * x[c, rows[i, p] + j],  t = (c, i, j)

The tiles, the main loop and the sharing out of the pixels p, which are the steps, are those of
``convolution.cuda_gradient_weights``. A thread's pixel has a place of its own for each row i of the
window. So the columns are numbered (i, c, j), each row rounded up to whole groups: the columns
that a thread fetches at a time, which have one place, looked up a turn of the main loop ahead. The
kernel that adds the partial sums puts them into the order of the weights.

Multiply-adds: P*K*kh*C*kw, C*kw rounded up. Workspace: the partial sums.
"""

from functools import cache

from kernels.convolution.cuda_gradient_weights import accumulator, shared_out
from kernels.convolution.cuda_pixel_tile import (
    Columns,
    look_nothing_up,
    place_of_pixel,
    steps_of_turn,
)
from kernels.convolution.cuda_tile import Tile, placer, vector_length
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, ceil_division, flat, threads_of_spread
from kernels.device.loads import (
    computed_once,
    load_from,
    load_shared,
    place_of,
    shared_after,
    shared_place,
)
from kernels.device.multiprocessors import multiprocessors
from kernels.listed_convolution import ListedShape
from kernels.listed_convolution.cuda_forward import sizes_of
from kernels.memory import cuda as memory

# Columns of a group
GROUP_COLUMNS = 4


def columns_of(shape: ListedShape) -> int:
    """Columns of a product: those of a window's rows, rounded up to whole groups."""
    return shape.kernel[0] * ceil_division(shape.run, GROUP_COLUMNS) * GROUP_COLUMNS


@device
def _run_of(g):
    """Columns of a row of the window, C * kw, and the same rounded up."""
    run = u32(u32(g.taps) // u32(g.kernel[0]))
    return run, u32(u32(run + u32(GROUP_COLUMNS - 1)) // u32(GROUP_COLUMNS) * u32(GROUP_COLUMNS))


@device
def _distance(first_tap, slot, g):
    """``Columns.distance`` of a tile's column, from where its row of the window begins."""
    run, rounded = _run_of(g)
    at = u32(min(u32(u32(first_tap + slot) % rounded), u32(run - u32(1))))
    c, j = divmod_u32(at, g.kernel[1])
    return u32(c * u32(g.plane) + j)


@cache
def _distance_or_row(width, of_turn, of_slice):
    """``Columns.distance`` of a tile's column; or, in the slots beyond its ``width``, where a row
    of the window begins in the table of the list, kh x (P + M), beginning with the second turn."""

    @device
    def distance(first_tap, slot, g):
        if slot < width:
            return _distance(first_tap, slot, g)
        n, column = divmod_u32(u32(slot - width), of_slice)
        column = u32(n * of_slice + u32(column + of_turn) % of_slice)
        _, rounded = _run_of(g)
        i = u32(min(u32(u32(first_tap + column) // rounded), u32(u32(g.kernel[0]) - u32(1))))
        return u32(i * u32(u32(g.pixels) + u32(g.plane)))

    return distance


@cache
def _taps_of_rows(tile: Tile):
    """The taps of lists: each group of columns has its own place, looked up a turn ahead.

    A group's row stands in the shared table as far behind the distances of the turn before as the
    tile is wide.
    """
    depth, width, together = u32(tile.depth), u32(tile.width), vector_length(tile.width)
    # Places move on from turn to turn by 4
    steps = steps_of_turn(tile) if together == 4 else tile.depth
    turns, on = tile.depth // steps, tile.threads // tile.depth * together
    groups, of_slice = ceil_division(tile.width, turns * on), turns * on
    # The last turn looks up rows of the next slice's first one
    last = of_slice - on
    first_rows = tile.height + tile.width + last

    @device
    def move(p, here, of_pixel, source):
        """To the pixel p, ``here`` in the list."""
        first, end, listed = source[3][:3]
        following = u32(first + min(u32(p + depth), u32(end - u32(1))))
        return p, place_of(source[0], here), of_pixel, place_of(listed, following), following

    @device
    def open_pixel(first, end, lane, team, first_tap, arrays, look_ups, g):
        error, x, listed, table = arrays
        at_table = shared_place(table, u32(u32(4) * team))
        at_last = computed_once(shared_after(table, at_table, u32(last)))
        cursor = first, end, listed, at_last, look_ups
        here = u32(first + min(lane, u32(end - u32(1))))
        of_pixel = place_of(listed, here)
        for n in range(groups):
            row = load_shared(table, at_table, u32(first_rows + n * of_slice))
            look_ups[n] = u32(load_from(listed, of_pixel, row))
        return move(lane, here, of_pixel, (error, x, table, cursor)), cursor

    @device
    def advance(pixel, source):
        p, _, _, of_next, following = pixel
        return move(u32(p + depth), following, of_next, source)

    @device
    def place(pixel, source, n):
        return place_of(source[1], source[3][4][n])

    @device
    def look_up(pixel, source, n, at_table, at):
        _, _, table, (_, _, listed, at_last, look_ups) = source
        row = load_shared(table, at_table, u32(at + width))
        of_pixel = pixel[3] if turns == 1 or at_table == at_last else pixel[2]
        look_ups[n] = u32(load_from(listed, of_pixel, row))

    distance = _distance_or_row(width, u32(on), u32(of_slice))
    functions = distance, open_pixel, advance, place, look_up
    return Columns(steps, groups, groups * of_slice, *functions)


@cache
def _taps_of_row(tile: Tile):
    """The taps of lists and windows of one row: one place serves all, looked up a slice ahead."""
    depth = u32(tile.depth)

    @device
    def move(p, here, of_x, source):
        """To the pixel p, ``here`` in the list, whose window begins at ``of_x``."""
        error, x, _, (first, end, listed) = source
        following = u32(first + min(u32(p + depth), u32(end - u32(1))))
        of_next = u32(listed[following])
        return p, place_of(error, here), place_of(x, of_x), of_next, following

    @device
    def open_pixel(first, end, lane, team, first_tap, arrays, look_ups, g):
        error, x, listed, table = arrays
        here, cursor = u32(first + min(lane, u32(end - u32(1)))), (first, end, listed)
        return move(lane, here, u32(listed[here]), (error, x, table, cursor)), cursor

    @device
    def advance(pixel, source):
        p, _, _, of_x, here = pixel
        return move(u32(p + depth), here, of_x, source)

    functions = _distance, open_pixel, advance, place_of_pixel, look_nothing_up
    return Columns(steps_of_turn(tile), 1, 0, *functions)


@cache
def _gradient_kernel(tile: Tile, dtype, one_row):
    columns_of_list = _taps_of_row(tile) if one_row else _taps_of_rows(tile)
    accumulate = accumulator(tile, dtype, columns_of_list)

    @kernel(tile.threads, tile.blocks, tile.depth // columns_of_list.steps, tile=tile)
    def listed_convolution_gradient_weights(
        error,  # K*P
        x,  # C*M
        rows,  # kh*(P + M)
        partial,  # splits x K*columns
        first,  # the first pixel of the first split
        split_pixels,
        add,  # whether to add to what ``partial`` holds
        columns,
        g,  # ConvolutionSizes
    ):
        accumulate(error, x, rows, partial, first, split_pixels, add, u32(columns), g)

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
    split_pixels, splits = shared_out(
        shape.outputs, tiles[0] * tiles[1], sums * x.dtype.itemsize, tile
    )
    partial = flat("partial sums", memory.empty((splits, sums), x.dtype))
    arrays = flat("error", error), flat("x", x), flat("rows", rows), partial
    for start in range(0, shape.outputs, splits * split_pixels):
        here = min(splits, ceil_division(shape.outputs - start, split_pixels))
        launch(
            _gradient_kernel(tile, dtype, shape.kernel[0] == 1),
            (*tiles, here),
            tile.threads,
            *arrays,
            start,
            split_pixels,
            start > 0,
            columns,
            sizes,
        )
    adding = partial, flat("gradient", gradient), splits, columns, sizes
    threads = threads_of_spread(gradient.size, multiprocessors().count)
    launch_over(_add_kernel(dtype, tile.width), gradient.size, *adding, threads=threads)
    return gradient
