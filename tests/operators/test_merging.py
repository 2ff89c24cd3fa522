"""Merging of branches against the reference, and the reference against literal arrays."""

import numpy as np
import pytest

from tests.comparison import (
    DTYPES,
    FORWARD,
    assert_matches_reference,
    call,
)
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals

SMALL = [(1, (1,), 1, 1), (2, (3, 1, 5), 5, 7), (3, (17, 2), 2, 1)]
REAL = [(1, (8, 25, 3), 123, 97), (256, (200, 50), 1, 1), (2, (5, 1), 3, 17), (1, (1,) * 9, 7, 33)]


def check(backend, rng, batch, channels, h, w, dtype):
    maps = [rng.standard_normal((batch, c, h, w), dtype) for c in channels]
    assert_matches_reference(backend, "merging.concatenate", maps)
    error = rng.standard_normal((batch, sum(channels), h, w), dtype)
    assert_matches_reference(backend, "merging.concatenate_backward", error, channels)
    maps = [rng.standard_normal((batch, 3, h, w), dtype) for _ in channels]
    assert_matches_reference(backend, "merging.add", maps, tolerance=FORWARD[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("shape", SMALL, ids=str)
    def test_small(self, backend, rng, shape, dtype):
        check(backend, rng, *shape, dtype)

    @pytest.mark.parametrize("shape", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, shape, dtype):
        check(fast_backend, rng, *shape, dtype)

    def test_infinity_and_nan(self, backend, dtype):
        values = np.array([-np.inf, 0, 1, np.inf, np.nan], dtype)
        a, b = (m[None, None].copy() for m in np.meshgrid(values, values))
        assert_matches_reference(backend, "merging.add", [a, b])
        assert_matches_reference(backend, "merging.concatenate", [a, b])
        assert_matches_reference(backend, "merging.concatenate_backward", a, (1,))

    def test_sum_runs_from_left_to_right(self, backend, dtype):
        big = 1 / np.finfo(dtype).eps
        maps = [np.full((1, 1, 1, 3), v, dtype) for v in (4 * big, -4 * big, 1)]
        y = call(backend, "merging.add", maps)
        assert y.ravel().tolist() == [1, 1, 1]


def test_by_hand(any_backend):
    a = np.arange(4.0).reshape(2, 1, 1, 2)
    b = np.arange(10.0, 18).reshape(2, 2, 1, 2)
    y = call(any_backend, "merging.concatenate", [a, b])
    assert y.shape == (2, 3, 1, 2)
    assert y.ravel().tolist() == [0, 1, 10, 11, 12, 13, 2, 3, 14, 15, 16, 17]
    first, second = call(any_backend, "merging.concatenate_backward", y, (1, 2))
    np.testing.assert_array_equal(first, a)
    np.testing.assert_array_equal(second, b)
    total = call(any_backend, "merging.add", (a, 2 * a, a))
    np.testing.assert_array_equal(total, 4 * a)


def test_gradient_by_finite_differences(any_backend, rng):
    maps = [rng.standard_normal((2, c, 2, 3)) for c in (1, 3, 2)]
    error = rng.standard_normal((2, 6, 2, 3))
    gradients = call(any_backend, "merging.concatenate_backward", error, (1, 3, 2))
    for i, gradient in enumerate(gradients):
        assert_gradient(
            lambda x, i=i: call(any_backend, "merging.concatenate", [*maps[:i], x, *maps[i + 1 :]]),
            gradient,
            maps[i],
            error,
            exhaustive=any_backend.name == "reference",
        )


X = np.zeros((2, 3, 4, 5))
CALLS = {
    "merging.add": {"maps": [X, X]},
    "merging.concatenate": {"maps": [X, X]},
    "merging.concatenate_backward": {"error": X, "channels": (1, 2)},
}
EITHER = [
    (
        {"maps": [X, X[:1]]},
        ValueError,
        "maps[1] has shape 1 x 3 x 4 x 5; expected 2 x ",
    ),
    (
        {"maps": [X, np.zeros((2, 3, 5, 4))]},
        ValueError,
        "maps[1] has shape 2 x 3 x 5 x 4; expected 2 x ",
    ),
    (
        {"maps": [X, X, X[0]]},
        ValueError,
        "maps[2] has shape 3 x 4 x 5; expected 4 axes",
    ),
    (
        {"maps": [X, X.astype(np.float32)]},
        TypeError,
        "maps[1] has dtype float32; expected float64, the dtype of maps[0]",
    ),
    (
        {"maps": [X.astype(np.int32), X]},
        TypeError,
        "maps[0] has dtype int32; expected float32 or float64 in native byte order",
    ),
    (
        {"maps": [X, np.asfortranarray(X)]},
        ValueError,
        "maps[1] is not C-contiguous; pass a contiguous copy",
    ),
    ({"maps": [X, 1.0]}, TypeError, "maps[1] is a float; expected an array"),
]
REFUSALS = [(f, *row) for f in ("merging.add", "merging.concatenate") for row in EITHER]
REFUSALS += [
    ("merging.add", {"maps": []}, ValueError, "maps is empty; expected at least one element"),
    (
        "merging.concatenate",
        {"maps": []},
        ValueError,
        "maps is empty; expected at least one element",
    ),
    (
        "merging.add",
        {"maps": [X, X[:, :2].copy()]},
        ValueError,
        "maps[1] has shape 2 x 2 x 4 x 5; expected 2 x 3 x 4 x 5, no axis empty",
    ),
    (
        "merging.concatenate_backward",
        {"channels": (1, 1)},
        ValueError,
        "channels is (1, 1); expected positive ints that add up to 3",
    ),
    (
        "merging.concatenate_backward",
        {"channels": (0, 3)},
        ValueError,
        "channels[0] is 0; expected an int of at least 1",
    ),
    (
        "merging.concatenate_backward",
        {"channels": ()},
        ValueError,
        "channels is empty; expected at least one element",
    ),
    (
        "merging.concatenate_backward",
        {"channels": (1.5, 1.5)},
        ValueError,
        "channels[0] is 1.5; expected an int of at least 1",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
