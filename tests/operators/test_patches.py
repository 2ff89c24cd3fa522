"""Patches against the reference, and the reference against slices."""

import numpy as np
import pytest

from tests.comparison import DTYPES, GRADIENT, assert_matches_reference, call
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals

# channels, image size, patch size, number of patches
SMALL = [
    (1, (1, 1), (1, 1), 1),
    (3, (6, 9), (4, 3), 5),
    (2, (5, 4), (5, 4), 3),
    (1, (7, 7), (1, 7), 4),
    (17, (3, 4), (2, 2), 2),
]
REAL = [
    (3, (90, 71), (25, 25), 200),
    (1, (130, 121), (95, 95), 40),
    (1, (28, 37), (28, 28), 70),
    *((2, (9, w), (3, min(w, 3)), 30) for w in (*range(2, 10), 15, 16, 17, 33)),
]


def origins(rng, image, patch, number):
    """Random top left pixels; the image's first and last among them, and duplicates."""
    last = np.array([image[0] - patch[0], image[1] - patch[1]], np.int32)
    chosen = rng.integers(0, last + 1, (number, 2), np.int32)
    chosen[0] = 0
    chosen[-1] = chosen[number // 2] = last
    rows, columns = chosen.T.copy()
    return rows, columns


def check(backend, rng, channels, image, patch, number, dtype):
    rows, columns = origins(rng, image, patch, number)
    x = rng.standard_normal((1, channels, *image), dtype)
    assert_matches_reference(backend, "patches.extract", x, rows, columns, patch)
    error = rng.standard_normal((number, channels, *patch), dtype)
    arguments = (backend, "patches.extract_backward", error, rows, columns, image)
    assert_matches_reference(*arguments, tolerance=GRADIENT[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("case", SMALL, ids=str)
    def test_small(self, backend, rng, case, dtype):
        check(backend, rng, *case, dtype)

    @pytest.mark.parametrize("case", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, case, dtype):
        check(fast_backend, rng, *case, dtype)

    def test_infinity_and_nan(self, backend, rng, dtype):
        rows, columns = origins(rng, (5, 6), (3, 2), 4)
        x = rng.choice(np.array([1, np.inf, -np.inf, np.nan], dtype), (1, 2, 5, 6))
        assert_matches_reference(backend, "patches.extract", x, rows, columns, (3, 2))
        error = rng.standard_normal((4, 2, 3, 2), dtype)
        error[0, 0, 0, 0], error[1, 1, 2, 1], error[3, 0, 1, 1] = np.inf, np.nan, -np.inf
        arguments = (backend, "patches.extract_backward", error, rows, columns, (5, 6))
        assert_matches_reference(*arguments, tolerance=GRADIENT[dtype])

    def test_errors_are_added_in_the_order_of_the_patches(self, backend, dtype):
        big = 1 / np.finfo(dtype).eps
        error = np.array([4 * big, -4 * big, 1], dtype).reshape(3, 1, 1, 1)
        rows = columns = np.zeros(3, np.int32)
        dx = call(backend, "patches.extract_backward", error, rows, columns, (1, 2))
        assert dx.ravel().tolist() == [1, 0]


def test_by_hand(any_backend):
    image = np.arange(12.0).reshape(1, 1, 3, 4)
    rows, columns = np.array([0, 1], np.int32), np.array([2, 1], np.int32)
    cut = call(any_backend, "patches.extract", image, rows, columns, 2)
    assert cut.tolist() == [[[[2, 3], [6, 7]]], [[[5, 6], [9, 10]]]]
    dx = call(any_backend, "patches.extract_backward", cut, rows, columns, (3, 4))
    assert dx.tolist() == [[[[0, 0, 2, 3], [0, 5, 12, 7], [0, 9, 10, 0]]]]


def test_gradient_by_finite_differences(any_backend, rng):
    rows, columns = origins(rng, (5, 6), (3, 2), 6)
    image, error = rng.standard_normal((1, 2, 5, 6)), rng.standard_normal((6, 2, 3, 2))
    assert_gradient(
        lambda image: call(any_backend, "patches.extract", image, rows, columns, (3, 2)),
        call(any_backend, "patches.extract_backward", error, rows, columns, (5, 6)),
        image,
        error,
        exhaustive=any_backend.name == "reference",
    )


PIXELS = {"rows": np.zeros(4, np.int32), "columns": np.zeros(4, np.int32)}
CALLS = {
    "patches.extract": {"image": np.zeros((1, 3, 6, 7)), **PIXELS, "size": (2, 3)},
    "patches.extract_backward": {
        "error": np.zeros((4, 3, 2, 3)),
        **PIXELS,
        "image_size": (6, 7),
    },
}
REFUSALS = [
    (
        "patches.extract",
        {"image": np.zeros((2, 3, 6, 7))},
        ValueError,
        "image has shape 2 x 3 x 6 x 7; expected 1 x any x any x any, no axis empty",
    ),
    (
        "patches.extract",
        {"columns": np.zeros(3, np.int32)},
        ValueError,
        "columns has shape 3; expected 4, no axis empty",
    ),
    (
        "patches.extract",
        {"size": (7, 2)},
        ValueError,
        "size is 7 x 2; expected at most the image's 6 x 7",
    ),
    (
        "patches.extract",
        {"size": 0},
        ValueError,
        "size is 0; expected an int or a pair (y, x) of ints of at least 1",
    ),
    (
        "patches.extract_backward",
        {"rows": np.zeros(5, np.int32)},
        ValueError,
        "rows has shape 5; expected 4, no axis empty",
    ),
    (
        "patches.extract_backward",
        {"columns": np.zeros(5, np.int32)},
        ValueError,
        "columns has shape 5; expected 4, no axis empty",
    ),
    (
        "patches.extract_backward",
        {"image_size": (6, 2)},
        ValueError,
        "image_size is 6 x 2; expected at least the patch's 2 x 3",
    ),
    (
        "patches.extract_backward",
        {"image_size": 6.0},
        ValueError,
        "image_size is 6.0; expected an int or a pair (y, x) of ints of at least 1",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
