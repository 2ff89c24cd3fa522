"""How ``cpu_rows`` goes about a convolution: its pieces, panels and tiles."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kernels.convolution.cpu_workspace import (
    LONG_WIDTH,
    ROWS,
    TILE_BYTES,
    WIDTH,
    least_items,
    odd_lines,
    tile_shape,
)
from kernels.host import simd
from kernels.host.buffers import LINE
from kernels.host.compilation import compiled, inner

NARROW = 96
# Bytes of a panel of all input channels: half of a second-level cache of 512 KB
PANEL_BYTES = 256 * 2**10
# A 1 x 1 convolution with at most ``FEW`` input or output channels reads its maps in place: its
# multiply-adds take less time than copying would
FEW = 12
# Maps that are read in place at once: more streams than a processor fetches ahead are slower
STREAMS = 8
# Pixels of an item there: with 4 output channels, their sums take half of the first-level cache
IN_PLACE_WIDTH = 1024


class RowSizes(NamedTuple):
    """Sizes of maps and kernel, distances between taps, and the first tap of the first output."""

    filters: int
    depth: int  # C
    height: int
    width: int
    source_height: int
    source_width: int
    kernel_height: int
    kernel_width: int
    spacing: int  # between rows of taps
    dilation: int  # between columns of taps
    top: int
    left: int


class RowTiling(NamedTuple):
    """Tiles, and what a thread's workspace holds."""

    lanes: int
    columns: int  # of a tile
    vectors: int  # of a tile, at most
    padded: int  # output channels, up to whole tiles
    one_run: bool  # whether the rows of an item make one run
    strips: bool  # whether tiles go along a row for one group of filters after another
    in_place: bool  # whether there is no panel
    depth: int  # input channels taken at once
    panel_plane: int  # elements of one channel of the largest panel
    spilled: int  # tiles whose partial sums are spilled until the next input channels
    run_length: int  # elements of one channel of the largest run


@lru_cache(1024)
def plan(out, source, kernel, dilation, origin, itemsize, threads):
    """(``RowSizes``, ``RowTiling``, items: rows of numbers like ``cpu_rows._Piece``)."""
    (batch, filters, height, width), (_, depth, h, w) = out, source
    pointwise = kernel == (1, 1) and (height, width) == (h, w)
    if pointwise:
        height, width = h, w = 1, height * width
    (kh, kw), (lanes, (vectors, columns)) = kernel, (simd.lanes(itemsize), tile_shape(filters))
    widest, span = vectors * lanes, (kw - 1) * dilation[1]
    spacing = dilation[0] if kh > 1 else 1
    one_run, least = is_run(height, width, spacing), least_items(threads)
    rows = max(1, min(rows_at_once(height, width, span, kh, one_run), batch * height // least))

    def panel_plane(longest):
        return (rows - 1 + kh) * pitch_of(longest, span, one_run)

    in_place = pointwise and min(filters, depth) <= FEW and STREAMS * h * w < 2**31
    all_inside = (height, width) == (h - (kh - 1) * dilation[0], w - span)
    fitting = [
        longest
        for longest in (LONG_WIDTH, WIDTH)
        if all_inside and depth * panel_plane(min(width, longest)) * itemsize <= PANEL_BYTES
    ]
    if in_place:
        longest, parts = IN_PLACE_WIDTH, 1 if depth <= FEW else -(-depth // STREAMS)
    elif fitting:
        longest, parts = fitting[0], 1
    else:
        longest = WIDTH
        parts = -(
            -depth // max(1, TILE_BYTES // _bytes_read(kernel, dilation[1], widest, itemsize))
        )
    items = _items(batch, height, width, spacing, rows, lanes, longest, least)
    longest = int(items[:, 4].max())
    length = (rows - 1) * pitch_of(longest, span, one_run) + width if one_run else longest
    tiling = RowTiling(
        lanes=lanes,
        columns=columns,
        vectors=vectors,
        padded=-(-filters // columns) * columns,
        one_run=one_run,
        strips=in_place or bool(fitting),
        in_place=in_place,
        depth=-(-depth // parts),
        panel_plane=0 if in_place else panel_plane(longest),
        spilled=(length // widest + 2) * (1 if one_run else rows) if parts > 1 else 0,
        run_length=length + widest if one_run else 0,
    )
    maps = filters, depth, height, width, h, w
    sizes = RowSizes(*maps, kh, kw, spacing, dilation[1], *origin)
    return sizes, tiling, items


def is_run(height, width, spacing):
    """Whether rows ``spacing`` apart are taken as one run."""
    return spacing == 1 and width < NARROW and height > 1


def rows_at_once(height, width, span, kh, one_run):
    """Rows of an item, at most."""
    if one_run:
        return max(1, min(height, WIDTH // (width + span)))
    return ROWS if kh > 1 else 1


def _items(batch, height, width, spacing, rows, lanes, longest, least):
    y = np.arange(height)
    y = y[y // spacing % rows == 0]
    heights = np.minimum(rows, -(-(height - y) // spacing))
    enough = min(-(-least // (batch * len(y))), width // NARROW)
    pieces = max(-(-width // longest), enough)
    x = np.arange(pieces) * width // pieces // lanes * lanes
    widths = np.diff(np.append(x, width))
    n, a, b = (index.ravel() for index in np.indices((batch, len(y), pieces)))
    return np.stack([n, y[a], heights[a], x[b], widths[b]], axis=1)


def _bytes_read(kernel, dilation, widest, itemsize):
    """Bytes of the cache lines that a tile reads of one channel of a panel."""
    (kh, kw), tile = kernel, widest * itemsize
    apart, together = kw * (tile + LINE), tile + (kw - 1) * dilation * itemsize + LINE
    return kh * min(apart, together)


@compiled
def next_vectors(length, done, lanes, most, beyond):
    """Vectors of the next tile; what is left is shared out evenly.

    If ``beyond``, the last vector may overrun the row; else the caller shifts the last tile back
    over the one before it; it then has 2 vectors, as 1 would be slow.
    """
    left = -(-(length - done) // lanes)
    v = max(2, -(-left // -(-left // most)))
    return min(v, left) if beyond else min(v, length // lanes)


@compiled
def inside(first, last, spacing, taps, size):
    """(first, end) of the taps along an axis that hit the source, for outputs whose first taps
    are ``first`` to ``last``."""
    begin = max(0, -(last // spacing))
    return begin, max(begin, min(taps, -((first - size) // spacing)))


_odd_lines = inner(odd_lines)


@compiled
def pitch_of(width, span, one_run):
    """Elements from one row of the panel to the next: in no run, an odd number of cache lines."""
    return width + span if one_run else _odd_lines(width + span)
