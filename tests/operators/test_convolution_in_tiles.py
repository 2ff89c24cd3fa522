"""The device's convolutions in tiles of every shape."""

import pytest

from kernels import get_backend
from kernels.convolution.cuda_pixel_tile import steps_of_turn
from kernels.convolution.cuda_tile import Tile
from kernels.convolution.cuda_tiles import TILES
from tests.comparison import REFERENCE, call, operator, relative_difference
from tests.operators.convolutions import FUNCTIONS, TOLERANCES, ConvolutionCase

TABLES = {"map": FUNCTIONS[:2], "weights": FUNCTIONS[2:], "matrix": FUNCTIONS}
TINY_TILES = {
    "two-warps-high": Tile(4, 4, (1, 2), (2, 1), depth=4),
    "two-warps-wide": Tile(4, 4, (1, 2), (1, 2), depth=4),
    "six-rows": Tile(6, 4, (1, 4), (1, 1), depth=4),
}
# A slice takes two turns of the main loop: rows in fours, unevenly shared out, and rows in twos
TINY_TILES_IN_TURNS = {
    "twenty-rows": Tile(20, 16, (1, 4), (1, 1), depth=4),
    "eighteen-rows": Tile(18, 16, (1, 4), (1, 1), depth=4),
}
TINY = [(table, tile) for table in TABLES for tile in TINY_TILES]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("table", "tile"),
    [(table, tile) for table, tiles in TILES.items() for tile in tiles],
    ids=lambda v: f"{v.height}x{v.width}x{v.depth}" if isinstance(v, Tile) else v,
)
def test_every_tile_of_the_device(rng, table, tile):
    cases = [
        ConvolutionCase((2, 3, 17, 45), 37, (3, 2), stride=(1, 2), dilation=(4, 3)),
        ConvolutionCase((2, 37, 9, 31), 45, (1, 1)),
    ]
    if table == "matrix":
        cases = [
            ConvolutionCase((35, 5, 4, 3), 37, (4, 3)),
            ConvolutionCase((100, 7, 4, 4), 108, (4, 4)),
        ]
    for case in cases:
        check_tile(get_backend("cuda"), rng, case, table, tile)


@pytest.mark.simulator
@pytest.mark.parametrize(("table", "tile"), TINY)
def test_tiles_of_the_simulator(rng, table, tile):
    case = ConvolutionCase((2, 2, 6, 5), 5, (2, 2), stride=(2, 1), dilation=(1, 2))
    if table == "matrix":
        case = ConvolutionCase((13, 2, 2, 3), 14, (2, 3))
    check_tile(get_backend("simulator"), rng, case, table, TINY_TILES[tile])


@pytest.mark.simulator
@pytest.mark.parametrize("steps", [3, 6, 8])
@pytest.mark.parametrize("rows", [2, 4])
def test_tiles_of_1x1_windows(rng, rows, steps):
    """Less than a slice, slices and a rest, whole slices; weights one by one, and by fours."""
    tile = Tile(rows, 4, (1, 2), (1, 1), depth=4)
    case = ConvolutionCase((2, steps, 3, 5), steps + 1, (1, 1))
    check_tile(get_backend("simulator"), rng, case, "map", tile)


@pytest.mark.simulator
@pytest.mark.parametrize("tile", TINY_TILES_IN_TURNS)
def test_slices_that_take_turns(rng, tile):
    tile = TINY_TILES_IN_TURNS[tile]
    assert steps_of_turn(tile) == tile.depth // 2
    case = ConvolutionCase((1, 4, 6, 7), 23, (3, 3), dilation=(1, 2))
    check_tile(get_backend("simulator"), rng, case, "weights", tile)


@pytest.mark.simulator
@pytest.mark.parametrize("sums", [(6, 8), (4, 3)], ids=["12 x 32", "8 x 12"])
def test_a_tile_whose_threads_cannot_share_a_step_is_refused(rng, sums):
    tile = Tile(*sums, (1, 4), (2, 1), depth=4)
    case = ConvolutionCase((1, 2, 6, 5), 5, (2, 2))
    with pytest.raises(ValueError, match="expected rows and columns by 8"):
        check_tile(get_backend("simulator"), rng, case, "weights", tile)


def check_tile(backend, rng, case, table, tile):
    """Only the gradient by the weights may depend on the tile, in its last bits."""
    operands = case.operands(rng, "float32")
    for function in TABLES[table]:
        name, *arguments = case.call(function, **operands)
        expected = operator(REFERENCE, name)(*arguments, **case.options)
        tiled = call(backend, name, *arguments, **case.options, tile=tile)
        assert relative_difference(tiled, expected) <= TOLERANCES[function]["float32"]
        if function != "gradient_weights":
            untiled = call(backend, name, *arguments, **case.options)
            assert tiled.tobytes() == untiled.tobytes()
