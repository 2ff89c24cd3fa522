"""Which passes run over lists of needed cells, and which in the dense form."""

import numpy as np
import pytest

from net import Dense, Net
from net.chosen import Chosen
from net.layers import Convolution, Dropout, FullyConnected, ReLU
from net.needed_pass import NeededPass
from net.zoo import build


def test_a_mask_that_needs_nearly_all_takes_the_dense_way():
    dense = Dense(build("n4", backend="reference"), "zero")
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    assert dense.needed.over(Chosen(mask.shape, mask)) is None
    mask[:, 3:] = False
    assert isinstance(dense.needed.over(Chosen(mask.shape, mask)), NeededPass)


def test_the_plan_of_a_mask_is_used_again():
    passes = Dense(build("lenet28", backend="reference"), "zero").needed
    mask = np.eye(99, dtype=bool)
    first = passes.over(Chosen(mask.shape, mask))
    assert passes.over(Chosen(mask.shape, mask.copy())) is first
    mask[0, 1] = True
    other = passes.over(Chosen(mask.shape, mask))
    assert other is not first
    assert len(other.rows) == len(first.rows) + 1
    wider = np.pad(mask, (0, 1))
    assert passes.over(Chosen(wider.shape, wider)) is not other


@pytest.mark.cpu
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_never_read_what_is_not_finite_and_not_needed(value):
    """Of a mask so large that finite images take the dense way."""
    net = Net([Convolution(4, 3), ReLU(), FullyConnected(2)], channels=1, patch=5, backend="cpu")
    dense, mask = Dense(net), np.ones((20, 21), bool)
    mask[0, 0] = False  # alone reads the image's corner
    image = np.random.default_rng(0).standard_normal((1, 24, 25)).astype(np.float32)
    error = np.random.default_rng(1).standard_normal((2, 20, 21)).astype(np.float32)
    assert dense.needed.over(Chosen(mask.shape, mask)) is None
    finite = dense.gradients(image, error, mask).parameters
    image[0, 0, 0] = value
    assert not all(
        np.isfinite(g).all()
        for g in dense.gradients(image, error, mask, everywhere=True).parameters.values()
    )
    for name, gradient in dense.gradients(image, error, mask).parameters.items():
        np.testing.assert_allclose(gradient, finite[name], rtol=1e-5, atol=1e-5)


@pytest.mark.cpu
def test_a_mask_leaves_the_image_of_a_net_that_hands_it_through():
    net = Net([Dropout(0.5)], channels=1, patch=1, backend="cpu")
    image, mask = np.ones((1, 20, 20), np.float32), np.ones((20, 20), bool)
    mask[0, 0] = False
    assert np.isnan(Dense(net).forward(image, mask)[0, 0, 0])
    assert (image == 1).all()
