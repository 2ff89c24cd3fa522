"""Regions follow from memory, the storage's chunks, and what halos cost."""

import tracemalloc

import numpy as np
import pytest

from kernels.host import limits
from net import zoo
from net.large import layouts
from net.large.layouts import chosen, memory_bytes, region_bytes
from net.large.sources import Source
from net.large.work import Labeller, Work

SIZE = (40_000, 30_000)
NETS = {name: zoo.build(name, backend="reference") for name in ("lenet28", "plain133")}


def source(net, chunks=(256, 256)):
    array = np.broadcast_to(np.uint8(0), (net.channels, *SIZE))
    return Source(array, (0, 1, 2), net.channels, chunks)


@pytest.mark.parametrize("name", NETS)
def test_little_is_wasted_where_memory_allows(name):
    net = NETS[name]
    layout = chosen(net, source(net), None, 4 * 10**9)
    assert layout.wasted < 0.15
    assert layout.peak_bytes <= 4 * 10**9


@pytest.mark.parametrize("name", NETS)
def test_less_memory_takes_smaller_regions_that_waste_more(name):
    net, wasted = NETS[name], []
    for memory in (3 * 10**8, 10**9, 3 * 10**9):
        layout = chosen(net, source(net), None, memory)
        assert layout.peak_bytes <= memory
        assert region_bytes(net, source(net), layout.grid.region, None) == layout.peak_bytes
        wasted.append(layout.wasted)
    assert wasted == sorted(wasted, reverse=True)


def test_strips_make_regions_wide():
    net = NETS["lenet28"]
    strips = chosen(net, source(net, (16, SIZE[1])), None, 10**9).grid.region
    tiles = chosen(net, source(net), None, 10**9).grid.region
    assert strips[1] / strips[0] > tiles[1] / tiles[0]


@pytest.mark.cpu
@pytest.mark.parametrize("share", [0.02, 0.8, 1.0])
def test_the_plan_holds_where_a_mask_chooses(share):
    net = zoo.build("lenet28", backend="cpu")
    image = Source(np.zeros((1, 256, 384), np.uint8), (0, 1, 2), 1)
    wanted = np.zeros((256, 384), bool)
    wanted[:, : int(192 * share)] = wanted[:, 192 : 192 + int(192 * share)] = True
    where = Source(wanted, (None, 0, 1), 1)
    layout = layouts.layout(net, image, (128, 192), "float16", where)
    work = Work(Labeller(net, "reflect", "float16"), layout.grid, image, where, ())
    work.label(layout.grid[0], work.take(layout.grid[0]))  # compiles
    tracemalloc.start()
    behind, ahead = work.label(layout.grid[1], work.take(layout.grid[1])), work.take(layout.grid[2])
    assert work.label(layout.grid[3], work.take(layout.grid[3]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del behind, ahead
    without = layouts.region_bytes(net, image, (128, 192), "float16")
    assert max(peak, without) < layout.peak_bytes < 1.5 * without


def test_what_does_not_fit_is_refused():
    net = NETS["plain133"]
    with pytest.raises(MemoryError, match=r"64 x 64 pixels takes .* GB beside .* leaves 0.2 GB"):
        chosen(net, source(net), None, 10**6)


def test_memory():
    assert memory_bytes("400 MiB", 10**6) == 400 * 2**20 - 10**6 - layouts.RESERVE
    assert memory_bytes(10**8) == 10**8 - layouts.RESERVE
    free = limits.free_pages()
    if free is not None:
        assert memory_bytes(None) < free
        assert memory_bytes("1000 TB") < 2 * free
