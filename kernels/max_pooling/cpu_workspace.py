"""In what steps the host takes maxima over windows of stride 1, and what that takes of memory.

Nothing here is compiled, so that a pass can be planned where nothing can be.
"""

from kernels.host.vectors import BYTES
from kernels.window import Window

# Maxima that are joined at once: they and their numbers stay in registers
MOST_PARTS = 9
# So many neighbours of a row or column are joined at once, at most, and of more so many at a time:
# from 8 on, what neighbours share saves more than another pass through the cache takes
MOST_NEIGHBOURS, AT_A_TIME = 7, 4
# Least number of items that the work is split into, if maps are high, and their least height in
# windows: the rows that two items share are taken twice
ITEMS, HEIGHT = 512, 8


def levels(kernel: int) -> list[list[int]]:
    """How maxima over ``kernel`` neighbours are made of maxima over fewer: for each level, where
    its parts begin, which are as long as all that the level before joined. The last part may
    overlap the one before it.

    >>> levels(6)
    [[0, 1, 2, 3, 4, 5]]
    >>> levels(20)
    [[0, 1, 2, 3], [0, 4, 8, 12, 16]]
    """
    found, reach = [], 1
    while reach < kernel or not found:
        parts = -(-kernel // reach)
        if parts > MOST_NEIGHBOURS:
            parts = AT_A_TIME
        last = min((parts - 1) * reach, kernel - reach)
        found.append([*range(0, (parts - 1) * reach, reach), last])
        reach += last
    return found


def at_once(window: Window, width: int, itemsize: int) -> bool:
    """Whether all cells of a window are joined at once, to a row of ``width`` outputs."""
    return window.cells <= MOST_PARTS and width >= BYTES // itemsize


def bands(planes: int, height: int, window: Window) -> int:
    """Items of work that each of so many maps, ``height`` rows of outputs each, is split into."""
    return max(1, min(-(-ITEMS // planes), height // (HEIGHT * window.footprint[0])))


def row_room(width: int, itemsize: int) -> int:
    """Numbers that a row of maxima has room for: whole vectors and more, an odd number of lines of
    the cache, so that no two rows fall into the same sets."""
    lanes = BYTES // itemsize
    return (-(-width // lanes) + 1 | 1) * lanes


def thread_rows(window: Window) -> int:
    """Rows of maxima that each thread works in: for each level, those that the next one needs, and
    two for maps that are narrower than a vector."""
    kernel, dilation = window.kernel[0], window.dilation[0]
    return sum(starts[-1] * dilation + 1 for starts in levels(kernel)) + 2


def workspace(window: Window, shape, itemsize: int, argmax: bool) -> tuple[int, int]:
    """(bytes that each thread works in, parts that the work has): rows of maxima, or a map where
    there is a stride.

    Args:
        window: any.
        shape: of the output, N x C x Ho x Wo.
        itemsize: bytes of a number.
        argmax: whether it is wanted.
    """
    batch, channels, height, width = shape
    window, parts = window.effective((height, width)), batch * channels
    if window.stride != (1, 1):
        return height * width * itemsize, parts
    parts *= bands(parts, height, window)
    if at_once(window, width, itemsize):
        return 0, parts
    room = thread_rows(window) * row_room(width + window.footprint[1] - 1, itemsize)
    return room * itemsize * (2 if argmax else 1), parts
