"""Weight gradient of the last few output channels on the host: pixels in the lanes.

Output channels that are left over when lines of the cache are filled, 2 of 50, would take a vector
as all of its lanes would. Here one or two of them x taps make a tile (``kernels.host.products``),
which adds up the products of neighbouring pixels' errors and inputs along the rows of a group. The
last vector of a row ends where the row does, and leaves out the pixels that the one before it had.

Which channels these are depends on the shape alone, so that gradients have the same bits on every
CPU.
"""

from functools import lru_cache
from typing import NamedTuple

import numba
from numba import prange

from kernels.convolution.cpu_taps import places_of_taps
from kernels.host.compilation import compiled_parallel
from kernels.host.products import COLUMNS, ROWS, add_products, add_sums, zeros
from kernels.host.threads import MULTIPLY_ADD_NS
from kernels.host.vectors import BYTES
from kernels.host.work_sharing import queue, take

# They are few if this many times as many fill a vector; rows are long with this many vectors
CHANNELS_OF_A_VECTOR, VECTORS_OF_A_ROW = 4, 4


class _Sizes(NamedTuple):
    """Sizes of the error map, and distances in the source."""

    batch: int
    filters: int
    height: int
    width: int
    image_pitch: int  # to the next image's window
    row_pitch: int  # to the next row's
    first: int  # of the channels
    taps: int
    lanes: int


def last_channels(shape, itemsize):
    """How many output channels of a ``ConvolutionShape`` have pixels in the lanes."""
    lanes = BYTES // itemsize
    beyond, (_, stride), (_, width) = shape.filters % lanes, shape.window.stride, shape.output
    few = beyond * CHANNELS_OF_A_VECTOR <= lanes
    return beyond if few and stride == 1 and width >= VECTORS_OF_A_ROW * lanes else 0


def add_last_channels(partial, x, error, shape, first):
    """Add to ``partial`` (groups x taps x channels) what flat ``x`` and ``error`` of a
    ``ConvolutionShape`` give the channels from ``first`` on."""
    taps, sizes = _plan(shape, first, x.itemsize)
    work = MULTIPLY_ADD_NS * shape.multiply_adds * (shape.filters - first) // shape.filters
    _add_up(partial, x, error, taps, sizes, queue(), numba.get_num_threads(), work=work)


@lru_cache(1024)
def _plan(shape, first, itemsize):
    """(where the taps lie, ``_Sizes``)."""
    (h, w), lanes = shape.size, BYTES // itemsize
    pitches = shape.channels * h * w, shape.window.stride[0] * w
    sizes = shape.batch, shape.filters, *shape.output, *pitches, first, shape.taps, lanes
    return places_of_taps(shape, COLUMNS), _Sizes(*sizes)


@compiled_parallel
def _add_up(partial, source, error, taps, sizes, items, threads):
    """An item: a tile's taps for a group of rows."""
    groups, padded, pitch = partial.shape
    sums, rows, tiles = partial.reshape(-1), sizes.batch * sizes.height, len(taps) // COLUMNS
    plane, lanes, beyond = sizes.height * sizes.width, sizes.lanes, sizes.width % sizes.lanes
    for _ in prange(threads):
        item = take(items)
        while item < groups * tiles:
            group, tap = item // tiles, item % tiles * COLUMNS
            places = taps[tap:]
            for k in range(sizes.first, sizes.filters, ROWS):
                many = min(ROWS, sizes.filters - k)
                next_channel = (many - 1) * plane
                tile = zeros(sums)
                for row in range(rows * group // groups, rows * (group + 1) // groups):
                    n, y = row // sizes.height, row % sizes.height
                    e = (n * sizes.filters + k) * plane + y * sizes.width
                    s = n * sizes.image_pitch + y * sizes.row_pitch
                    for q in range(0, sizes.width - beyond, lanes):
                        read = error, e + q, next_channel, source, s + q, places
                        tile = add_products(tile, *read, None)
                    if beyond:
                        q = sizes.width - lanes
                        read = error, e + q, next_channel, source, s + q, places
                        tile = add_products(tile, *read, lanes - beyond)
                to = (group * padded + tap) * pitch + k
                add_sums(tile, sums, to, pitch, many, min(COLUMNS, sizes.taps - tap))
            item = take(items)
