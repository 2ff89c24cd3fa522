"""Which tile serves which convolution: a table for each kind of matrix, and the choice.

Tiles that were measured on the device come first (``cuda_tiles_measured``); without measurements
a model of its multiprocessors chooses.
"""

from functools import cache
from math import prod

from kernels.convolution import ConvolutionShape, cuda_pixel_tile
from kernels.convolution.cuda_tile import Tile
from kernels.convolution.cuda_tiles_measured import measured_tile
from kernels.device.api import SMALL_BLOCKS
from kernels.device.limits import BUSY_WARPS, LATENCY_HIDING_WARPS, ceil_division
from kernels.device.multiprocessors import RECORDED, Multiprocessors, multiprocessors

# Each table gives the share of a device's peak that a tile should reach when all of the tile is
# used: the share of multiply-adds in its main loop as compiled for compute capability 9.0, forward;
# or less, where a multiprocessor holds few of its warps, or where it needs more than the L2 cache
# gives.

# Rows are output channels, columns pixels. A tile as high as the layer has channels reads each
# pixel once, and each pixel in shared memory serves all rows of a thread: the higher the tile, the
# more multiply-adds for each load. So for each small number of channels there is a tile with about
# as many rows, whose lanes all lie along the pixels. Tiles with fewer sums a thread leave room for
# more warps, which wait less for each other and share out small layers better.
MAP_TILES = {
    Tile(1, 4, (1, 32), (1, 2), blocks=8): 0.18,  # inputs of one channel
    Tile(2, 4, (1, 32), (1, 2), blocks=8): 0.30,  # two classes
    Tile(4, 4, (1, 32), (1, 2), blocks=8): 0.46,  # inputs of three channels
    Tile(6, 4, (1, 32), (1, 2), blocks=6): 0.54,
    Tile(8, 4, (1, 32), (1, 2), blocks=6): 0.62,
    Tile(12, 4, (1, 32), (1, 2), blocks=4): 0.70,  # ten classes
    Tile(20, 4, (1, 32), (1, 2), blocks=4): 0.78,
    Tile(8, 4, (4, 8), (1, 4), blocks=4): 0.77,  # 25 and 32 channels
    Tile(10, 4, (4, 8), (1, 4), blocks=3): 0.76,
    Tile(8, 8, (4, 8), (1, 4), depth=16, blocks=2): 0.84,
    Tile(20, 4, (2, 16), (1, 4), depth=16, blocks=2): 0.85,  # also 200 = 5 x 40
    Tile(12, 4, (4, 8), (1, 4), depth=16, blocks=3): 0.84,  # 48 channels
    Tile(14, 4, (4, 8), (1, 4), blocks=3): 0.79,  # 50 channels
    Tile(12, 8, (4, 8), (1, 2), blocks=4): 0.86,
    Tile(28, 4, (2, 16), (1, 4), blocks=2): 0.86,  # 50 channels at once
    Tile(8, 8, (4, 8), (2, 2), depth=16, blocks=3): 0.87,  # 64 channels
    Tile(8, 16, (4, 8), (4, 1), blocks=2): 0.90,  # 128 channels and more
}
# Rows are output channels, columns taps; the steps, pixels, are many, and are shared out over
# blocks. Depth 32 lets a warp read 32 neighbouring pixels. To bring a value to shared memory takes
# 2.5 instructions: its address, its load, and a quarter each of a store and of a look-up of its
# distance; to move on to the next slice takes 35, to the next turn of a slice 7. A value serves
# height * width / (height + width) multiply-adds, few in a small layer: with fewer than 24 no tile
# reaches 85%, and with 10 these instructions alone leave 80%. For few classes the tiles are wide,
# as long as that wastes little.
WEIGHT_TILES = {
    Tile(1, 1, (1, 32), (1, 1), depth=32, blocks=8): 0.14,  # one class
    Tile(2, 2, (1, 32), (1, 1), depth=32, blocks=8): 0.32,  # two classes
    Tile(4, 1, (1, 32), (1, 1), depth=32, blocks=8): 0.40,
    Tile(6, 1, (1, 32), (1, 1), depth=32, blocks=8): 0.41,
    Tile(4, 2, (2, 16), (1, 1), depth=32, blocks=8): 0.56,
    Tile(5, 4, (2, 16), (1, 1), depth=32, blocks=8): 0.57,  # ten classes
    Tile(5, 4, (4, 8), (1, 1), depth=32, blocks=8): 0.62,  # first layers: 20 x 25
    Tile(12, 2, (4, 8), (1, 1), depth=32, blocks=8): 0.66,  # 48 x 16
    Tile(8, 4, (8, 4), (1, 1), depth=32, blocks=8): 0.73,  # 64 x 16
    Tile(20, 4, (2, 16), (1, 1), depth=32, blocks=5): 0.82,  # 200 = 5 x 40
    Tile(8, 4, (4, 8), (1, 2), depth=32, blocks=6): 0.79,  # 25 and 32 channels
    Tile(14, 4, (4, 8), (1, 2), depth=32, blocks=5): 0.78,  # 50 channels
    Tile(12, 4, (4, 8), (1, 2), depth=32, blocks=6): 0.82,
    Tile(12, 8, (4, 8), (1, 2), depth=32, blocks=3): 0.86,  # 48 channels
    # Larger layers: most resident warps among the large tiles
    Tile(8, 8, (4, 8), (2, 1), depth=32, blocks=4): 0.85,
}
# Rows are filters (patches in the gradient by the input), columns patches or taps. Fully connected
# layers of a patch net are small for a device, and small tiles keep more of it busy. The tiles of
# one warp load much for each multiply-add: the L2 cache gives 7 words a clock to each
# multiprocessor, enough for a share of 5.5% * height * width / (height + width).
MATRIX_TILES = {
    Tile(1, 1, (1, 32), (1, 1), depth=32, blocks=16): 0.05,  # one class
    Tile(1, 1, (2, 16), (1, 1), depth=32, blocks=16): 0.10,  # other classes, and 16 patches
    Tile(2, 2, (2, 16), (1, 1), depth=32, blocks=16): 0.20,  # classes for many patches
    Tile(4, 4, (4, 8), (2, 1), depth=16, blocks=10): 0.75,
    Tile(8, 8, (4, 8), (2, 1), depth=16, blocks=6): 0.87,
    Tile(8, 16, (4, 8), (4, 1), blocks=2): 0.89,
}
TILES = {"map": MAP_TILES, "weights": WEIGHT_TILES, "matrix": MATRIX_TILES}
# For the simulator, on which threads and barriers are slow
SIMULATED_TILES = {
    "map": Tile(4, 32, (1, 2), (1, 1), depth=4),
    "weights": Tile(4, 4, (1, 4), (1, 1), depth=4),
    "matrix": Tile(4, 4, (1, 4), (1, 1), depth=4),
}

# The largest share of a tile's multiply-adds that may be wasted, for few classes too
MOST_WASTED = 1 / 3
# Resident warps per multiprocessor needed to hide latency
WARPS = {"map": LATENCY_HIDING_WARPS, "weights": LATENCY_HIDING_WARPS, "matrix": BUSY_WARPS}
# The most sums of a thread, and elements of a slice, for which registers and shared memory suffice
# in float64, which takes twice as much of both
MOST_DOUBLE_SUMS, LONGEST_DOUBLE_SLICE = 32, 2560


def product_of(direction: str, shape: ConvolutionShape) -> tuple[str, int, int]:
    """The matrix of sums that a direction computes: the first arguments of ``choose_tile``.

    Args:
        direction: ``forward``, ``gradient_input`` or ``gradient_weights``.
    """
    match direction:
        case "forward" if shape.covers_map:
            return "matrix", shape.filters, shape.batch
        case "forward":
            return "map", shape.filters, shape.batch * prod(shape.output)
        case "gradient_input" if shape.covers_map:
            return "matrix", shape.batch, shape.taps
        case "gradient_input":
            return "map", shape.channels, shape.batch * prod(shape.size)
        case "gradient_weights":
            return "matrix" if shape.covers_map else "weights", shape.filters, shape.taps


def choose_tile(table: str, rows: int, columns: int, itemsize: int) -> Tile:
    """The tile for a matrix of rows x columns sums: the fastest as measured here, else as modelled.

    Args:
        table: ``map``, ``weights`` (whose tiles are shared out over many blocks) or ``matrix``.
        rows, columns: extents of the matrix.
        itemsize: bytes of an element.
    """
    if SMALL_BLOCKS:
        return SIMULATED_TILES[table]
    device = multiprocessors()
    measured = measured_tile(table, rows, columns, itemsize)
    if measured in tiles_on(device, table):
        return measured
    return modelled_tile(table, rows, columns, itemsize, device)


def tiles_on(device: Multiprocessors, table: str) -> dict[Tile, float]:
    """The tiles of a table for a device, and the share of its peak that each should reach.

    Slices of the gradient by the weights are the deepest that leave room for a tile's blocks in a
    multiprocessor's shared memory. With few warps on a multiprocessor, a tile reaches less.
    """
    if table != "weights":
        return TILES[table]
    fitted = {}
    for tile, share in TILES[table].items():
        tile = cuda_pixel_tile.fitted(tile, device.shared_bytes)
        blocks = min(tile.blocks, cuda_pixel_tile.blocks_with_room(tile, device.shared_bytes))
        fitted[tile] = share * blocks / _relative_time(tile, blocks, WARPS[table])
    return fitted


def _relative_time(tile: Tile, blocks: int, warps: int) -> float:
    """The time of ``blocks`` that are on a multiprocessor at once, that of one among many being 1.

    Below ``warps`` resident warps the time does not fall further.
    """
    return max(blocks, warps / tile.warp_count)


@cache
def modelled_tile(
    table: str, rows: int, columns: int, itemsize: int, device: Multiprocessors = RECORDED
) -> Tile:
    """The tile that should use most of a device; arguments as ``choose_tile``.

    The multiprocessor that gets most blocks decides. It has as many at once as the tile promises;
    the others are idle while it computes its last, which are few. A tile that wastes more than
    ``MOST_WASTED`` of its multiply-adds is chosen only if all do.
    """
    tiles = tiles_on(device, table)

    def fitness(tile):
        blocks = ceil_division(rows, tile.height) * ceil_division(columns, tile.width)
        used = rows * columns / (blocks * tile.height * tile.width)
        filled = 1.0
        if table != "weights":  # whose blocks share out the pixels, too
            full, rest = divmod(ceil_division(blocks, device.count), tile.blocks)
            turns = full * _relative_time(tile, tile.blocks, WARPS[table])
            turns += _relative_time(tile, rest, WARPS[table]) if rest else 0
            filled = blocks / device.count / turns
        return used >= 1 - MOST_WASTED, tiles[tile] * used * filled

    def fits(tile):
        few = tile.rows * tile.columns <= MOST_DOUBLE_SUMS
        return few and tile.depth * (tile.height + tile.width) <= LONGEST_DOUBLE_SLICE

    return max((t for t in tiles if itemsize == 4 or fits(t)), key=fitness)
