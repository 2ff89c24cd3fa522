"""In what steps the host takes maxima over windows, and what that takes of memory.

Nothing here is compiled, so that a pass can be planned where nothing can be.
"""

from typing import NamedTuple

from numpy import dtype

from kernels.host.vectors import BYTES
from kernels.max_pooling import argmax_dtype
from kernels.window import Window

# Maxima that are joined at once: they and their numbers stay in registers
MOST_PARTS = 9
# Up to 7 neighbours of a row or column are joined in one level, longer windows 4 at a time: from 8
# on, what neighbours share saves more than another pass through the cache takes
MOST_NEIGHBOURS, AT_A_TIME = 7, 4
# Least number of items that the work is split into, if maps are high, and their least height in
# windows: the rows that two items share are taken twice
ITEMS, HEIGHT = 512, 8
# With a stride: bytes that an item reads, about half of a first-level cache, and the least number
# of items that maps are put together to
ITEM_BYTES, STRIDED_ITEMS = 16 * 2**10, 64
# Single outputs that are copied in the time of one vector's comparison with another
OUTPUTS_OF_A_JOIN = 2
# Maps that are a single window of at most this many cells take the strided path
SINGLE = 16


class StridedItem(NamedTuple):
    """An item of work where there is a stride (``kernels.max_pooling.cpu_strided``)."""

    maps: int
    rows: int  # of windows, of each map
    read: int  # numbers that it reads of a map
    parts: int  # that a map is split into, by columns
    map_elements: int  # from one map to the next in a part
    part_elements: int
    row_elements: int  # from one row of windows to the next
    step: int  # from one window to the next
    in_runs: bool  # whether vectors go along each row, not through the whole item


def levels(kernel: int) -> list[list[int]]:
    """How maxima over ``kernel`` neighbours are made of maxima over fewer: for each level, where
    its parts begin, which are as long as all that the level before joined. The last part may
    overlap the one before it.

    >>> levels(6)
    [[0, 1, 2, 3, 4, 5]]
    >>> levels(20)
    [[0, 1, 2, 3], [0, 4, 8, 12, 16]]
    """
    starts, reach = [], 1
    while reach < kernel or not starts:
        parts = -(-kernel // reach)
        if parts > MOST_NEIGHBOURS:
            parts = AT_A_TIME
        last = min((parts - 1) * reach, kernel - reach)
        starts.append([*range(0, (parts - 1) * reach, reach), last])
        reach += last
    return starts


def at_once(window: Window, width: int, itemsize: int) -> bool:
    """Whether all cells of a window are joined at once, to a row of ``width`` outputs."""
    return window.cells <= MOST_PARTS and width >= BYTES // itemsize


def bands(planes: int, height: int, window: Window) -> int:
    """Work items that each of ``planes`` maps, ``height`` rows of outputs each, is split into."""
    return max(1, min(-(-ITEMS // planes), height // (HEIGHT * window.footprint[0])))


def row_elements(width: int, itemsize: int) -> int:
    """Numbers that a row of maxima has room for: whole vectors and more, an odd number of lines of
    the cache, so that no two rows fall into the same sets."""
    lanes = BYTES // itemsize
    return (-(-width // lanes) + 1 | 1) * lanes


def thread_rows(window: Window) -> int:
    """Rows of maxima that each thread works in: for each level, those that the next one needs, and
    two for maps that are narrower than a vector."""
    kernel, dilation = window.kernel[0], window.dilation[0]
    return sum(starts[-1] * dilation + 1 for starts in levels(kernel)) + 2


def strided(window: Window, output) -> bool:
    """Whether maps are taken as with a stride, by an ``effective`` window and its output's size."""
    return window.stride != (1, 1) or (output == (1, 1) and window.cells <= SINGLE)


def strided_item(window: Window, out, width: int, itemsize: int) -> StridedItem:
    """How a pooling with a stride is split into items.

    Args:
        window: the window, made ``effective`` for the output.
        out: maps, and the height and width of their outputs.
        width: columns of the input.
        itemsize: bytes of a number.
    """
    (planes, height, columns), (sy, sx) = out, window.stride
    budget, lanes, span = ITEM_BYTES // itemsize, BYTES // itemsize, window.footprint
    rows = min(height, max(1, (budget // width - span[0]) // sy + 1))
    rows = -(-height // -(-height // rows))
    read = ((rows - 1) * sy + span[0]) * width
    together = max(1, min(budget // read, planes // STRIDED_ITEMS)) if rows == height else 1
    # Rows of windows begin in the same part where the rows between them fill whole parts
    parts = sx if sy * width % sx == 0 else 1
    step, map_elements, row_elements = sx // parts, -(-read // parts), sy * width // parts
    length = (together - 1) * map_elements + (rows - 1) * row_elements + (columns - 1) * step + 1
    along_rows = together * rows * -(-columns // lanes) * window.cells
    through = -(-length // lanes) * window.cells + together * rows * columns // OUTPUTS_OF_A_JOIN
    in_runs = step == 1 and along_rows < through
    beyond = ((span[0] - 1) * width + span[1]) // parts + 1
    part_elements = max(together * map_elements, length + beyond) + lanes
    sizes = read, parts, map_elements, part_elements, row_elements, step
    return StridedItem(together, rows, *sizes, in_runs)


def workspace(
    window: Window, input_width: int, shape, itemsize: int, argmax: bool
) -> tuple[int, int]:
    """(bytes that each thread works in, parts that the work has): rows of maxima, or what an item
    reads and gives where there is a stride.

    Args:
        window: a window of any stride.
        input_width: columns of the input.
        shape: shape of the output, N x C x Ho x Wo.
        itemsize: bytes of a number.
        argmax: whether it is wanted.
    """
    batch, channels, height, width = shape
    window, parts = window.effective((height, width)), batch * channels
    if strided(window, (height, width)):
        item = strided_item(window, (parts, height, width), input_width, itemsize)
        results = item.part_elements * (itemsize + argmax * dtype(argmax_dtype(window)).itemsize)
        nbytes = item.parts * item.part_elements * itemsize + results
        return nbytes, -(-parts // item.maps) * -(-height // item.rows)
    parts *= bands(parts, height, window)
    if at_once(window, width, itemsize):
        return 0, parts
    elements = thread_rows(window) * row_elements(input_width, itemsize)
    return elements * itemsize * (2 if argmax else 1), parts
