"""Softmax against the reference, and the reference against literal numbers."""

import numpy as np
import pytest

from tests.comparison import DTYPES, FORWARD, GRADIENT, REFERENCE, assert_matches_reference, call
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals

SMALL = [(1, 1, 1, 1), (2, 3, 5, 7), (3, 17, 2, 1), (1, 2, 1, 9)]
REAL = [
    (1, 8, 123, 97),
    (256, 3, 1, 1),
    (5, 200, 3, 4),
    *((2, 5, 3, w) for w in (8, 15, 16, 17, 33)),
]
NAN, INF = np.nan, np.inf


def check(backend, x, error):
    dtype = str(x.dtype)
    with np.errstate(invalid="ignore"):
        y = REFERENCE.softmax.forward(x).astype(dtype)
    assert_matches_reference(backend, "softmax.forward", x, tolerance=FORWARD[dtype])
    assert_matches_reference(backend, "softmax.backward", error, y, tolerance=GRADIENT[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("shape", SMALL, ids=str)
    def test_small(self, backend, rng, shape, dtype):
        check(backend, 5 * rng.standard_normal(shape, dtype), rng.standard_normal(shape, dtype))

    @pytest.mark.parametrize("shape", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, shape, dtype):
        check(
            fast_backend, 5 * rng.standard_normal(shape, dtype), rng.standard_normal(shape, dtype)
        )

    def test_infinity_and_nan(self, backend, rng, dtype):
        pixels = [
            [NAN, 0, 1],
            [0, 1, NAN],
            [INF, 0, 1],
            [-INF, 0, 1],
            [0, -INF, -INF],
            [-INF, -INF, -INF],
            [0, NAN, INF],
            [0, 1, 2],
        ]
        x = np.array(pixels, dtype).T.reshape(1, 3, 2, 4).copy()
        error = rng.standard_normal(x.shape, dtype)
        error[0, 1, 1, 3] = NAN
        check(backend, x, error)


class TestByHand:
    def test_forward(self, any_backend):
        """The scores' size does not matter, only their differences."""
        x = np.log([1.0, 2, 5]) + np.array([[0], [1000], [-1000]])
        y = call(any_backend, "softmax.forward", x.reshape(3, 3, 1, 1))
        np.testing.assert_allclose(y[:, :, 0, 0], [[0.125, 0.25, 0.625]] * 3, rtol=1e-12)

    def test_backward(self, any_backend):
        y = np.array([0.25, 0.75]).reshape(1, 2, 1, 1)
        error = np.array([8.0, 4]).reshape(1, 2, 1, 1)
        dx = call(any_backend, "softmax.backward", error, y)
        np.testing.assert_array_equal(dx.ravel(), [0.75, -0.75])

    def test_nan_spoils_its_own_pixel_only(self, any_backend):
        x = np.zeros((1, 3, 1, 3))
        x[0, :, 0, 1] = 0, NAN, 1
        y = call(any_backend, "softmax.forward", x)
        np.testing.assert_array_equal(
            np.isnan(y), np.array([[[[0, 1, 0]]] * 3], bool).reshape(y.shape)
        )


def test_gradient_by_finite_differences(any_backend, rng):
    x, error = rng.standard_normal((2, 4, 2, 3)), rng.standard_normal((2, 4, 2, 3))
    y = call(any_backend, "softmax.forward", x)
    assert_gradient(
        lambda x: call(any_backend, "softmax.forward", x),
        call(any_backend, "softmax.backward", error, y),
        x,
        error,
        exhaustive=any_backend.name == "reference",
    )


X = np.zeros((2, 3, 4, 5))
CALLS = {"softmax.forward": {"x": X}, "softmax.backward": {"error": X, "y": X}}
REFUSALS = [
    (
        "softmax.backward",
        {"y": np.zeros((2, 4, 4, 5))},
        ValueError,
        "y has shape 2 x 4 x 4 x 5; expected 2 x 3 x 4 x 5, no axis empty",
    ),
    (
        "softmax.backward",
        {"y": X.astype(np.float32)},
        TypeError,
        "y has dtype float32; expected float64, the dtype of error",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
