"""Class maps and probabilities of whole images."""

import numpy as np
import pytest

from net import Dense, Net
from net.layers import Convolution, Dropout, FullyConnected, Softmax, Tanh
from net.zoo import build
from tests.net.learning import LAYERS, examples, small_net
from tests.net.nets import random_image


def test_classes_and_probabilities():
    net = build("lenet28", classes=3, backend="cpu")
    image = random_image(net, (35, 30))
    classes, probabilities = Dense(net, "reflect").predict(image)
    assert classes.shape == (35, 30)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(classes, Dense(net, "reflect").forward(image).argmax(axis=0))


@pytest.mark.parametrize("last", [[], [Softmax()]], ids=["scores", "probabilities"])
@pytest.mark.parametrize("tile", [None, 3])
def test_pixels_without_a_class(last, tile):
    """A patch that holds NaN has NaN probabilities and no class, -1; the others are as before."""
    layers = [Convolution(3, (3, 2)), Tanh(), FullyConnected(3), *last]
    net = Net(layers, channels=1, patch=(4, 3), backend="reference")
    dense, image = Dense(net), random_image(net, (9, 8))
    expected, probabilities = dense.predict(image, tile)
    image[0, 4, 5] = np.nan
    classes, found = dense.predict(image, tile)
    reads = np.zeros((6, 6), bool)
    reads[1:5, 3:6] = True
    np.testing.assert_array_equal(classes, np.where(reads, -1, expected))
    np.testing.assert_array_equal(found, np.where(reads, np.nan, probabilities))


def test_dropout_is_for_learning_only():
    image = examples(1)[0][0]
    net = small_net()
    plain = [layer for layer in LAYERS if not isinstance(layer, Dropout)]
    without = Net(plain, channels=1, patch=17, backend="cpu")
    without.load_state(net.state())
    np.testing.assert_array_equal(Dense(net).forward(image), Dense(without).forward(image))
