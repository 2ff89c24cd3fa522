"""The gradients of small nets against finite differences of their scores."""

from dataclasses import replace

import pytest

from net import Dense
from tests.finite_differences import assert_gradient
from tests.net import forms
from tests.net.cases import NAMED


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
