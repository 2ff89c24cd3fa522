"""Passes over lists take no more memory than the dense form, by their plans."""

import numpy as np
import pytest

from experiments.inputs.strokes import chosen_pixels
from net import Dense, planning
from net.chosen import Chosen
from net.program import Program
from net.zoo import ZOO, build


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
