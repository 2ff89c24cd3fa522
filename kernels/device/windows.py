"""What the pooling kernels share: which cells a thread has, and how it walks through windows.

In the dense form a window's stride is 1, and windows d rows apart share input rows. So a thread has
a strip of ``STRIP`` cells of one column, d rows apart, and reads a row once for all of them:
``strip_reducer`` forward, ``strip_gatherer`` backward. With other strides windows share little, and
backward a thread has one input, which few windows cover: ``window_gatherer``. Each is given the
device functions that tell one pooling from another.

Neighbouring columns are on neighbouring threads; where rows are long, no warp crosses their end.
"""

from math import gcd
from typing import NamedTuple

from kernels.checks import Pair
from kernels.device.api import cuda, device, u32
from kernels.device.indices import divmod_u32, unravel
from kernels.device.limits import ceil_division, threads_of_row
from kernels.window import PoolingShape

# Cells of a thread where windows share rows
STRIP = 4


class PoolingSizes(NamedTuple):
    """Extents of the maps and of the window, pairs (y, x)."""

    size: Pair
    output: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    # Steps between the windows that cover one input: the cell index rises by ``cells_apart``, the
    # window index falls by ``windows_apart``
    cells_apart: Pair
    windows_apart: Pair

    @classmethod
    def of(cls, shape: PoolingShape):
        """The sizes of a pooling."""
        stride, dilation = shape.window.stride, shape.window.dilation
        common = [gcd(s, d) for s, d in zip(stride, dilation)]
        pairs = (
            shape.size,
            shape.output,
            shape.window.kernel,
            stride,
            dilation,
            [s // g for s, g in zip(stride, common)],
            [d // g for d, g in zip(dilation, common)],
        )
        return cls(*map(tuple, pairs))


class Strips(NamedTuple):
    """How the cells of maps are shared out among threads: in strips of cells d rows apart."""

    planes: int
    rows: int  # of a group: a strip begins in each
    group: int  # rows from one group to the next
    strips: int  # of a column
    columns: int  # threads of a row

    @classmethod
    def of(cls, shape: PoolingShape, size: Pair, strip: int):
        """Strips of ``strip`` cells of the maps of ``size``, the inputs or the outputs."""
        (height, width), apart = size, shape.window.dilation[0]
        rows = min(apart, height) if strip > 1 else height
        return cls(
            planes=shape.batch * shape.channels,
            rows=rows,
            group=strip * apart,
            strips=rows * ceil_division(height, strip * apart) if strip > 1 else height,
            columns=threads_of_row(width),
        )

    @property
    def threads(self) -> int:
        """Threads to launch; those beyond the end of a row have no strip."""
        return self.planes * self.strips * self.columns


def strip_of(stride: int) -> int:
    """Cells of a thread if windows are ``stride`` rows apart: several where windows share rows."""
    return STRIP if stride == 1 else 1


@device
def _first_of(thread, s):
    """(plane, y, x) of the first cell of a thread's strip; beyond the maps where it has none."""
    strip, x = divmod_u32(thread, s.columns)
    plane, strip = divmod_u32(strip, s.strips)
    group, row = divmod_u32(strip, s.rows)
    return plane, u32(group * u32(s.group) + row), x


def strip_reducer(rows: int, strip: int, reduce_row, take, write):
    """Device function (x, sums, outputs, strips, g): a thread's strip of outputs, forward.

    Args:
        rows: rows of a window.
        strip: outputs of a thread.
        reduce_row: (x, at, step) of a row of a window: what its cells from ``at`` on give.
        take: (sums, v, i, result) adds what row i of its window gives to output v.
        write: (sums, v, outputs, at) writes output v.
    """

    @device
    def reduce_strip(x, sums, outputs, strips, g):
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        dilation_y, dilation_x = u32(g.dilation[0]), u32(g.dilation[1])
        height, width = u32(g.size[0]), u32(g.size[1])
        plane, oy, ox = _first_of(u32(cuda.grid(1)), strips)
        if plane < u32(strips.planes) and oy < output_y and ox < output_x:
            row = u32(oy * u32(g.stride[0]))
            at = u32(u32(u32(plane * height) + row) * width + ox * u32(g.stride[1]))
            for t in range(rows + strip - 1):
                if row < height:
                    result = reduce_row(x, at, dilation_x)
                    for v in range(strip):
                        if 0 <= t - v < rows:
                            take(sums, v, t - v, result)
                row = u32(row + dilation_y)
                at = u32(at + u32(dilation_y * width))
            at = u32(u32(u32(plane * output_y) + oy) * output_x + ox)
            for v in range(strip):
                if oy < output_y:
                    write(sums, v, outputs, at)
                oy = u32(oy + dilation_y)
                at = u32(at + u32(dilation_y * output_x))

    return reduce_strip


def strip_gatherer(rows: int, gather_row, write):
    """Device function (sources, totals, gradient, strips, g): ``STRIP`` inputs, backward, stride 1.

    Args:
        rows: rows of a window.
        gather_row: (sources, first, x, t, totals, g) adds the errors of one row of windows, which
            begins at the output ``first``, to the inputs of column ``x`` that they cover. Row t of
            these windows lies on the strip's last input, row t + v - (STRIP - 1) on input v.
        write: (gradient, at, total) writes an input's gradient.
    """

    @device
    def gather_strip(sources, totals, gradient, strips, g):
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        dilation_y = u32(g.dilation[0])
        height, width = u32(g.size[0]), u32(g.size[1])
        plane, y, x = _first_of(u32(cuda.grid(1)), strips)
        if plane < u32(strips.planes) and y < height and x < width:
            # Beyond the top edge, positions wrap and are too large
            oy = u32(y + u32(STRIP - 1) * dilation_y)
            for t in range(rows + STRIP - 1):
                if oy < output_y:
                    first = u32(u32(u32(plane * output_y) + oy) * output_x)
                    gather_row(sources, first, x, t, totals, g)
                oy = u32(oy - dilation_y)
            at = u32(u32(u32(plane * height) + y) * width + x)
            for v in range(STRIP):
                if y < height:
                    write(gradient, at, totals[v])
                y = u32(y + dilation_y)
                at = u32(at + u32(dilation_y * width))

    return gather_strip


def window_gatherer(gather):
    """Device function (sources, at, total, g): adds up the input ``at``, backward, any stride.

    Args:
        gather: (sources, window, cell, total): ``total``, with the share of one window's error that
            belongs to its cell.
    """

    @device
    def gather_windows(sources, at, total, g):
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        kernel_y, kernel_x = u32(g.kernel[0]), u32(g.kernel[1])
        plane, oy, first_ox, i, first_j = _first_window(at, g)
        # Beyond the top and the left edge, positions wrap and are too large
        while i < kernel_y:
            j, ox = first_j, first_ox
            while oy < output_y and j < kernel_x:
                if ox < output_x:
                    window = u32(u32(u32(plane * output_y) + oy) * output_x + ox)
                    total = gather(sources, window, u32(i * kernel_x + j), total)
                j = u32(j + u32(g.cells_apart[1]))
                ox = u32(ox - u32(g.windows_apart[1]))
            i = u32(i + u32(g.cells_apart[0]))
            oy = u32(oy - u32(g.windows_apart[0]))
        return total

    return gather_windows


@device
def _first_cell(y, kernel, stride, dilation, cells_apart):
    """The first cell i of a window with o*s + i*d = y for some o; ``kernel`` if there is none."""
    if dilation == u32(1):
        return u32(min(u32(y % stride), kernel))
    i = u32(0)
    while i < kernel and (y < u32(i * dilation) or u32(y - i * dilation) % stride != 0):
        i = u32(i + u32(1)) if u32(i + u32(1)) < cells_apart else kernel
    return i


@device
def _first_window(at, g):
    """(plane, oy, ox, i, j): the first window that covers the input ``at``, and its cell there.

    The next ones lie ``windows_apart`` before it, and their cells ``cells_apart`` after its own.
    """
    plane, y, x = unravel(at, g.size)
    (stride_y, stride_x), (dilation_y, dilation_x) = g.stride, g.dilation
    i = _first_cell(y, u32(g.kernel[0]), u32(stride_y), u32(dilation_y), u32(g.cells_apart[0]))
    j = _first_cell(x, u32(g.kernel[1]), u32(stride_x), u32(dilation_x), u32(g.cells_apart[1]))
    oy = u32(u32(y - i * u32(dilation_y)) // u32(stride_y))
    ox = u32(u32(x - j * u32(dilation_x)) // u32(stride_x))
    return plane, oy, ox, i, j
