"""Max pooling against the reference, and the reference against a loop over every cell."""

from dataclasses import dataclass

import numpy as np
import pytest

from kernels.checks import Pair
from kernels.window import Window
from tests.activations import EACH, UNKNOWN
from tests.comparison import (
    DTYPES,
    GRADIENT,
    REFERENCE,
    assert_matches_reference,
    call,
    relative_difference,
)
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals


@dataclass(frozen=True)
class PoolingCase:
    """Windows on N x C x H x W maps."""

    x: tuple[int, int, int, int]
    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)

    def __str__(self):
        window = zip("ksd", (self.kernel, self.stride, self.dilation))
        pairs = "-".join(f"{name}{a},{b}" for name, (a, b) in window)
        return f"{'x'.join(map(str, self.x))}-{pairs}"

    @property
    def options(self):
        return {"stride": self.stride, "dilation": self.dilation}

    @property
    def y(self):
        size = Window(self.kernel, self.stride, self.dilation).output_size(self.x[2:])
        return (*self.x[:2], *size)

    def check(self, backend, x, error):
        """Forward is exact; backward gets the reference's argmax."""
        forward = ("max_pooling.forward", x, self.kernel)
        assert_matches_reference(backend, *forward, **self.options)
        _, argmax = REFERENCE.max_pooling.forward(*forward[1:], **self.options)
        backward = ("max_pooling.backward", error, argmax, self.x[2:], self.kernel)
        tolerance = GRADIENT[str(x.dtype)]
        assert_matches_reference(backend, *backward, **self.options, tolerance=tolerance)


SMALL = [
    PoolingCase((1, 1, 1, 1), (1, 1)),
    PoolingCase((2, 3, 6, 8), (2, 2), stride=(2, 2)),
    PoolingCase((1, 2, 7, 9), (2, 2), stride=(2, 2)),
    PoolingCase((2, 3, 7, 9), (2, 2), dilation=(2, 3)),
    PoolingCase((1, 2, 9, 11), (3, 2), stride=(2, 3), dilation=(1, 2)),
    PoolingCase((1, 2, 9, 11), (2, 3), stride=(3, 2), dilation=(4, 3)),
    PoolingCase((1, 1, 9, 10), (2, 1), stride=(4, 3)),
    PoolingCase((1, 5, 4, 3), (4, 3)),
    PoolingCase((1, 3, 7, 5), (4, 3), dilation=(2, 2)),
    PoolingCase((1, 1, 17, 18), (16, 16)),
    PoolingCase((1, 1, 18, 19), (17, 16)),
    PoolingCase((1, 17, 1, 3), (1, 2)),
    PoolingCase((2, 1, 30, 21), (8, 8), dilation=(1, 2)),
    PoolingCase((1, 2, 24, 25), (5, 6), dilation=(4, 3)),
]
EVERY_SIZE = [
    *(PoolingCase((1, 3, 5, w), (2, 2 if w > 1 else 1), dilation=(3, 1)) for w in range(1, 10)),
    *(PoolingCase((2, 2, 5, w), (3, 2), dilation=(1, 4)) for w in (15, 16, 17, 31, 33, 34, 65, 70)),
    PoolingCase((1, 48, 92, 71), (2, 2), dilation=(4, 4)),
    PoolingCase((1, 25, 70, 83), (8, 8)),
    PoolingCase((1, 2, 95, 215), (8, 8), dilation=(3, 8)),
    PoolingCase((1, 50, 40, 53), (2, 2), dilation=(8, 8)),
    PoolingCase((1, 32, 67, 61), (3, 3), stride=(2, 2)),
    PoolingCase((1, 32, 67, 61), (3, 3), dilation=(2, 3)),
    PoolingCase((64, 25, 32, 32), (8, 8), stride=(8, 8)),
    PoolingCase((256, 48, 4, 4), (2, 2), stride=(2, 2)),
    # Several maps an item, and fewer in the last one; a map of one window
    PoolingCase((2, 97, 5, 5), (3, 3), stride=(2, 2)),
    PoolingCase((2, 97, 3, 3), (3, 3), stride=(2, 2)),
    PoolingCase((1, 2, 60, 80), (17, 16), stride=(2, 1), dilation=(3, 2)),
]


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("case", SMALL, ids=str)
    def test_small(self, backend, rng, case, dtype):
        x, error = rng.standard_normal(case.x, dtype), rng.standard_normal(case.y, dtype)
        case.check(backend, x, error)

    @pytest.mark.parametrize("case", EVERY_SIZE, ids=str)
    def test_every_size(self, fast_backend, rng, case, dtype):
        x, error = rng.standard_normal(case.x, dtype), rng.standard_normal(case.y, dtype)
        case.check(fast_backend, x, error)

    @pytest.mark.parametrize("case", SMALL, ids=str)
    def test_ties(self, backend, rng, case, dtype):
        """Few values, zeros of both signs among them: equal cells are the rule."""
        x = rng.choice(np.array([-1.0, -0.0, 0.0, 1.0], dtype), case.x)
        case.check(backend, x, rng.standard_normal(case.y, dtype))

    @pytest.mark.parametrize("case", [*SMALL, *EVERY_SIZE], ids=str)
    def test_infinity_and_nan(self, fast_backend, rng, case, dtype):
        values = np.array([-np.inf, -np.inf, -np.inf, np.inf, np.nan, 0, 1], dtype)
        x = rng.choice(values, case.x)
        case.check(fast_backend, x, rng.standard_normal(case.y, dtype))

    @pytest.mark.parametrize("value", [-np.inf, np.nan, 2.5])
    def test_all_equal(self, backend, rng, value, dtype):
        case = SMALL[4]
        case.check(backend, np.full(case.x, value, dtype), rng.standard_normal(case.y, dtype))

    def test_infinite_errors_reach_only_the_winners(self, backend, rng, dtype):
        case = SMALL[3]
        error = rng.standard_normal(case.y, dtype)
        error[0, 0, 0, 0], error[1, 2, -1, -1], error[0, 1, 1, 1] = np.inf, -np.inf, np.nan
        case.check(backend, rng.standard_normal(case.x, dtype), error)


LEVELS = [
    PoolingCase((1, 2, 14, 40), (4, 3), dilation=(3, 2)),
    PoolingCase((1, 2, 11, 37), (8, 8)),
    PoolingCase((1, 1, 24, 60), (10, 11), dilation=(2, 3)),
    PoolingCase((2, 1, 90, 18), (1, 10)),
    PoolingCase((1, 1, 700, 20), (3, 4), dilation=(2, 1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [*SMALL, *LEVELS], ids=str)
class TestBits:
    """Of the maxima, zeros and NaN included, whatever else is asked for."""

    def test_without_an_argmax(self, backend, rng, case, dtype):
        x = rng.choice(np.array([-1, -0.0, 0.0, 1, np.nan, np.inf], dtype), case.x)
        forward = ("max_pooling.forward", x, case.kernel)
        y, argmax = call(backend, *forward, **case.options)
        alone, nothing = call(backend, *forward, **case.options, argmax=False)
        assert nothing is None
        assert alone.tobytes() == y.tobytes()
        expected = REFERENCE.max_pooling.forward(x, case.kernel, **case.options)
        assert y.tobytes() == expected[0].astype(dtype).tobytes()
        np.testing.assert_array_equal(argmax, expected[1])

    @pytest.mark.parametrize("activation", EACH, ids=str)
    def test_with_an_activation(self, backend, rng, case, dtype, activation):
        """As if it came afterwards."""
        x = rng.standard_normal(case.x, dtype)
        forward = ("max_pooling.forward", x, case.kernel)
        y, argmax = call(backend, *forward, **case.options)
        expected = call(backend, "activation.forward", y, activation)
        for wanted in (True, False):
            options = case.options | {"activation": activation, "argmax": wanted}
            pooled, cells = call(backend, *forward, **options)
            assert pooled.tobytes() == expected.tobytes()
            if wanted:
                np.testing.assert_array_equal(cells, argmax)


@pytest.mark.parametrize("cells", [(16, 16), (17, 16)], ids=["uint8", "int32"])
@pytest.mark.parametrize("winner", [0, 15, 128, 254, 255, "last"])
def test_argmax_of_large_windows(backend, cells, winner):
    """255 is the last cell that one byte can name."""
    last = cells[0] * cells[1] - 1
    x = np.zeros((1, 1, *cells), np.float32)
    x.flat[last if winner == "last" else winner] = 1
    y, argmax = call(backend, "max_pooling.forward", x, cells)
    assert y.ravel().tolist() == [1]
    assert argmax.ravel().tolist() == [last if winner == "last" else winner]
    assert argmax.dtype == (np.uint8 if last == 255 else np.int32)
    dx = call(backend, "max_pooling.backward", 3 * y, argmax, cells, cells)
    np.testing.assert_array_equal(dx, 3 * x)


def test_first_maximum_and_first_nan_win(any_backend):
    nan = np.nan
    rows = [[1, 5, 5], [5, nan, 2], [nan, 9, nan], [-np.inf] * 3, [-0.0, 0.0, -0.0], [nan] * 3]
    x = np.array(rows)[None, :, None, :]
    y, argmax = call(any_backend, "max_pooling.forward", x, (1, 3))
    np.testing.assert_array_equal(y.ravel(), [5, nan, nan, -np.inf, 0, nan])
    assert argmax.ravel().tolist() == [1, 1, 0, 0, 0, 0]
    assert np.signbit(y[0, 4, 0, 0])


@pytest.mark.parametrize("case", SMALL[1:6], ids=str)
def test_gradient_by_finite_differences(any_backend, rng, case):
    x = rng.permutation(np.prod(case.x)).reshape(case.x) / 8
    error = rng.standard_normal(case.y)
    _, argmax = call(any_backend, "max_pooling.forward", x, case.kernel, **case.options)
    backward = ("max_pooling.backward", error, argmax, case.x[2:], case.kernel)
    assert_gradient(
        lambda x: call(any_backend, "max_pooling.forward", x, case.kernel, **case.options)[0],
        call(any_backend, *backward, **case.options),
        x,
        error,
        exhaustive=any_backend.name == "reference",
    )


@pytest.mark.parametrize("case", SMALL[:9], ids=str)
def test_reference_against_a_loop_over_every_cell(rng, case):
    x, error = rng.integers(-3, 4, case.x).astype(float), rng.standard_normal(case.y)
    (sy, sx), (dy, dx) = case.stride, case.dilation
    y, argmax, gradient = np.empty(case.y), np.empty(case.y, np.uint8), np.zeros(case.x)
    for n, c, oy, ox in np.ndindex(case.y):
        window = [
            (x[n, c, oy * sy + i * dy, ox * sx + j * dx], -number)
            for number, (i, j) in enumerate(np.ndindex(case.kernel))
        ]
        value, number = max(window)
        i, j = divmod(-number, case.kernel[1])
        y[n, c, oy, ox], argmax[n, c, oy, ox] = value, -number
        gradient[n, c, oy * sy + i * dy, ox * sx + j * dx] += error[n, c, oy, ox]
    result = REFERENCE.max_pooling.forward(x, case.kernel, **case.options)
    np.testing.assert_array_equal(result[0], y)
    np.testing.assert_array_equal(result[1], argmax)
    assert result[1].dtype == np.uint8
    backward = (error, argmax, case.x[2:], case.kernel)
    result = REFERENCE.max_pooling.backward(*backward, **case.options)
    assert relative_difference(result, gradient) <= 1e-12


X, ERROR = np.zeros((2, 3, 6, 7)), np.zeros((2, 3, 3, 2))
ARGMAX = np.zeros(ERROR.shape, np.uint8)
WINDOW = {"kernel": (2, 3), "stride": (2, 3)}
CALLS = {
    "max_pooling.forward": {"x": X, **WINDOW},
    "max_pooling.backward": {"error": ERROR, "argmax": ARGMAX, "size": (6, 7), **WINDOW},
}
REFUSALS = [
    (
        "max_pooling.forward",
        {"activation": "gelu"},
        ValueError,
        UNKNOWN,
    ),
    (
        "max_pooling.forward",
        {"kernel": (2, 0)},
        ValueError,
        "kernel is (2, 0); expected an int or a pair (y, x) of ints of at least 1",
    ),
    (
        "max_pooling.forward",
        {"stride": -1},
        ValueError,
        "stride is -1; expected an int or a pair (y, x) of ints of at least 1",
    ),
    (
        "max_pooling.forward",
        {"dilation": 1.0},
        ValueError,
        "dilation is 1.0; expected an int or a pair (y, x) of ints of at least 1",
    ),
    (
        "max_pooling.forward",
        {"kernel": (2, 8)},
        ValueError,
        "input size is 6 x 7; expected at least the footprint 2 x 8 of kernel (2, 8) "
        "with dilation (1, 1)",
    ),
    (
        "max_pooling.backward",
        {"size": (7, 9)},
        ValueError,
        "error has shape 2 x 3 x 3 x 2; expected 2 x 3 x 3 x 3, no axis empty",
    ),
    (
        "max_pooling.backward",
        {"argmax": ARGMAX[:, :, :2].copy()},
        ValueError,
        "argmax has shape 2 x 3 x 2 x 2; expected 2 x 3 x 3 x 2, no axis empty",
    ),
    (
        "max_pooling.backward",
        {"argmax": ARGMAX.astype(np.int32)},
        TypeError,
        "argmax has dtype int32; expected uint8 in native byte order",
    ),
    (
        "max_pooling.backward",
        {
            "error": np.zeros((1, 1, 1, 2)),
            "argmax": np.zeros((1, 1, 1, 2), np.uint8),
            "size": (17, 17),
            "kernel": (17, 16),
            "stride": 1,
        },
        TypeError,
        "argmax has dtype uint8; expected int32 in native byte order",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
