"""Padding and cropping against the reference, and the reference against literal arrays."""

import numpy as np
import pytest

from tests.comparison import DTYPES, GRADIENT, assert_matches_reference, call
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals

SMALL = [
    ((1, 1, 1, 1), (0, 0, 0, 0)),
    ((1, 1, 1, 1), (2, 1, 0, 3)),
    ((2, 3, 5, 7), (1, 2, 3, 0)),
    ((2, 3, 5, 7), (4, 6, 4, 6)),
    ((1, 2, 3, 4), (7, 0, 8, 13)),
    ((1, 2, 2, 1), (5, 4, 3, 2)),
    ((1, 17, 2, 3), (0, 0, 0, 1)),
]
REAL = [
    ((1, 3, 123, 97), (47, 48, 46, 47)),
    ((1, 2, 61, 70), (66, 66, 66, 66)),
    ((256, 3, 2, 2), (1, 2, 2, 1)),
    *(((2, 3, 4, w), (1, 1, 0, 2)) for w in (8, 9, 15, 16, 17, 33)),
]
MODES = pytest.mark.parametrize("mode", ["zero", "reflect"])


def check(backend, rng, shape, margins, mode, dtype):
    x = rng.standard_normal(shape, dtype)
    assert_matches_reference(backend, "padding.pad", x, margins, mode)
    error = rng.standard_normal(padded(shape, margins), dtype)
    tolerance = 0 if mode == "zero" else GRADIENT[dtype]
    arguments = (backend, "padding.pad_backward", error, margins, mode)
    assert_matches_reference(*arguments, tolerance=tolerance)


def check_crop(backend, rng, shape, margins, dtype):
    x = rng.standard_normal(padded(shape, margins), dtype)
    assert_matches_reference(backend, "padding.crop", x, margins)
    error = rng.standard_normal(shape, dtype)
    assert_matches_reference(backend, "padding.crop_backward", error, margins)


def padded(shape, margins):
    n, c, h, w = shape
    top, left, bottom, right = margins
    return (n, c, h + top + bottom, w + left + right)


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @MODES
    @pytest.mark.parametrize(("shape", "margins"), SMALL)
    def test_pad(self, backend, rng, shape, margins, mode, dtype):
        check(backend, rng, shape, margins, mode, dtype)

    @MODES
    @pytest.mark.parametrize(("shape", "margins"), REAL)
    def test_pad_every_size(self, fast_backend, rng, shape, margins, mode, dtype):
        check(fast_backend, rng, shape, margins, mode, dtype)

    @pytest.mark.parametrize(("shape", "margins"), SMALL)
    def test_crop(self, backend, rng, shape, margins, dtype):
        check_crop(backend, rng, shape, margins, dtype)

    @pytest.mark.parametrize(("shape", "margins"), REAL)
    def test_crop_every_size(self, fast_backend, rng, shape, margins, dtype):
        check_crop(fast_backend, rng, shape, margins, dtype)

    @MODES
    def test_infinity_and_nan(self, backend, rng, mode, dtype):
        values = np.array([1, 2, np.inf, -np.inf, np.nan], dtype)
        margins = (2, 1, 4, 3)
        x = rng.choice(values, (1, 2, 3, 4))
        assert_matches_reference(backend, "padding.pad", x, margins, mode)
        error = rng.standard_normal((1, 2, 9, 8), dtype)
        error[0, 0, 0, 0], error[0, 1, 4, 3], error[0, 1, 5, 4] = np.inf, -np.inf, np.nan
        arguments = (backend, "padding.pad_backward", error, margins, mode)
        assert_matches_reference(*arguments, tolerance=GRADIENT[dtype])
        assert_matches_reference(backend, "padding.crop", error, margins)
        assert_matches_reference(backend, "padding.crop_backward", x, margins)


class TestByHand:
    ROW = (0, 2, 0, 5)

    @pytest.mark.parametrize(
        ("mode", "row", "expected"),
        [
            ("zero", [1, 2, 3], [0, 0, 1, 2, 3, 0, 0, 0, 0, 0]),
            ("reflect", [1, 2, 3], [3, 2, 1, 2, 3, 2, 1, 2, 3, 2]),
            ("reflect", [1, 2], [1, 2, 1, 2, 1, 2, 1, 2, 1]),
            ("reflect", [7], [7, 7, 7, 7, 7, 7, 7, 7]),
        ],
    )
    def test_pad(self, any_backend, mode, row, expected):
        x = np.array(row, float)
        y = call(any_backend, "padding.pad", x[None, None, None], self.ROW, mode)
        assert y.tolist() == [[[expected]]]
        y = call(any_backend, "padding.pad", x[None, None, :, None].copy(), (2, 0, 5, 0), mode)
        assert y.ravel().tolist() == expected

    @pytest.mark.parametrize(
        ("mode", "error", "expected"),
        [
            ("zero", range(10), [2, 3, 4]),
            ("reflect", range(10), [2 + 6, 3 + 1 + 5 + 7 + 9, 4 + 0 + 8]),
            ("reflect", range(8), [28]),
        ],
    )
    def test_pad_backward(self, any_backend, mode, error, expected):
        error = np.array(error, float)
        dx = call(any_backend, "padding.pad_backward", error[None, None, None], self.ROW, mode)
        assert dx.tolist() == [[[expected]]]
        column = error[None, None, :, None].copy()
        dx = call(any_backend, "padding.pad_backward", column, (2, 0, 5, 0), mode)
        assert dx.ravel().tolist() == expected

    def test_two_axes_and_four_different_margins(self, any_backend):
        x = np.array([[1.0, 2], [3, 4]])[None, None]
        y = call(any_backend, "padding.pad", x, (1, 0, 0, 2), "zero")
        assert y[0, 0].tolist() == [[0, 0, 0, 0], [1, 2, 0, 0], [3, 4, 0, 0]]
        y = call(any_backend, "padding.pad", x, (1, 0, 0, 2), "reflect")
        assert y[0, 0].tolist() == [[3, 4, 3, 4], [1, 2, 1, 2], [3, 4, 3, 4]]
        y = call(any_backend, "padding.crop", y, (1, 0, 0, 2))
        assert y[0, 0].tolist() == x[0, 0].tolist()
        y = call(any_backend, "padding.crop_backward", x, (1, 0, 0, 2))
        assert y[0, 0].tolist() == [[0, 0, 0, 0], [1, 2, 0, 0], [3, 4, 0, 0]]


class TestFiniteDifferences:
    MARGINS = (1, 4, 5, 2)

    @MODES
    def test_pad(self, any_backend, rng, mode):
        x, error = rng.standard_normal((2, 2, 3, 2)), rng.standard_normal((2, 2, 9, 8))
        assert_gradient(
            lambda x: call(any_backend, "padding.pad", x, self.MARGINS, mode),
            call(any_backend, "padding.pad_backward", error, self.MARGINS, mode),
            x,
            error,
            exhaustive=any_backend.name == "reference",
        )

    def test_crop(self, any_backend, rng):
        x, error = rng.standard_normal((2, 2, 9, 8)), rng.standard_normal((2, 2, 3, 2))
        assert_gradient(
            lambda x: call(any_backend, "padding.crop", x, self.MARGINS),
            call(any_backend, "padding.crop_backward", error, self.MARGINS),
            x,
            error,
            exhaustive=any_backend.name == "reference",
        )


X = np.zeros((2, 3, 4, 5))
MARGINS = (1, 2, 1, 2)
CALLS = {
    "padding.pad": {"x": X, "margins": MARGINS, "mode": "zero"},
    "padding.pad_backward": {"error": X, "margins": MARGINS, "mode": "zero"},
    "padding.crop": {"x": X, "margins": MARGINS},
    "padding.crop_backward": {"error": X, "margins": MARGINS},
}
REFUSALS = [
    (
        function,
        {"margins": margins},
        ValueError,
        f"margins is {margins}; expected (top, left, bottom, right), four ints of at least 0",
    )
    for function in CALLS
    for margins in (1, (1, 2), (1, 1, -1, 1), (1, 1, 1.0, 1))
]
REFUSALS += [
    (
        function,
        {"margins": margins},
        ValueError,
        f"margins is {margins}; expected to leave at least one row and column of 4 x 5",
    )
    for function in ("padding.pad_backward", "padding.crop")
    for margins in ((2, 0, 2, 0), (0, 1, 0, 4), (9, 9, 9, 9))
]
REFUSALS += [
    (
        function,
        {"mode": mode},
        ValueError,
        f"mode is {mode!r}; expected one of 'zero', 'reflect'",
    )
    for function in ("padding.pad", "padding.pad_backward")
    for mode in ("valid", None)
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
