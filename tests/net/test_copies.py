"""Nets, and all that runs them, pickled and copied: the same bits, and nothing shared."""

import copy
import pickle

import numpy as np
import pytest

from net import Dense, Net, Scan
from net.layers import BatchNorm, Convolution, Dropout, FullyConnected, MaxPool, Tanh
from net.learning.optimizers import Adam, Cosine
from net.learning.training import Trainer
from tests.net.nets import randomized

WAYS = {
    "pickle": lambda what: pickle.loads(pickle.dumps(what)),
    "pickle, protocol 2": lambda what: pickle.loads(pickle.dumps(what, protocol=2)),
    "deepcopy": copy.deepcopy,
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def copied(request):
    return request.param


@pytest.fixture
def net(any_backend):
    layers = [
        *(Convolution(3, (2, 3)), BatchNorm(), Tanh(), MaxPool(2), Dropout(0.5)),
        FullyConnected(3),
    ]
    return randomized(Net(layers, channels=2, patch=(5, 6), backend=any_backend.name))


@pytest.fixture
def image(rng):
    return rng.standard_normal((2, 8, 7), np.float32)


def test_net(net, image, copied):
    other = copied(net)
    assert other is not net
    assert other.backend is net.backend
    assert (other.layers, other.patch, other.dtype) == (net.layers, net.patch, net.dtype)
    expected = Dense(net).forward(image)
    assert Dense(other).forward(image).tobytes() == expected.tobytes()
    other.load_state({name: array + 1 for name, array in other.state().items()})
    assert Dense(net).forward(image).tobytes() == expected.tobytes()
    assert Dense(other).forward(image).tobytes() != expected.tobytes()


@pytest.mark.parametrize("form", [Dense, Scan])
def test_forms(net, image, copied, form):
    one = form(net, border="reflect")
    other = copied(one)
    assert other.forward(image).tobytes() == one.forward(image).tobytes()
    error = np.ones(one.forward(image).shape, net.dtype)
    one, other = one.gradients(image, error), other.gradients(image, error)
    assert {n: g.tobytes() for n, g in other.parameters.items()} == {
        n: g.tobytes() for n, g in one.parameters.items()
    }


def test_trainer_goes_on_from_where_it_was(net, image, rng, copied):
    trainer = Trainer(net, Adam(Cosine(0.1, 9)), seed=3)
    labels = rng.integers(0, 3, image.shape[1:])
    everywhere = np.ones(labels.shape, bool)
    trainer.step(image, labels, everywhere)
    other = copied(trainer)
    assert other.net is other.dense.net is other.scan.net is not net
    losses = [[t.step(image, labels, everywhere) for _ in range(2)] for t in (trainer, other)]
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]
    state, others = trainer.net.state(), other.net.state()
    assert all(others[name].tobytes() == array.tobytes() for name, array in state.items())
