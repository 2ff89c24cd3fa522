"""Statistics of batch normalisations, set from sample images."""

import numpy as np
import pytest

from net import Dense, Net, calibrate
from net.layers import BatchNorm, Convolution, FullyConnected, MaxPool, ReLU
from tests.net.nets import random_image, randomized

LAYERS = [
    *(Convolution(3, 3, stride=2), BatchNorm(name="first"), ReLU()),
    *(MaxPool(2, 1), Convolution(2, 2), BatchNorm(name="second"), FullyConnected(2)),
]
PATCH = (7, 9)
BEFORE = {"first": (1, 3), "second": (5, 7)}


def net_and_images(backend):
    net = randomized(Net(LAYERS, channels=2, patch=PATCH, backend=backend))
    images = [random_image(net, (9, 11), seed=1), 3 * random_image(net, (8, 16), seed=2) - 1]
    return net, images


def statistics_of_input(net, name, images):
    """Mean and variance by channel, from the layers in front of ``name`` as a net of their own."""
    layers, patch = BEFORE[name]
    part = Net(LAYERS[:layers], channels=2, patch=patch, backend=net.backend.name)
    part.load_state({name: net.state()[name] for name in part.state()})
    maps = [Dense(part).forward(image).astype(np.float64) for image in images]
    values = np.concatenate([x.reshape(len(x), -1) for x in maps], axis=1)
    return values.mean(axis=1), values.var(axis=1)


@pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
def test_statistics_are_those_of_all_pixels_of_all_images(fast_backend, border):
    """Of the second normalisation too, behind the first one's new statistics."""
    net, images = net_and_images(fast_backend.name)
    before = net.state()
    calibrate(net, images, border)
    if border != "valid":
        mode = {"zero": "constant", "reflect": "reflect"}[border]
        images = [np.pad(image, ((0, 0), (3, 3), (4, 4)), mode) for image in images]
    after = net.state()
    for name in BEFORE:
        mean, variance = statistics_of_input(net, name, images)
        np.testing.assert_allclose(after[f"{name}.mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(after[f"{name}.variance"], variance, rtol=1e-5)
        assert (after[f"{name}.mean"] != before[f"{name}.mean"]).all()
        assert after[f"{name}.mean"].dtype == np.float32
    for name in net.parameters:
        assert after[name].tobytes() == before[name].tobytes()


def test_again_changes_nothing(backend):
    net, images = net_and_images(backend.name)
    calibrate(net, images)
    once = net.state()
    calibrate(net, images)
    assert all(array.tobytes() == once[name].tobytes() for name, array in net.state().items())


@pytest.mark.parametrize("scale", [1e25, 3e38])
def test_statistics_beyond_the_dtype_change_nothing(scale):
    """The maps, or their squares; those of the first normalisation are right and taken back."""
    net = Net(
        [BatchNorm(name="first"), Convolution(2, 1), BatchNorm(name="second")],
        **{"channels": 1, "patch": 1, "backend": "reference"},
    )
    net.parameters["first.gamma"][:] = scale
    net.parameters["conv1.weights"][:] = 1e6
    before = net.state()
    message = r"^statistics\['second\.(mean|variance)'\] would hold NaN or infinities"
    with pytest.raises(ValueError, match=message):
        calibrate(net, [random_image(net, (3, 4))])
    assert all(np.array_equal(array, before[name]) for name, array in net.state().items())


def test_an_image_that_is_too_small_is_named():
    net, images = net_and_images("reference")
    with pytest.raises(ValueError, match=r"^images\[1\] is 5 x 11; with border 'valid' expected"):
        calibrate(net, [images[0], images[0][:, :5]])


def test_without_batch_normalisation_nothing_changes():
    net = randomized(Net([Convolution(2, 3)], channels=1, patch=3, backend="reference"))
    before = net.state()
    calibrate(net, [random_image(net, (4, 5))])
    assert all(np.array_equal(array, before[name]) for name, array in net.state().items())
