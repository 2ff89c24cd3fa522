"""The gradients of small nets against finite differences of their scores; and beside NaN."""

from dataclasses import replace

import numpy as np
import pytest

from net import Dense, Net
from net.layers import (
    AveragePool,
    BatchNorm,
    Convolution,
    FullyConnected,
    MaxPool,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from tests.conftest import CPU, CUDA, SIMULATOR
from tests.finite_differences import assert_gradient
from tests.net import forms
from tests.net.cases import NAMED
from tests.net.nets import random_image, randomized


@pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
@pytest.mark.parametrize("name", NAMED)
class TestFiniteDifferences:
    """Of every parameter for the reference; along random directions for what is faster."""

    def test_reference(self, name, border):
        self.check(replace(NAMED[name], border=border), "reference", exhaustive=True)

    def test_fast_backend(self, fast_backend, name, border):
        self.check(replace(NAMED[name], border=border), fast_backend.name, exhaustive=False)

    def check(self, case, backend, exhaustive):
        def scores(image):
            return Dense(net, case.border).forward(image)[:, rows, columns].T

        def scores_with(name):
            def scores_of(array):
                net.load_state(state | {name: array})
                return scores(image)

            return scores_of

        net = case.build(backend, "float64")
        # With this seed no step crosses the kink of a ReLU or changes a maximum
        image, pixels, state = case.image(net, seed=5), case.pixels(), net.state()
        rows, columns = pixels.T
        error = forms.random_error(net, pixels)
        gradients = forms.dense(net, image, pixels, error, case.border).gradients
        by_image = gradients.pop("image")
        assert_gradient(scores, by_image, image, error, exhaustive=False)
        assert gradients.keys() == net.parameters.keys()
        for name, gradient in gradients.items():
            assert_gradient(scores_with(name), gradient, state[name], error, exhaustive=exhaustive)


NAN_LAYERS = {
    "0 times NaN": [Convolution(2, 2), ReLU(), FullyConnected(2)],
    "an error times the derivative at NaN": [Convolution(2, 2), Tanh(), FullyConnected(2)],
    "normalised": [BatchNorm(), Convolution(2, 2), Sigmoid(), FullyConnected(2)],
    "pooled": [AveragePool(2, 1), Convolution(2, 2), Tanh(), MaxPool(2, 1), FullyConnected(2)],
    "softmax": [Convolution(2, 3), FullyConnected(2), Softmax()],
}


@pytest.mark.parametrize("layers", NAN_LAYERS.values(), ids=NAN_LAYERS)
@pytest.mark.parametrize("form", [forms.scan, forms.needed])
@pytest.mark.parametrize("backend", ["reference", CPU, SIMULATOR, CUDA])
def test_a_nan_that_no_chosen_patch_reads(backend, form, layers):
    """Is left out, as by the patches alone: yet 0 times NaN is NaN, and so is e * f'(NaN)."""
    net = randomized(Net(layers, channels=1, patch=4, dtype="float64", backend=backend))
    image, pixels = random_image(net, (8, 9)), np.array([[0, 0], [1, 3], [2, 1]])
    error = forms.random_error(net, pixels)
    expected = form(net, image, pixels, error).gradients
    image[0, 7, 2:] = np.nan
    gradients = form(net, image, pixels, error).gradients
    assert not forms.differences(gradients, expected, above=1e-12)
