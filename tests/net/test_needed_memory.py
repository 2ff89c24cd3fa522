"""Passes over lists take no more memory than the dense form, by their plans."""

import numba
import numpy as np
import pytest

from experiments.inputs.strokes import chosen_pixels
from net import Dense, Net, needed_pass, planning
from net.chosen import Chosen
from net.layers import Convolution, FullyConnected, Tanh
from net.program import Program
from net.zoo import ZOO, build
from tests.net.test_planning import Taken


@pytest.mark.parametrize("drawn", ["random", "scribbles"])
@pytest.mark.parametrize("name", ZOO)
def test_lists_take_no_more_memory_than_whole_maps(name, drawn):
    """With lists and tables, forward and with gradients, wherever a pass runs over lists."""
    net, size = build(name, backend="cpu"), (64, 64) if name == "greentea102" else (256, 256)
    dense = Dense(net, "zero")
    whole = Program(net, "dense")
    by_lists = 0
    for count in (50, 200, 500, 800, 1000, 1500, 2500, 6000):
        mask = np.zeros(size, bool)
        mask[*chosen_pixels(drawn, size, count, count).T] = True
        some = dense.needed.over(Chosen(size, mask))
        if some is not None:
            by_lists += 1
            forward, both = (some.table_bytes + some.planned_bytes(keep=k) for k in (False, True))
            assert forward <= planning.forward_bytes(whole, "zero", size)
            assert both <= planning.gradients_bytes(whole, "zero", size)
    assert by_lists > 2


@pytest.mark.cpu
def test_the_order_in_which_large_arrays_are_made_is_planned(monkeypatch):
    """A layer's gradient, partial sums and packed weights take as much as each other: in another
    order, one of them would not fit into the gap that the one before has left."""
    layers = [Convolution(16, 3), Tanh(), Convolution(1024, 9), FullyConnected(2)]
    net = Net(layers, channels=1, patch=11, seed=0, backend="cpu")
    monkeypatch.setattr(needed_pass, "COST", dict.fromkeys(needed_pass.COST, 0))
    size = (400, 400)
    mask = np.zeros(size, bool)
    mask[*chosen_pixels("random", size, 250, 0).T] = True
    image, error = np.ones((1, *size), np.float32), np.ones((2, *size), np.float32)
    dense = Dense(net, "zero")
    dense.gradients(image, error, mask)
    with monkeypatch.context() as alone:
        alone.setattr(numba, "get_num_threads", lambda: 0)
        planned = dense.needed.over(Chosen(size, mask)).planned_bytes(keep=True)
    taken = Taken(monkeypatch)
    measured = taken.by(lambda: dense.gradients(image, error, mask))
    assert abs(planned - measured) <= 0.05 * measured
