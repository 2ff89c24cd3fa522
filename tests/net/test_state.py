"""What a net owns: parameters that both forms share, initialised, saved, loaded and moved."""

import re

import numpy as np
import pytest

from net import Dense, Net, Scan
from net.layers import BatchNorm, Convolution, FullyConnected, ReLU
from net.zoo import build
from tests.net.nets import random_image, randomized


def small_net(backend="cpu", **options):
    layers = [
        Convolution(3, 3),
        BatchNorm(),
        ReLU(),
        Convolution(4, 1, bias=False),
        FullyConnected(2),
    ]
    return Net(layers, channels=1, patch=5, backend=backend, **options)


NAMES = [
    *("conv1.weights", "conv1.bias", "norm1.gamma", "norm1.beta", "conv2.weights"),
    *("fc1.weights", "fc1.bias", "norm1.mean", "norm1.variance"),
]


def all_scores(net, image):
    """By pixel, from both forms."""
    dense = Dense(net).forward(image)
    return dense.reshape(len(dense), -1).T, Scan(net).forward(image)


def assert_same_state(state, expected):
    assert state.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(state[name], expected[name])


@pytest.mark.cpu
class TestSharing:
    def test_a_change_in_place_changes_both_forms(self):
        net = randomized(small_net())
        image = random_image(net, (7, 8))
        dense, scan = Dense(net), Scan(net)
        before = dense.forward(image)
        net.parameters["fc1.bias"] += np.float32([1, 2])
        net.parameters["conv1.weights"][...] = 0
        zero_weights = dense.forward(image)
        assert (zero_weights != before).all()
        assert np.ptp(zero_weights, axis=(1, 2)).tolist() == [0, 0]
        np.testing.assert_array_equal(scan.forward(image), zero_weights.reshape(2, -1).T)

    def test_replacing_and_loading_change_both_forms(self):
        net, other = small_net(), randomized(small_net(seed=7))
        image = random_image(net, (7, 8))
        dense, scan = Dense(net), Scan(net)
        net.load_state(other.state())
        np.testing.assert_array_equal(dense.forward(image), Dense(other).forward(image))
        np.testing.assert_array_equal(scan.forward(image), Scan(other).forward(image))
        net.parameters = small_net().parameters
        net.statistics = small_net().statistics
        np.testing.assert_array_equal(dense.forward(image), Dense(small_net()).forward(image))

    def test_running_changes_neither_parameters_nor_input(self):
        net = randomized(small_net())
        image = random_image(net, (7, 8))
        before, pixels = net.state(), image.copy()
        error = np.ones((2, 3, 4), np.float32)
        Dense(net).gradients(image, error, image_gradient=True)
        Scan(net).gradients(image, error.reshape(2, -1).T, image_gradient=True)
        assert_same_state(net.state(), before)
        np.testing.assert_array_equal(image, pixels)
        np.testing.assert_array_equal(error, 1)


class TestState:
    def test_names(self):
        assert sorted(small_net("reference").state()) == sorted(NAMES)

    @pytest.mark.cpu
    def test_is_a_copy(self):
        net = small_net()
        before = {name: array.copy() for name, array in net.state().items()}
        for array in net.state().values():
            array += 1
        assert_same_state(net.state(), before)

    @pytest.mark.cpu
    def test_loading_copies(self):
        net, state = small_net(), randomized(small_net()).state()
        net.load_state(state)
        expected = {name: array.copy() for name, array in state.items()}
        for array in state.values():
            array += 1
        assert_same_state(net.state(), expected)

    def test_loading_converts(self, any_backend):
        net = small_net(any_backend.name, dtype="float32")
        state = {
            name: a.astype(float) + 1 / 3 for name, a in small_net("reference").state().items()
        }
        net.load_state({name: np.asfortranarray(array) for name, array in state.items()})
        assert_same_state(net.state(), {name: array.astype("f") for name, array in state.items()})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda state: state.pop("fc1.bias"),
                "state has [] too many and lacks ['fc1.bias']; expected the names of this net's ",
            ),
            (
                lambda state: state.update(more=np.zeros(2)),
                "state has ['more'] too many and lacks []; expected the names of this net's state",
            ),
            (
                lambda state: state.update({"norm1.variance": np.ones(4)}),
                "state['norm1.variance'] has shape (4,); expected (3,)",
            ),
            (
                lambda state: state.update({"fc1.weights": np.ones((2, 36, 1, 1))}),
                "state['fc1.weights'] has shape (2, 36, 1, 1); expected (2, 4, 3, 3)",
            ),
        ],
        ids=["missing", "extra", "statistic's shape", "parameter's shape"],
    )
    def test_what_does_not_fit_changes_nothing(self, change, message):
        net = small_net("reference")
        before = net.state()
        state = {name: array + 1 for name, array in before.items()}
        change(state)
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            net.load_state(state)
        assert_same_state(net.state(), before)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.array(["a", "b", "c"]), "has dtype <U1; expected real numbers"),
            (np.ones(3, complex), "has dtype complex128; expected real numbers"),
            (np.ones(3, bool), "has dtype bool; expected real numbers"),
            (np.ones(3, object), "has dtype object; expected real numbers"),
            ([1.0, 1.0, 1.0], "is a list; expected a NumPy array"),
            ("abc", "is a str; expected a NumPy array"),
            (None, "is a NoneType; expected a NumPy array"),
            (np.ma.array(np.ones(3), mask=True), "is a masked array; expected a plain one"),
            (np.array([1, np.nan, 1]), "holds NaN or infinities as float32; expected finite"),
            (np.array([1, 1e39, 1]), "holds NaN or infinities as float32; expected finite"),
            (np.array([1, -1e-9, 1]), "holds negative numbers; expected variances of at least 0"),
        ],
        ids=str,
    )
    def test_what_is_no_variance_changes_nothing(self, value, message):
        net = small_net("reference")
        before = net.state()
        state = {name: array + 1 for name, array in before.items()}
        state["norm1.variance"] = value
        message = re.escape(f"state['norm1.variance'] {message}")
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            net.load_state(state)
        assert_same_state(net.state(), before)

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ([("fc1.bias", np.zeros(2))], "state is a list; expected a dict of arrays by name"),
            (None, "state is a NoneType; expected a dict of arrays by name"),
            ({1: 2, "a": 3}, "state has [1, 'a'] too many and lacks ['conv1.bias', "),
        ],
    )
    def test_what_is_no_state(self, state, message):
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
            small_net("reference").load_state(state)

    def test_whole_numbers_are_taken(self):
        net = small_net("reference")
        net.load_state(net.state() | {"fc1.bias": np.array([3, -4])})
        assert net.state()["fc1.bias"].tolist() == [3, -4]

    def test_a_device_that_is_full_changes_nothing(self, monkeypatch):
        net, moved = small_net("reference"), []
        before = net.state()
        state = {name: array + 1 for name, array in before.items()}

        def full(array):
            moved.append(array)
            if len(moved) == len(NAMES) - 1:
                raise MemoryError("no room for one more")
            return array

        monkeypatch.setattr(net.backend.memory, "to_device", full)
        with pytest.raises(MemoryError, match="no room"):
            net.load_state(state)
        assert_same_state(net.state(), before)


class TestTo:
    @pytest.mark.cpu
    def test_another_dtype(self):
        net = randomized(small_net())
        wide = net.to(dtype="float64")
        assert (wide.dtype, wide.backend.name) == ("float64", "cpu")
        assert {a.dtype.name for a in wide.state().values()} == {"float64"}
        assert_same_state(wide.state(), net.state())
        assert_same_state(wide.to(dtype="float32").state(), net.state())

    def test_another_backend(self, backend):
        net = randomized(small_net("reference", dtype="float64"))
        other = net.to(backend=backend.name)
        assert (other.dtype, other.backend) == ("float64", backend)
        assert_same_state(other.state(), net.state())
        image = random_image(net, (6, 7))
        for scores, expected in zip(all_scores(other, image), all_scores(net, image)):
            np.testing.assert_allclose(scores, expected, rtol=1e-12)

    @pytest.mark.cpu
    def test_is_a_copy(self):
        net = small_net()
        before = net.state()
        for arrays in (net.to().parameters, net.to(dtype="float64").statistics):
            for array in arrays.values():
                array += 1
        assert_same_state(net.state(), before)


class TestInitialisation:
    def test_depends_on_the_seed_only(self):
        first, again, other = (build("rcnn25", seed=s, backend="reference") for s in (5, 5, 6))
        assert_same_state(again.state(), first.state())
        for name, array in first.parameters.items():
            assert np.array_equal(other.parameters[name], array) == name.endswith(".bias")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_is_rounded_to_the_dtype(self, any_backend, dtype):
        net = small_net(any_backend.name, dtype=dtype)
        reference = small_net("reference", dtype="float64").state()
        assert_same_state(net.state(), {name: a.astype(dtype) for name, a in reference.items()})

    def test_layers_differ(self):
        layers = [Convolution(4, 1, name="a"), Convolution(4, 1, name="b")]
        net = Net(layers, channels=4, patch=1, backend="reference")
        assert not np.array_equal(net.parameters["a.weights"], net.parameters["b.weights"])

    def test_he(self):
        """Normal, variance 2 / fan-in, that of He et al. (ICCV 2015)."""
        net = Net([FullyConnected(300)], channels=20, patch=(5, 4), backend="reference")
        weights = net.parameters["fc1.weights"] / np.sqrt(2 / (20 * 5 * 4))
        assert abs(weights.mean()) < 0.01
        assert abs(weights.std() - 1) < 0.01
        assert abs((weights**4).mean() - 3) < 0.1

    def test_glorot(self):
        """Uniform, variance 2 / (fan-in + fan-out), that of Glorot & Bengio (AISTATS 2010)."""
        net = Net(
            [Convolution(60, (5, 4))],
            channels=100,
            patch=(5, 4),
            initializer="glorot",
            backend="reference",
        )
        weights = net.parameters["conv1.weights"] / np.sqrt(2 / ((100 + 60) * 5 * 4))
        assert abs(weights.mean()) < 0.01
        assert abs(weights.std() - 1) < 0.01
        assert np.sqrt(3) - 0.001 < np.abs(weights).max() <= np.sqrt(3)

    def test_the_rest_is_neutral(self):
        state = small_net("reference").state()
        ones = {"norm1.gamma", "norm1.variance"}
        assert {name for name in NAMES if (state[name] == 1).all()} == ones
        zeros = {"conv1.bias", "norm1.beta", "fc1.bias", "norm1.mean"}
        assert {name for name in NAMES if (state[name] == 0).all()} == zeros
