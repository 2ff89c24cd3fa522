"""Which way a pass over chosen pixels takes depends on mask, net and sizes alone: neither on what
memory is free nor on the number of threads. So gradients have the same bits wherever they run."""

from bisect import bisect_left

import numba
import numpy as np
import pytest

from experiments.inputs.strokes import chosen_pixels
from kernels.memory import cpu as memory
from net import Dense, Net, free_memory
from net.chosen import Chosen
from net.layers import Convolution, Dropout, FullyConnected, MaxPool, ReLU
from net.needed_pass import NeededPass
from net.patches_pass import PatchesPass
from net.zoo import ZOO, build
from tests.net.forms import random_error
from tests.net.nets import random_image, randomized

pytestmark = pytest.mark.cpu

DROPPING = [Convolution(24, 5), ReLU(), Dropout(0.5), MaxPool(2), FullyConnected(2)]
FREE_AND_THREADS = [(2**60, 1), (0, 2), (10**6, 64), (2 * 10**7, 3), (None, 7)]
"""Free memory in bytes (None where nothing tells), and numbers of threads."""
LISTS, PATCHES, DENSE = NeededPass, PatchesPass, type(None)


def net_of(name):
    """Made anew: plans are remembered with a net."""
    if name == "dropping":
        return Net(DROPPING, channels=3, patch=12, backend="cpu")
    return build(name, backend="cpu")


def mask_of(size, count):
    """One with more pixels has those of one with fewer."""
    mask = np.zeros(size, bool)
    mask[*chosen_pixels("random", size, count, 0).T] = True
    return mask


def way(dense, size, count):
    return type(dense.needed.over(Chosen(size, mask_of(size, count))))


def numbers_around_the_limits(dense, size):
    """Numbers of pixels: the last that is taken patch by patch, the last over lists, and the next
    ones, where a little more memory or less would count most; if there are such."""
    numbers = range(1, size[0] * size[1] + 1)
    limits = {
        bisect_left(numbers, True, key=lambda count: way(dense, size, count) is not PATCHES),
        bisect_left(numbers, True, key=lambda count: way(dense, size, count) is DENSE),
    }
    return sorted({max(1, limit + next_one) for limit in limits for next_one in (0, 1)})


@pytest.mark.parametrize("size", [(48, 48), (128, 128)])
@pytest.mark.parametrize("name", [*ZOO, "dropping"])
def test_any_free_memory_and_number_of_threads_choose_alike(name, size, monkeypatch):
    ways = []
    for free, threads in FREE_AND_THREADS:
        dense = Dense(net_of(name), "zero")  # where there is room for its parameters
        with monkeypatch.context() as patch:
            patch.setattr(memory, "free_bytes", lambda free=free: free)
            patch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
            numbers = numbers_around_the_limits(dense, size)
            ways.append({count: way(dense, size, count) for count in numbers})
    assert ways == ways[:1] * len(ways)
    assert {LISTS, DENSE} <= set(ways[0].values())
    few = name in ("dropping", "n4", "featurenet61")  # whose patches share cells, or cannot be
    assert few or PATCHES in ways[0].values()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="Numba has one thread here")
@pytest.mark.parametrize("name", ["rcnn25", "strided67", "featurenet31", "dropping"])
def test_gradients_have_the_same_bits_on_one_thread_and_on_two(name, monkeypatch):
    """On the way that is chosen: each of the three."""
    size, most, ways = (48, 48), numba.get_num_threads(), set()
    numbers = numbers_around_the_limits(Dense(net_of(name), "zero"), size)
    for count in numbers:
        mask, bits = mask_of(size, count), []
        for threads, free in ((1, None), (2, 2**60)):
            monkeypatch.setattr(memory, "free_bytes", lambda free=free: free)
            dense = Dense(randomized(net_of(name)), "zero")
            error = random_error(dense.net, np.empty((mask.size, 2)))
            error = np.ascontiguousarray(error.T).reshape(-1, *size)
            numba.set_num_threads(threads)
            try:
                gradients = dense.gradients(random_image(dense.net, size), error, mask).parameters
            finally:
                numba.set_num_threads(most)
            assert all(gradient.any() for gradient in gradients.values())
            bits.append({name: gradient.tobytes() for name, gradient in gradients.items()})
            ways.add(way(dense, size, count))
        assert bits[0] == bits[1], count
    assert ways == {LISTS, DENSE} | ({PATCHES} if name != "dropping" else set())


@pytest.mark.parametrize("name", ["rcnn25", "strided67"])
def test_a_pass_that_does_not_fit_takes_no_other_way(name, monkeypatch):
    """It is refused on the way that it takes where memory is free."""
    dense, size = Dense(net_of(name), "zero"), (48, 48)
    image, error = random_image(dense.net, size), np.ones((dense.net.output.channels, *size), "f4")
    numbers = numbers_around_the_limits(dense, size)
    ways, other = [way(dense, size, count) for count in numbers], Dense(net_of(name), "zero")
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    monkeypatch.setattr(free_memory, "SMALLEST", 1)
    for count, taken in zip(numbers, ways, strict=True):
        labelled = "48 x 48" if taken is DENSE else count
        with pytest.raises(MemoryError, match=f"^labelling {labelled} pixels and learning takes"):
            other.gradients(image, error, mask_of(size, count))
