"""Memory told before a pass, against what the allocator hands out; and when it is too short."""

import gc

import numpy as np
import pytest

from kernels.memory import cpu as memory
from kernels.memory.gaps import PAGE
from net import Dense, Net, zoo
from net.layers import Add, BatchNorm, Convolution, Dropout, FullyConnected, MaxPool, ReLU, Tanh
from net.planning import fitting_side, peak_bytes

BRANCHED = [
    Convolution(6, 3, name="a"),
    BatchNorm(),
    ReLU(name="r"),
    Convolution(6, 3, inputs=("r",), name="b"),
    Tanh(name="t"),
    Convolution(6, 3, inputs=("r",), name="c"),
    Add(inputs=("t", "c")),
    Dropout(0.5),
    MaxPool(2),
    FullyConnected(3),
]
NETS = {
    "lenet28": lambda: zoo.build("lenet28", backend="cpu"),
    "featurenet31": lambda: zoo.build("featurenet31", backend="cpu"),
    "strided67": lambda: zoo.build("strided67", backend="cpu"),
    "branched": lambda: Net(BRANCHED, channels=2, patch=12, backend="cpu"),
}


@pytest.fixture
def addresses_taken(monkeypatch):
    """Calls a function and gives the bytes of addresses that its arrays took, gaps included."""
    monkeypatch.setattr(memory, "SMALLEST", PAGE)
    store = memory._Store()
    monkeypatch.setattr(memory, "_store", store)

    def measure(call):
        gc.collect()
        assert store.kept_bytes() == store.gaps.used
        store.gaps.used = 0
        call()
        return store.gaps.used

    return measure


@pytest.mark.cpu
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_is_what_the_allocator_hands_out(name, backward, addresses_taken):
    net = NETS[name]()
    program, labelled = Dense(net).program, (70, 85)
    size = [n + r - 1 for n, r in zip(labelled, net.receptive_field)]

    def run():
        x = memory.zeros((1, net.channels, *size), "float32")
        if not backward:
            program.forward(x)
            return
        scores, tape = program.forward(x, keep=True)
        error = memory.zeros(scores.shape, "float32")
        del scores
        program.backward(tape, error)

    run()  # packed weights and other small things are compiled and made
    planned = peak_bytes(net, labelled, backward=backward)
    assert 0.95 * planned <= addresses_taken(run) <= 1.1 * planned


def test_side_that_fits():
    net = zoo.build("n4", backend="reference")
    side = fitting_side(net, 10**9, backward=True)
    assert peak_bytes(net, (side, side), backward=True) <= 10**9
    assert peak_bytes(net, (side + 1, side + 1), backward=True) > 10**9
    assert fitting_side(net, 1000, backward=False) == 0


@pytest.mark.cpu
def test_too_little_memory(monkeypatch):
    net = zoo.build("lenet28", backend="cpu")
    dense, image = Dense(net), np.zeros((1, 127, 127), np.float32)
    monkeypatch.setattr(memory, "free_bytes", lambda: 3 * 10**6)
    side = fitting_side(net, 3 * 10**6, backward=False)
    text = rf"labelling 100 x 100 pixels takes .* GB, 0.003 GB are free; {side} x {side} pixels"
    with pytest.raises(MemoryError, match=text + rf" would fit, or predict\(image, tile={side}\)"):
        dense.forward(image)
    with pytest.raises(MemoryError, match="pixels and learning takes"):
        dense.gradients(image, np.zeros((10, 100, 100), np.float32))
    dense.predict(image, tile=side)


@pytest.mark.cpu
@pytest.mark.parametrize("border", ["valid", "reflect"])
def test_tiles_are_the_same_bits(border, rng):
    dense = Dense(zoo.build("strided67", backend="cpu"), border)
    image = rng.random((3, 100, 91), np.float32)
    whole = dense.predict(image)
    for tile in (1000, 33, 20):
        for one, other in zip(whole, dense.predict(image, tile=tile)):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="tile is 0; expected an int of at least 1"):
        dense.predict(image, tile=0)
