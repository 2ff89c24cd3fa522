"""How much the host's convolutions work on at once, and what that takes of memory.

Nothing here is compiled, so that a pass can be planned where nothing can be.
"""

from typing import NamedTuple

from kernels.convolution import PARTIAL_SUMS, most_partial_sums
from kernels.host import simd
from kernels.host.simd import CHANNEL_COLUMNS, CHANNEL_VECTORS, COLUMNS, MAX_VECTORS

# Columns of tiles of 1, 2, 3 vectors for scattered pixels: 4 vectors x 3 pixels are no faster
SCATTERED_COLUMNS = CHANNEL_COLUMNS[:MAX_VECTORS]

# Pixels of each partial sum of the weight gradient, at least, if there are enough
BLOCK = 256
# Pixels whose errors the weight gradient packs at once, at most. Those of three vectors stay in a
# second-level cache; with fewer, sums would be loaded and stored too often
PIXELS = 2048
# Rows and columns of an item of work of stride 1, at most; columns where a panel holds all channels
ROWS, WIDTH, LONG_WIDTH = 4, 288, 600
# The least number of items that work is split into, if there are enough pixels: in all, and for
# each thread, so that at most an eighth of them waits for the last item
ITEMS, ITEMS_OF_A_THREAD = 16, 8
# Bytes that a tile reads of a panel's channels (whole cache lines), by vector size. Half of a
# first-level cache of 32 KB, as weights stream through the rest. AVX-512 reads rows twice
# as wide: with less, sums would be loaded and stored too often
TILE_BYTES = {16: 16 * 2**10, 32: 16 * 2**10, 64: 24 * 2**10}[simd.VECTOR_BYTES]
# Over rows of errors: bytes of an item's sums, and of the weights that it takes some filters at a
# time; both stay in a second-level cache of 1 MB
SUMS_BYTES, WEIGHTS_BYTES = 384 * 2**10, 256 * 2**10
# Input channels of an item. More rows of fewer channels would share the weights, which come from
# memory in large layers, but copy the errors more often
CHANNELS = 32


def partial_shape(weights, pixels, itemsize):
    """Shape (sums, taps, channels) of the partial sums of a weight gradient over ``pixels`` pixels,
    padded to whole tiles."""
    lanes, (filters, channels, kh, kw) = simd.lanes(itemsize), weights
    taps = -(-channels * kh * kw // COLUMNS) * COLUMNS
    vectors, blocks = -(-filters // lanes), -(-pixels // BLOCK)
    most = most_partial_sums(taps * vectors * lanes * itemsize)
    return min(PARTIAL_SUMS, blocks, most), taps, vectors * lanes


def packed_error_bytes(pixels):
    """Bytes that a thread packs errors in for a weight gradient over ``pixels`` pixels, and lists
    where these lie, at most."""
    most = max(CHANNEL_VECTORS, *(vectors for vectors, _ in simd.SHAPES))
    return min(pixels, PIXELS) * (most * simd.VECTOR_BYTES + 8)


def thread_bytes(shape, kernel, itemsize):
    """About what each thread works in to fill maps of ``shape``, N x K x H x W: the sums of the
    rows that it computes at once."""
    _, filters, height, width = shape
    rows = max(1, min(ROWS if kernel[0] > 1 else 1, height // ITEMS))
    tiles = min(width, WIDTH) + 2 * tile_shape(filters)[0] * simd.lanes(itemsize)
    return filters * rows * tiles * itemsize


class ErrorRows(NamedTuple):
    """What an item of an input gradient over rows of errors works on, at most."""

    rows: int
    parts: int  # that the groups of input channels are divided into
    pitch: int  # elements from one row of the panel of errors to the next
    sums_pitch: int
    panel: int  # elements of the panel
    sums: int


def filters_at_once(error, channels, window, lanes):
    """Filters whose errors lie in a panel together, of errors of N x K x Ho x Wo.

    They must not depend on N, nor on the number of threads, which change no bits.
    """
    _, filters, height, width = error
    reached, vectors = min(window.kernel[0], -(-height // row_spacing(window))), -(-width // lanes)
    widest = -(-vectors // -(-vectors // tile_shape(channels)[0])) * simd.VECTOR_BYTES
    return min(filters, max(1, TILE_BYTES // (reached * widest)))


def error_rows(x, error, window, itemsize, threads):
    """``ErrorRows`` for a gradient of shape ``x``, N x C x H x W, and errors of N x K x Ho x Wo."""
    batch, channels, height, width = x
    lanes, (_, columns), least = simd.lanes(itemsize), tile_shape(channels), least_items(threads)
    depth, groups = filters_at_once(error, channels, window, lanes), -(-channels // columns)
    pitch, sums_pitch = odd_lines(error[3]), odd_lines(width + lanes)
    group, few = columns * sums_pitch * itemsize, min(groups, -(-CHANNELS // columns))
    below = -(-height // row_spacing(window)) if window.kernel[0] > 1 else 1
    most_rows = min(below, SUMS_BYTES // (few * group), batch * height * (groups // few) // least)
    rows = -(-below // -(-below // max(1, most_rows)))
    slice_bytes = depth * window.cells * columns * itemsize
    at_once = max(1, min(SUMS_BYTES // (rows * group), WEIGHTS_BYTES // slice_bytes))
    items = batch * -(-height // rows)
    parts = min(groups, max(-(-groups // at_once), -(-least // items)))
    panel = (rows - 1 + window.kernel[0]) * depth * pitch
    sums = rows * -(-groups // parts) * columns * sums_pitch
    return ErrorRows(rows, parts, pitch, sums_pitch, panel, sums)


def error_bytes(x, error, window, itemsize):
    """Bytes that a thread works in, at most, for an input gradient over rows of errors, with any
    number of threads: more of them take no more rows."""
    room, columns = error_rows(x, error, window, itemsize, threads=1), tile_shape(x[1])[1]
    group = columns * room.sums_pitch * itemsize
    whole = room.rows * -(-x[1] // columns) * group
    return room.panel * itemsize + min(whole, max(group, SUMS_BYTES))


def row_spacing(window):
    """Rows of inputs from one row of taps to the next."""
    return window.dilation[0] if window.kernel[0] > 1 else 1


def odd_lines(numbers):
    """``numbers`` up to an odd number of cache lines of float32."""
    return (-(-numbers // 16) | 1) * 16


def least_items(threads):
    """The least number of items that the work of ``threads`` threads is split into."""
    return max(ITEMS, ITEMS_OF_A_THREAD * threads)


def tile_shape(filters):
    """(vectors at most, columns) of the tiles that waste least on ``filters``."""
    return min(simd.SHAPES, key=lambda shape: -(-filters // shape[1]) * shape[1])
