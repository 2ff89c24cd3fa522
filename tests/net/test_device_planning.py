"""What is planned for a pass on a device covers what its arrays take, on one that does nothing."""

import numpy as np
import pytest

from kernels.backends import Backend
from kernels.convolution import PARTIAL_BYTES
from kernels.device import pool
from net import Dense, planning, zoo
from net.needed_pass import NeededPass

LABELLED = (150, 170)
SMALL = 2**20
"""Bytes: tables of offsets, sums of normalisations, and weights packed for whole tiles."""


@pytest.fixture
def taken(device, monkeypatch):
    """After each allocation, the bytes that arrays take of the pool."""
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
    for arrays in (net.parameters, net.statistics):
        for key, array in arrays.items():
            arrays[key] = net.backend.memory.empty(array.shape, array.dtype)
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
        planned, measured = peak_bytes(dense.program, "valid", LABELLED), max(taken) - before
        assert measured <= planned + SMALL
        assert planned <= 1.1 * measured + PARTIAL_BYTES


@pytest.mark.parametrize("name", zoo.ZOO)
def test_passes_over_lists(name, taken):
    net = on_device(name)
    pixels = np.argwhere(np.eye(*LABELLED, dtype=bool))[::4]
    some = NeededPass(net, "valid", pixels)
    program, x = some.program, some.enter(image_of(net))
    net.backend.memory.empty((1,), "float32")
    before = taken[-1] - x.nbytes
    taken.clear()
    _, tape = program.forward(x, keep=True)
    del x
    forward = max(taken) - before
    program.backward(tape, some.errors(np.zeros((net.output.channels, len(pixels)), net.dtype)))
    assert forward <= some.planned_bytes(keep=True) + SMALL
    assert max(taken) - before <= some.planned_bytes(keep=True) + SMALL
