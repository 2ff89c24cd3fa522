"""What is planned for a pass on a device covers what its arrays take, on one that does nothing."""

import numpy as np
import pytest

from kernels.backends import Backend
from kernels.device import pool
from net import Dense, planning, zoo
from net.needed_pass import NeededPass

LABELLED = (150, 170)
SMALL = 2**20
"""Bytes: tables of offsets, sums of normalisations, and weights packed for whole tiles."""


@pytest.fixture
def taken(device, monkeypatch):
    """By call, the bytes that arrays took of the pool, after each allocation."""
    seen, allocate = [], pool.Pool._memory

    def noted(self, nbytes, stream):
        memory = allocate(self, nbytes, stream)
        seen.append(sum(segment.nbytes - segment.free_bytes() for segment in self._segments))
        return memory

    monkeypatch.setattr(pool.Pool, "_memory", noted)
    return seen


def on_device(name):
    net = zoo.build(name, backend="cpu")
    net.backend = Backend("cuda")
    for key, array in net.parameters.items():
        net.parameters[key] = net.backend.memory.empty(array.shape, array.dtype)
    return net


def image_of(net):
    return np.zeros((net.channels, *(n + p - 1 for n, p in zip(LABELLED, net.patch))), net.dtype)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_passes_over_whole_images(name, taken):
    net = on_device(name)
    dense, image, before = Dense(net), image_of(net), taken[-1]
    error = np.zeros((net.output.channels, *LABELLED), net.dtype)
    for peak_bytes, run in (
        (planning.forward_bytes, lambda: dense.forward(image)),
        (planning.gradients_bytes, lambda: dense.gradients(image, error)),
    ):
        taken.clear()
        run()
        planned = peak_bytes(dense.program, "valid", LABELLED)
        assert 0.5 * planned < max(taken) - before <= planned + SMALL


@pytest.mark.parametrize("name", zoo.ZOO)
def test_passes_over_lists(name, taken):
    net = on_device(name)
    pixels = np.argwhere(np.eye(*LABELLED, dtype=bool))[::4]
    before = taken[-1]
    some = NeededPass(net, "valid", pixels)
    taken.clear()
    some.program.forward(some.enter(image_of(net)))
    assert max(taken) - before <= some.planned_bytes() + SMALL
