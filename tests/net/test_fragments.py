"""Max-pooling fragments against the dense form: the same bits, and the same gradients."""

import numpy as np
import pytest

from net import Dense, Net, Scan
from net.fragments import Fragments
from net.layers import Add, Convolution, FullyConnected, MaxPool
from net.zoo import ZOO
from tests.net.cases import NAMED
from tests.net.forms import differences
from tests.net.nets import miniature, random_image, randomized, reduced

CHAINS = [
    "strides that leave remainders: R < p",
    "only the top left pixel is read",
    "spacings d_y != d_x",
    "a crop with four different margins",
    "a crop at the end",
    "global maximum",
    "global mean",
    "equal bins",
    "softmax at the end",
    "one pixel patches",
]


def check(net, size, border="valid"):
    image = random_image(net, size)
    dense, fragments = Dense(net, border), Fragments(net, border)
    scores = dense.forward(image)
    stitched = fragments.forward(image)
    assert stitched.shape == scores.shape
    limit = 1e-12 if net.dtype == "float64" else 1e-5
    assert np.array_equal(stitched, scores)
    error = np.random.default_rng(4).standard_normal(scores.shape).astype(net.dtype)
    expected = dense.gradients(image, error).parameters
    assert not differences(fragments.gradients(image, error).parameters, expected, above=limit)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zoo_nets(name, dtype, fast_backend):
    net = randomized(reduced(name, dtype=dtype, backend=fast_backend.name))
    check(net, tuple(p + more for p, more in zip(net.patch, (4, 17))))


@pytest.mark.simulator
@pytest.mark.parametrize("name", ["lenet28", "strided67"])
def test_zoo_nets_on_the_simulator(name):
    net = randomized(miniature(name, backend="simulator"))
    check(net, tuple(p + more for p, more in zip(net.patch, (1, 2))))


@pytest.mark.cpu
@pytest.mark.parametrize("name", CHAINS)
def test_odd_chains(name):
    case = NAMED[name]
    net = case.build("cpu", "float64")
    check(net, tuple(p + m for p, m in zip(net.patch, (5, 6))))


@pytest.mark.cpu
@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_borders(border):
    check(randomized(reduced("lenet28", dtype="float64", backend="cpu")), (33, 30), border)


@pytest.mark.cpu
def test_scores_are_those_of_scanning():
    net = randomized(reduced("strided67", backend="cpu"))
    image = random_image(net, (70, 73))
    scores = Fragments(net).forward(image)
    assert np.array_equal(scores.reshape(len(scores), -1).T, Scan(net).forward(image))


def test_a_net_that_branches_is_refused():
    layers = [
        Convolution(2, 2, name="a"),
        MaxPool(1, name="b"),
        Add(inputs=("a", "b")),
        FullyConnected(2),
    ]
    net = Net(layers, channels=1, patch=4, backend="reference")
    with pytest.raises(ValueError, match="expected a chain of layers"):
        Fragments(net)
