"""What the pooling kernels share: the cells of a thread, and the windows that cover a cell.

In the dense form a window's stride is 1, and windows d rows apart share input rows. So a thread has
a strip of ``STRIP`` cells of one column, d rows apart, and reads a row once for all of them.
Neighbouring columns are on neighbouring threads; where rows are long, no warp crosses their end.
"""

from math import gcd
from typing import NamedTuple

from kernels.checks import Pair
from kernels.device.api import device, u32
from kernels.device.limits import ceil_division, threads_of_row
from kernels.window import PoolingShape

# Cells of a thread where windows share rows
STRIP = 4


class Sizes(NamedTuple):
    """Extents of the maps and of the window, pairs (y, x)."""

    size: Pair
    output: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    # Between the windows that cover one input: cells up, windows down
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
    """How maps are shared out among threads: strips of cells that lie d rows apart."""

    planes: int
    rows: int  # of a group: in each begins a strip
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
        """How many threads have a strip, or are idle at the end of a row."""
        return self.planes * self.strips * self.columns


def strip_of(stride: int) -> int:
    """Cells of a thread where windows are ``stride`` rows apart: several if they share rows."""
    return STRIP if stride == 1 else 1


@device
def first_of(thread, s):
    """(plane, y, x) of the first cell of a thread's strip; beyond the maps where it has none."""
    line = u32(thread // u32(s.columns))
    x = u32(thread - line * u32(s.columns))
    plane = u32(line // u32(s.strips))
    line = u32(line - plane * u32(s.strips))
    group = u32(line // u32(s.rows))
    return plane, u32(group * u32(s.group) + (line - group * u32(s.rows))), x


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
def first_window(at, g):
    """(plane, oy, ox, i, j): the first window that covers the input ``at``, and its cell there.

    The next ones lie ``windows_apart`` before it, and their cells ``cells_apart`` after its own.
    """
    row = u32(at // u32(g.size[1]))
    x = u32(at - row * u32(g.size[1]))
    plane = u32(row // u32(g.size[0]))
    y = u32(row - plane * u32(g.size[0]))
    (stride_y, stride_x), (dilation_y, dilation_x) = g.stride, g.dilation
    i = _first_cell(y, u32(g.kernel[0]), u32(stride_y), u32(dilation_y), u32(g.cells_apart[0]))
    j = _first_cell(x, u32(g.kernel[1]), u32(stride_x), u32(dilation_x), u32(g.cells_apart[1]))
    oy = u32(u32(y - i * u32(dilation_y)) // u32(stride_y))
    ox = u32(u32(x - j * u32(dilation_x)) // u32(stride_x))
    return plane, oy, ox, i, j
