"""Max pooling with large windows of stride 1 on the device: rows pass through shared memory.

A block has up to ``COLUMNS`` neighbouring columns of outputs, a thread each, and ``STRIP`` or more
of their rows, d rows apart. It fetches as many input rows at a time as a window has, with the
columns beyond its own that its last windows reach. A thread takes the maximum of each row's kw
cells. It forms suffix maxima of the fetched rows; a window is the suffix of one fetch and the
prefix of the next. So a window takes three comparisons more, whatever its height.

With strips of S rows, an input is read (S + kh - 1) / S * (1 + (kw - 1) * d / COLUMNS) times: 2.07
for 8 x 8 cells 8 apart. Where a window's upper and lower part are equal the upper one stays, and
NaN beats both: the rule does not depend on how the window is divided.
"""

from functools import cache

import numpy as np

from kernels.activation.cuda import function
from kernels.checks import Pair
from kernels.device.api import SMALL_BLOCKS, cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch
from kernels.device.limits import WARP, ceil_division, flat
from kernels.device.maxima import wins
from kernels.device.windows import PoolingSizes, Strips
from kernels.window import PoolingShape, Window

COLUMNS = 4 if SMALL_BLOCKS else 128
STRIP = 16
"""Rows of outputs that a block has at least, rounded up to whole windows."""
LEAST_CELLS = 25
"""Cells of a window: with fewer, reading (4 + kh - 1) * kw / 4 times from the first-level cache
takes no more than passing through shared memory."""
MOST_ROWS, MOST_HALO = 16, 128
"""Most rows of a window, and columns from its first cell to its last, for which registers and
shared memory suffice."""
PITCH = COLUMNS + MOST_HALO
"""Distance of rows in shared memory."""


def serves(window: Window) -> bool:
    """Whether windows are large, and not too large."""
    (rows, columns), halo = window.kernel, window.footprint[1] - 1
    large = window.cells >= LEAST_CELLS and columns > 1
    return window.stride == (1, 1) and large and rows <= MOST_ROWS and halo <= MOST_HALO


@cache
def _fetcher(dtype, window: Pair):
    """Device function (x, at, row, stage, first_x, complete, g): fetches as many rows as a window
    has, from ``row`` on, to shared memory.

    The last one is left out unless ``complete``. What is not read becomes lowest.
    """
    lowest, (rows, columns) = dtype(-np.inf), window

    @device
    def fetch(x, at, row, stage, first_x, complete, g):
        height, width, down = u32(g.size[0]), u32(g.size[1]), u32(g.dilation[0])
        halo = u32(u32(columns - 1) * u32(g.dilation[1]))
        end = u32(min(u32(u32(cuda.blockDim.x) + halo), u32(width - first_x)))
        column = u32(cuda.threadIdx.x)
        while column < end:
            for r in range(rows):
                value = lowest
                if u32(row + u32(r) * down) < height and (complete or r < rows - 1):
                    value = x[u32(u32(at + column) + u32(u32(r) * down) * width)]
                stage[u32(r * PITCH) + column] = value
            column = u32(column + u32(cuda.blockDim.x))

    return fetch


@cache
def _row_reducer(window: Pair):
    """Device function (stage, maxima, step): the maximum of each row's cells of this thread's
    windows, and its cell."""
    rows, columns = window

    @device
    def reduce_rows(stage, maxima, step):
        top, winner = maxima
        first = u32(cuda.threadIdx.x)
        for r in range(rows):
            best, cell, at = stage[u32(r * PITCH) + first], u32(r * columns), first
            for j in range(1, columns):
                at = u32(at + step)
                value = stage[u32(r * PITCH) + at]
                if wins(value, best):
                    best, cell = value, u32(r * columns + j)
            top[r], winner[r] = best, cell

    return reduce_rows


@cache
def _suffix_maker(rows: int):
    """Device function (maxima, suffixes): the maximum of each row and all rows below it."""

    @device
    def make_suffixes(maxima, suffixes):
        (top, winner), (upper, upper_cell) = maxima, suffixes
        for r in range(rows - 1, -1, -1):
            upper[r], upper_cell[r] = top[r], winner[r]
            if r < rows - 1 and wins(upper[r + 1], top[r]):
                upper[r], upper_cell[r] = upper[r + 1], upper_cell[r + 1]

    return make_suffixes


@cache
def _writer(dtype, argmax_dtype, activation, window: Pair):
    """Device function (suffixes, maxima, outputs, oy, to, g): writes as many windows as one has
    rows, each the suffix of one fetch and the prefix of the next, whose rows have the ``maxima``.

    The first one is in the row ``oy`` of the outputs, at ``to``; returns where the next one is.
    """
    lowest, f, wanted = dtype(-np.inf), function(activation, dtype), argmax_dtype is not None
    rows, columns = window

    @device
    def write_windows(suffixes, maxima, outputs, oy, to, g):
        (upper, upper_cell), (top, winner), (y, argmax) = suffixes, maxima, outputs
        output_y, output_x, down = u32(g.output[0]), u32(g.output[1]), u32(g.dilation[0])
        lower, lower_cell = lowest, u32(0)
        for r in range(rows):
            best, cell = upper[r], upper_cell[r]
            if r > 0:
                if r == 1 or wins(top[r - 1], lower):
                    lower, lower_cell = top[r - 1], winner[r - 1]
                if wins(lower, best):
                    best, cell = lower, u32(lower_cell + u32(rows * columns))
            if oy < output_y:
                y[to] = f(best)
                if wanted:
                    argmax[to] = argmax_dtype(u32(cell - u32(r * columns)))
            oy, to = u32(oy + down), u32(to + u32(down * output_x))
        return to

    return write_windows


@cache
def _forward_kernel(dtype, argmax_dtype, activation, window: Pair):
    """``argmax_dtype`` is None where no argmax is wanted."""
    rows = window[0]
    staged, last = rows * PITCH, u32(ceil_division(STRIP, rows))
    fetch, reduce_rows, make_suffixes = (
        _fetcher(dtype, window),
        _row_reducer(window),
        _suffix_maker(rows),
    )
    write_windows = _writer(dtype, argmax_dtype, activation, window)

    @kernel(COLUMNS)
    def max_pooling_staged(
        x,  # N*C*H*W
        y,  # N*C*Ho*Wo
        argmax,  # N*C*Ho*Wo; y itself where none is wanted
        strips,  # Strips of outputs
        g,  # PoolingSizes
    ):
        stage = cuda.shared.array(staged, dtype)
        suffixes = cuda.local.array(rows, dtype), cuda.local.array(rows, u32)
        maxima = cuda.local.array(rows, dtype), cuda.local.array(rows, u32)

        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        height, width, down = u32(g.size[0]), u32(g.size[1]), u32(g.dilation[0])
        strip, first_x = divmod_u32(cuda.blockIdx.x, strips.columns)
        first_x = u32(first_x * u32(cuda.blockDim.x))
        plane, strip = divmod_u32(strip, strips.strips)
        group, row = divmod_u32(strip, strips.rows)
        row = u32(group * u32(strips.group) + row)
        ox = u32(first_x + u32(cuda.threadIdx.x))
        at = u32(u32(plane * height + row) * width + first_x)
        to = u32(u32(plane * output_y + row) * output_x + ox)
        b, oy = u32(0), row
        while b <= last and oy < output_y:
            fetch(x, at, row, stage, first_x, b < last, g)
            cuda.syncthreads()
            if ox < output_x:
                reduce_rows(stage, maxima, u32(g.dilation[1]))
                if b > u32(0):
                    to = write_windows(suffixes, maxima, (y, argmax), oy, to, g)
                make_suffixes(maxima, suffixes)
            cuda.syncthreads()
            row, b = u32(row + u32(rows) * down), u32(b + u32(1))
            at = u32(at + u32(u32(rows) * down) * width)
            oy = u32(row - u32(rows) * down)

    return max_pooling_staged


def forward(x, y, argmax, shape: PoolingShape, activation) -> None:
    """Fill y and, unless it is None, the argmax, of windows that this module ``serves``."""
    cell_dtype = None if argmax is None else np.dtype(argmax.dtype).type
    rows = shape.window.kernel[0]
    threads = min(COLUMNS, ceil_division(shape.output[1], WARP) * WARP)
    strips = Strips.of(shape, shape.output, ceil_division(STRIP, rows) * rows)
    strips = strips._replace(columns=ceil_division(shape.output[1], threads))
    compute = _forward_kernel(x.dtype.type, cell_dtype, activation, shape.window.kernel)
    blocks = strips.planes * strips.strips * strips.columns
    arrays = flat("x", x), flat("y", y), flat("argmax", y if argmax is None else argmax)
    launch(compute, blocks, threads, *arrays, strips, PoolingSizes.of(shape))
