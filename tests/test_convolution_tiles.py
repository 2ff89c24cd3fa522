"""The multiply-adds of whole tiles that a layer wastes, counted from the tables."""

from functools import cache
from math import prod

import pytest

from experiments.profiling import calls, roofline
from experiments.profiling.bounds import BOUNDS, FEW_CLASSES
from experiments.profiling.devices import LIMITS
from experiments.profiling.operators import OperatorCase
from kernels.convolution.cuda_pixel_tile import blocks_with_room
from kernels.convolution.cuda_tiles import TILES, WARPS, modelled_tile, tiles_on
from kernels.device.limits import (
    ELEMENTWISE_THREADS,
    RESIDENT_BLOCKS,
    ceil_division,
    threads_of_spread,
)
from kernels.device.multiprocessors import RECORDED, Multiprocessors
from net import zoo

PIXELS = 256 * 256
K40, V100, T4 = (Multiprocessors(n, kib * 1024) for n, kib in ((15, 48), (80, 96), (40, 64)))


def wasted_share(table, rows, columns):
    """Multiply-adds of whole tiles that are not asked for, of all that are done."""
    tile = modelled_tile(table, rows, columns, 4)
    blocks = ceil_division(rows, tile.height) * ceil_division(columns, tile.width)
    done = blocks * tile.height * tile.width
    return (done - rows * columns) / done


def wasted_shares(layer):
    """The same for the three convolutions of a layer: their steps are not filled up."""
    filters, channels = layer.filters, layer.shape[1]
    return (
        wasted_share("map", filters, PIXELS),
        wasted_share("map", channels, PIXELS),
        wasted_share("weights", filters, channels * prod(layer.kernel)),
    )


def wasted_shares_of_patches(filters, features, batch):
    """The same for a fully connected layer of a patch net."""
    return (
        wasted_share("matrix", filters, batch),
        wasted_share("matrix", batch, features),
        wasted_share("matrix", filters, features),
    )


@cache
def layers(name):
    """The convolutions of a net's dense form."""
    net = zoo.build(name)
    shapes = [w.shape for w in net.parameters.values() if w.ndim == 4]
    return {
        OperatorCase("convolution.forward", (1, c, *kernel), k, tuple(kernel))
        for k, c, *kernel in shapes
    }


@pytest.mark.parametrize("name", zoo.ZOO)
def test_few_channels_waste_at_most_a_third(name):
    few = [layer for layer in layers(name) if BOUNDS["waste"].applies(layer)]
    # The image's, and that of the classes where there are few: authors133 has 32
    assert len(few) >= (1 if name == "authors133" else 2)
    for layer in few:
        assert BOUNDS["waste"].holds(max(wasted_shares(layer))), layer


@pytest.mark.parametrize("classes", FEW_CLASSES)
@pytest.mark.parametrize("features", [32, 50, 200, 500])
def test_few_classes_waste_at_most_a_third(classes, features):
    layer = OperatorCase("convolution.forward", (1, features, 1, 1), classes)
    assert BOUNDS["waste"].holds(max(wasted_shares(layer)))
    for batch in (16, 64, 256, 4096, 65536):
        wasted = max(wasted_shares_of_patches(classes, features, batch))
        assert BOUNDS["waste"].holds(wasted), batch


def test_a_tile_that_wastes_more_is_chosen_where_all_do():
    assert not BOUNDS["waste"].holds(wasted_share("matrix", 1, 1))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_no_layer_wastes_more_than_half(name):
    for layer in layers(name):
        assert BOUNDS["waste, any"].holds(max(wasted_shares(layer))), layer


def test_tiles_are_told_apart_by_their_shape():
    for tiles in TILES.values():
        assert len({(t.height, t.width, t.depth) for t in tiles}) == len(tiles)


def test_slices_are_as_deep_as_shared_memory_allows():
    """Those of an H100 are not changed; what does not fit elsewhere becomes shallower, or less
    likely to be chosen."""
    assert list(tiles_on(RECORDED, "weights")) == list(TILES["weights"])
    depths = {}
    for device in (V100, T4, K40):
        fitted = tiles_on(device, "weights")
        depths[device] = [tile.depth for tile in fitted]
        for (tile, share), (whole, expected) in zip(fitted.items(), TILES["weights"].items()):
            assert (tile.height, tile.width) == (whole.height, whole.width)
            room = blocks_with_room(tile, device.shared_bytes)
            warps = min(room, tile.blocks) * tile.warp_count
            assert share == pytest.approx(expected * min(1, warps / WARPS["weights"]))
            assert room >= 1
        assert tiles_on(device, "map") is TILES["map"]
    assert all(a >= b >= c for a, b, c in zip(*depths.values()))
    (large,) = (i for i, t in enumerate(TILES["weights"]) if (t.height, t.width) == (64, 64))
    assert [depths[device][large] for device in (V100, T4, K40)] == [16, 8, 8]
    assert modelled_tile("weights", 64, 64 * 9, 4, T4).depth < 32


@pytest.mark.parametrize(
    ("table", "rows", "columns", "fastest"),
    [
        ("map", 64, 281**2, (64, 128, 16)),  # 1.64 times as fast as the model's choice before
        ("map", 64, 268**2, (64, 128, 16)),  # 1.66
        ("map", 48, 296**2, (48, 128, 16)),  # 1.29
        ("map", 48, 288**2, (48, 128, 16)),  # 1.59
        ("map", 50, 383**2, (56, 128, 8)),  # 1.38
        ("weights", 50, 50 * 9, (56, 64, 32)),  # 2.14
        ("weights", 32, 50 * 49, (32, 64, 32)),  # 1.40
        ("weights", 64, 64 * 9, (64, 64, 32)),
    ],
)
def test_the_model_chooses_what_an_h100_found_fastest(table, rows, columns, fastest):
    tile = modelled_tile(table, rows, columns, 4)
    assert (tile.height, tile.width, tile.depth) == fastest


@pytest.mark.parametrize("count", [15, 80, 132])
def test_a_tile_is_chosen_by_the_blocks_of_the_fullest_multiprocessor(count):
    device = Multiprocessors(count, RECORDED.shared_bytes)
    tile = modelled_tile("map", 64, 128 * count, 4, device)
    columns = tile.width * count * tile.blocks
    most = modelled_tile("map", tile.height, columns + 1, 4, device)
    blocks = ceil_division(tile.height, most.height) * ceil_division(columns + 1, most.width)
    idle = 1 - blocks / (count * ceil_division(blocks, count))
    assert BOUNDS["idle, wave"].holds(idle)


def test_launches_leave_multiprocessors_idle_in_their_last_wave():
    """One wave and a block: of two waves of 10 multiprocessors 9 tenths of the second."""
    call = calls.of_case(OperatorCase("convolution.forward", (1, 6, 4, 2 + 256 * 11), 8, (1, 3)))
    (multiplying,) = (one for one in call.launches if roofline.executed_multiply_adds(call, one))
    blocks = prod(multiplying.blocks)
    waves = ceil_division(blocks, 10)
    done, taken = [], []
    for launch in call.launches:
        work = roofline.executed_multiply_adds(call, launch)
        done.append(work or roofline.MULTIPLY_ADDS_A_BYTE * roofline.compulsory_bytes(launch))
        count = prod(launch.blocks)
        taken.append(done[-1] * 10 * ceil_division(count, 10) / count)
    idle = [share for *_, share in roofline.idle_shares([call], 10)]
    assert idle == pytest.approx([(t - d) / sum(taken) for t, d in zip(taken, done)])
    (number,) = (n for n, one in enumerate(call.launches) if one is multiplying)
    of_its_time = idle[number] * sum(taken) / taken[number]
    assert of_its_time == pytest.approx(1 - blocks / (10 * waves))


@pytest.mark.parametrize("count", [16, 46, 80, 108, 128, 132, 170])
def test_few_long_threads_are_spread_over_all_multiprocessors(count):
    """The fullest gets its share of the warps, up to what a block's last warps leave."""
    for threads in (*range(1, 4000, 7), *range(4000, 300000, 4999)):
        block = threads_of_spread(threads, count)
        blocks, warps = ceil_division(threads, block), ceil_division(threads, 32)
        assert block in range(32, ELEMENTWISE_THREADS + 1, 32)
        assert blocks >= min(count, warps)
        of_fullest = ceil_division(blocks, count)
        assert of_fullest <= RESIDENT_BLOCKS or block == ELEMENTWISE_THREADS
        fewest = ceil_division(warps, count)
        assert of_fullest * block // 32 <= fewest * (1 + 1 / (RESIDENT_BLOCKS // 2))


def test_every_device_holds_the_blocks_of_a_spread_at_once():
    assert min(limits.blocks for limits in LIMITS.values()) == RESIDENT_BLOCKS


@pytest.mark.parametrize("module", ["convolution", "listed_convolution"])
def test_the_kernels_that_add_partial_sums_are_spread(module):
    """Of 500 weights to as many multiprocessors as they have warps."""
    case = OperatorCase(f"{module}.gradient_weights", (1, 1, 128, 128), 20, (5, 5))
    *_, adding = calls.of_case(case).launches
    assert adding.function.__name__ in ("add_partial", "add_listed_partial")
    assert (adding.blocks, adding.threads) == ((16, 1, 1), 32)
