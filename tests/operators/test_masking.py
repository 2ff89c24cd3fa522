"""Masking of error maps: exact, whatever lies outside the mask."""

import numpy as np
import pytest

from tests.comparison import DTYPES, assert_matches_reference, call
from tests.refusals import assert_refused, refusals

SMALL = [(1, 1, 1, 1), (2, 3, 5, 7), (3, 17, 2, 1)]
REAL = [(1, 8, 123, 97), (256, 3, 1, 1), *((2, 5, 3, w) for w in (8, 15, 16, 17, 33))]
MASKS = ("empty", "one pixel", "some", "all")


def masks(rng, kind, shape):
    n, _, h, w = shape
    if kind == "some":
        return rng.random((n, h, w)) < 0.3
    mask = np.full((n, h, w), kind == "all")
    mask[-1, h // 2, w - 1] = kind != "empty"
    return mask


def spoiled(rng, shape, dtype):
    """Errors, a third of them NaN or infinite."""
    values = np.array([1, 2, -3, np.inf, -np.inf, np.nan, 4, 5, 6], dtype)
    return rng.choice(values, shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", MASKS)
class TestAgainstReference:
    @pytest.mark.parametrize("shape", SMALL, ids=str)
    def test_small(self, backend, rng, shape, kind, dtype):
        error = spoiled(rng, shape, dtype)
        assert_matches_reference(backend, "masking.apply", error, masks(rng, kind, shape))

    @pytest.mark.parametrize("shape", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, shape, kind, dtype):
        error = spoiled(rng, shape, dtype)
        assert_matches_reference(fast_backend, "masking.apply", error, masks(rng, kind, shape))


def test_by_hand(any_backend):
    error = np.array([1, np.nan, np.inf, 2, 3, -np.inf, np.nan, 4]).reshape(1, 2, 2, 2)
    mask = np.array([[[True, False], [False, True]]])
    y = call(any_backend, "masking.apply", error, mask)
    np.testing.assert_array_equal(y.ravel(), [1, 0, 0, 2, 3, 0, 0, 4])


def test_an_empty_mask_leaves_zeros(any_backend):
    error = np.full((2, 3, 2, 3), np.nan)
    y = call(any_backend, "masking.apply", error, np.zeros((2, 2, 3), bool))
    assert y.tobytes() == np.zeros((2, 3, 2, 3)).tobytes()


CALLS = {"masking.apply": {"error": np.zeros((2, 3, 4, 5)), "mask": np.zeros((2, 4, 5), bool)}}
REFUSALS = [
    (
        "masking.apply",
        {"mask": np.zeros((2, 5, 4), bool)},
        ValueError,
        "mask has shape 2 x 5 x 4; expected 2 x 4 x 5, no axis empty",
    ),
    (
        "masking.apply",
        {"mask": np.zeros((1, 4, 5), bool)},
        ValueError,
        "mask has shape 1 x 4 x 5; expected 2 x 4 x 5, no axis empty",
    ),
    (
        "masking.apply",
        {"mask": np.zeros((2, 4, 5), np.uint8)},
        TypeError,
        "mask has dtype uint8; expected bool in native byte order",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
