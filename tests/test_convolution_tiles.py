"""The multiply-adds that the device's tiles add to those of a layer, counted from the tables."""

from functools import cache
from math import prod

import pytest

from kernels.convolution.cuda import TILES, modelled_tile
from kernels.device.limits import ceil_division
from net import zoo

PIXELS = 256 * 256


def padded_share(table, rows, columns):
    """Multiply-adds of whole tiles for each one that is asked for."""
    tile = modelled_tile(table, rows, columns, 4)
    padded = ceil_division(rows, tile.height) * tile.height
    return padded * ceil_division(columns, tile.width) * tile.width / (rows * columns)


def padded_shares(filters, channels, taps):
    """The same for the three convolutions of a layer: their steps are not filled up."""
    return (
        padded_share("map", filters, PIXELS),
        padded_share("map", channels, PIXELS),
        padded_share("weights", filters, channels * taps),
    )


def padded_shares_of_patches(filters, features, batch):
    """The same for a fully connected layer of a patch net."""
    return (
        padded_share("matrix", filters, batch),
        padded_share("matrix", batch, features),
        padded_share("matrix", filters, features),
    )


@cache
def layers(name):
    """{(filters, channels, taps)} of a net's dense form."""
    net = zoo.build(name)
    shapes = [w.shape for w in net.parameters.values() if w.ndim == 4]
    return {(k, c, prod(kernel)) for k, c, *kernel in shapes}


@pytest.mark.parametrize("name", zoo.ZOO)
def test_few_channels_waste_at_most_a_third(name):
    few = [layer for layer in layers(name) if layer[0] <= 10 or layer[1] <= 3]
    # The image's, and that of the classes where there are few: authors133 has 32
    assert len(few) >= (1 if name == "authors133" else 2)
    for layer in few:
        assert max(padded_shares(*layer)) <= 1.5, layer


@pytest.mark.parametrize("classes", range(2, 11))
@pytest.mark.parametrize("features", [32, 50, 200, 500])
def test_few_classes_waste_at_most_a_third(classes, features):
    assert max(padded_shares(classes, features, 1)) <= 1.5
    for batch in (16, 64, 256, 4096, 65536):
        assert max(padded_shares_of_patches(classes, features, batch)) <= 1.5, batch


def test_a_tile_that_wastes_more_is_chosen_where_all_do():
    assert padded_share("matrix", 1, 1) > 1.5


@pytest.mark.parametrize("name", zoo.ZOO)
def test_no_layer_wastes_more_than_half(name):
    for layer in layers(name):
        assert max(padded_shares(*layer)) <= 2, layer


def test_tiles_are_told_apart_by_their_shape():
    for tiles in TILES.values():
        assert len({(t.height, t.width, t.depth) for t in tiles}) == len(tiles)
