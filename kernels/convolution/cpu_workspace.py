"""How much the host's convolutions work on at once, and what that takes of memory.

Nothing here is compiled, so that a pass can be planned where nothing can be.
"""

from kernels.convolution import PARTIAL_SUMS, most_partial_sums
from kernels.host import simd
from kernels.host.simd import COLUMNS, MAX_VECTORS

# Columns of tiles of 1, 2, 3 vectors for scattered pixels; 2 x 4 would leave a third of 16
# registers idle and serialise the multiply-adds
SCATTERED_COLUMNS = (4, 6, 4) if COLUMNS == 4 else (COLUMNS,) * MAX_VECTORS

# Pixels of a block of the weight gradient
BLOCK = 256
# Rows and columns of an item of work of stride 1, at most; columns where a panel holds all channels
ROWS, WIDTH, LONG_WIDTH = 4, 288, 600
# The least number of items that work is split into, if there are enough pixels: in all, and for
# each thread, so that at most an eighth of them waits for the last item
ITEMS, ITEMS_OF_A_THREAD = 32, 8


def partial_shape(weights, pixels, itemsize):
    """Shape (sums, taps, channels) of the partial sums of a weight gradient over ``pixels`` pixels,
    padded to whole tiles."""
    lanes, (filters, channels, kh, kw) = simd.lanes(itemsize), weights
    taps = -(-channels * kh * kw // COLUMNS) * COLUMNS
    vectors, blocks = -(-filters // lanes), -(-pixels // BLOCK)
    most = most_partial_sums(taps * vectors * lanes * itemsize)
    return min(PARTIAL_SUMS, blocks, most), taps, vectors * lanes


def thread_bytes(shape, kernel, itemsize):
    """About what each thread works in to fill maps of ``shape``, N x K x H x W: the sums of the
    rows that it computes at once."""
    _, filters, height, width = shape
    rows = max(1, min(ROWS if kernel[0] > 1 else 1, height // ITEMS))
    tiles = min(width, WIDTH) + 2 * tile_shape(filters)[0] * simd.lanes(itemsize)
    return filters * rows * tiles * itemsize


def least_items(threads):
    """The least number of items that the work of ``threads`` threads is split into."""
    return max(ITEMS, ITEMS_OF_A_THREAD * threads)


def tile_shape(filters):
    """(vectors at most, columns) of the tiles that waste least on ``filters``."""
    return min(simd.SHAPES, key=lambda shape: -(-filters // shape[1]) * shape[1])
