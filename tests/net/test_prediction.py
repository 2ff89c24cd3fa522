"""Class maps and probabilities of whole images."""

import numpy as np

from net import Dense, Net
from net.layers import Dropout
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


def test_dropout_is_for_learning_only():
    image = examples(1)[0][0]
    net = small_net()
    plain = [layer for layer in LAYERS if not isinstance(layer, Dropout)]
    without = Net(plain, channels=1, patch=17, backend="cpu")
    without.load_state(net.state())
    np.testing.assert_array_equal(Dense(net).forward(image), Dense(without).forward(image))
