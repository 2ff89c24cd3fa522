"""Choosing pixels to learn from."""

import numpy as np
import pytest

from net.learning.sampling import balanced_mask

LABELS = np.array([[0] * 50, [1] * 50, [2] * 3 + [-1] * 47])


def test_classes_are_balanced_and_a_rare_one_gives_all():
    mask = balanced_mask(LABELS, 43, np.random.default_rng(0))
    assert np.bincount(LABELS[mask]).tolist() == [20, 20, 3]


def test_more_than_there_are():
    mask = balanced_mask(LABELS, 1000, np.random.default_rng(0))
    np.testing.assert_array_equal(mask, LABELS >= 0)


def test_seeded():
    one, same, other = (
        balanced_mask(LABELS, 20, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("pixels", [0, -1, 2.5])
def test_bad_number(pixels):
    with pytest.raises(ValueError, match=f"pixels is {pixels}; expected an int of at least 1"):
        balanced_mask(LABELS, pixels, np.random.default_rng(0))


def test_nothing_labelled():
    with pytest.raises(ValueError, match="labels hold no labelled pixel"):
        balanced_mask(np.full((2, 2), -1), 1, np.random.default_rng(0))
