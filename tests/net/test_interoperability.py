"""Nets on other libraries' device arrays: the same results, and they stay on the device."""

import numpy as np
import pytest

from net import Dense, Net, Scan
from net.layers import BatchNorm, Convolution, FullyConnected, MaxPool, ReLU
from tests.conftest import CUDA, SIMULATOR
from tests.foreign import Foreign
from tests.net.nets import random_image, randomized

SIZE = (7, 8)
LAYERS = [Convolution(3, 2), ReLU(), MaxPool(2), BatchNorm(), FullyConnected(2)]


def small_net(backend):
    # R = 6 < p = 7: the last rows and columns are cut off
    return randomized(Net(LAYERS, channels=2, patch=7, backend=backend))


@pytest.fixture(params=[SIMULATOR, CUDA])
def net(request):
    return small_net(request.param)


@pytest.fixture
def arrays(net, rng):
    """(image, error, mask) on the host, with border "zero"."""
    error = rng.standard_normal((2, *SIZE), np.float32)
    return random_image(net, SIZE), error, rng.random(SIZE) < 0.5


@pytest.fixture
def on_the_device_only(net, monkeypatch):
    """A function that ends all copies to the host, and gives back the one that makes them."""
    to_host = net.backend.memory.to_host

    def refuse(array):
        raise AssertionError("a hidden copy to the host")

    def start():
        monkeypatch.setattr(net.backend.memory, "to_host", refuse)
        return to_host

    return start


def test_forward(net, arrays, on_the_device_only):
    dense = Dense(net, "zero")
    expected = dense.forward(arrays[0])
    image = Foreign(net.backend.memory, arrays[0])
    to_host = on_the_device_only()
    scores = dense.forward(image)
    assert scores.shape == (2, *SIZE)
    assert not isinstance(scores, np.ndarray) or hasattr(scores, "__cuda_array_interface__")
    np.testing.assert_array_equal(to_host(scores), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients(net, arrays, on_the_device_only, masked):
    dense = Dense(net, "zero")
    arrays = arrays if masked else arrays[:2]
    expected = dense.gradients(*arrays, image_gradient=True)
    there = [Foreign(net.backend.memory, array) for array in arrays]
    to_host = on_the_device_only()
    gradients = dense.gradients(*there, image_gradient=True)
    assert gradients.parameters.keys() == expected.parameters.keys()
    for name, gradient in gradients.parameters.items():
        np.testing.assert_array_equal(to_host(gradient), expected.parameters[name])
    np.testing.assert_array_equal(to_host(gradients.image), expected.image)


def test_results_of_one_net_enter_another(net, arrays):
    scores = Dense(net, "zero").forward(net.backend.memory.to_device(arrays[0]))
    host = net.backend.memory.to_host(scores)
    np.testing.assert_array_equal(
        net.backend.memory.to_host(Dense(net).forward(scores)), Dense(net).forward(host)
    )


def test_parameters_of_another_library_are_read_where_they_lie(net, arrays):
    dense, name = Dense(net, "zero"), next(iter(net.parameters))
    foreign = Foreign(net.backend.memory, np.zeros(net.parameters[name].shape, np.float32))
    net.parameters[name] = foreign
    state = net.state()
    first = dense.forward(arrays[0])
    foreign.memory.copy_to_device(np.full(foreign.memory.shape, 0.25, np.float32))
    assert (state[name] == 0).all()
    assert (net.state()[name] == 0.25).all()
    assert (dense.forward(arrays[0]) != first).any()


def test_patch_by_patch_and_classes(net, arrays):
    image, pixels = Foreign(net.backend.memory, arrays[0]), np.array([[0, 0], [3, 4]])
    scan, dense = Scan(net, "zero"), Dense(net, "zero")
    np.testing.assert_array_equal(scan.forward(image, pixels), scan.forward(arrays[0], pixels))
    for result, expected in zip(dense.predict(image), dense.predict(arrays[0])):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a.astype(np.float64), TypeError, "image has dtype float64; expected float32"),
        (lambda a: a[:, :, ::2], ValueError, "image is not C-contiguous; pass a contiguous copy"),
        (lambda a: a[:1], ValueError, "image has shape 1 x 7 x 8; expected 2 x any x any"),
        (lambda a: a[None], ValueError, "image has shape 1 x 2 x 7 x 8; expected 3 axes"),
    ],
)
def test_refusals(net, arrays, change, error, message):
    image = Foreign(net.backend.memory, change(arrays[0]))
    with pytest.raises(error, match=f"^{message}"):
        Dense(net, "zero").forward(image)


def test_error_map_and_mask_are_checked(net, arrays):
    image, error, mask = arrays
    put = net.backend.memory.to_device
    with pytest.raises(ValueError, match=r"^error has shape 2 x 7 x 7; expected 2 x 7 x 8"):
        Dense(net, "zero").gradients(put(image), put(error[:, :, 1:]))
    with pytest.raises(TypeError, match=r"^mask has dtype uint8; expected bool"):
        Dense(net, "zero").gradients(put(image), put(error), put(mask.astype(np.uint8)))


@pytest.mark.cpu
def test_a_net_on_the_host_refuses_device_arrays():
    class There:
        __cuda_array_interface__ = None

    message = "^image is a device array; expected a NumPy array, as the net runs on backend 'cpu'$"
    with pytest.raises(TypeError, match=message):
        Dense(small_net("cpu")).forward(There())
