"""Average pooling against the reference, and the reference against a loop over every cell."""

import numpy as np
import pytest

from kernels.window import Window
from tests.comparison import (
    DTYPES,
    FORWARD,
    GRADIENT,
    REFERENCE,
    assert_matches_reference,
    call,
    relative_difference,
)
from tests.finite_differences import assert_gradient
from tests.operators.test_max_pooling import EVERY_SIZE, SMALL
from tests.refusals import assert_refused, refusals


def check(case, backend, x, error):
    dtype = str(x.dtype)
    forward = ("average_pooling.forward", x, case.kernel)
    assert_matches_reference(backend, *forward, **case.options, tolerance=FORWARD[dtype])
    backward = ("average_pooling.backward", error, case.x[2:], case.kernel)
    assert_matches_reference(backend, *backward, **case.options, tolerance=GRADIENT[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("case", SMALL, ids=str)
    def test_small(self, backend, rng, case, dtype):
        x, error = rng.standard_normal(case.x, dtype), rng.standard_normal(case.y, dtype)
        check(case, backend, x, error)

    @pytest.mark.parametrize("case", EVERY_SIZE, ids=str)
    def test_every_size(self, fast_backend, rng, case, dtype):
        x, error = rng.standard_normal(case.x, dtype), rng.standard_normal(case.y, dtype)
        check(case, fast_backend, x, error)

    @pytest.mark.parametrize("case", SMALL[1:6], ids=str)
    def test_infinity_and_nan(self, backend, rng, case, dtype):
        x, error = rng.standard_normal(case.x, dtype), rng.standard_normal(case.y, dtype)
        for array in (x, error):
            array[0, 0, 0, 0], array[-1, -1, -1, -1], array[0, -1, 1, 1] = np.inf, -np.inf, np.nan
        check(case, backend, x, error)


@pytest.mark.parametrize(
    ("patch", "kernel", "stride", "dilation"),
    [
        ((7, 6), (3, 2), (2, 3), (1, 1)),
        ((3, 4), (2, 3), (1, 1), (3, 2)),
        ((4, 5), (2, 2), (2, 1), (2, 3)),
    ],
)
def test_patches_have_the_bits_of_the_dense_form(backend, rng, patch, kernel, stride, dilation):
    """A patch net's cells are d pixels apart, its windows s cells: s * d pixels in the image."""
    (sy, sx), (dy, dx) = stride, dilation
    h, w = Window(patch, dilation=dilation).footprint
    image = rng.standard_normal((1, 3, h + 1, w + 2), np.float32)
    origins = list(np.ndindex(2, 3))
    cut = np.concatenate([image[:, :, y : y + h : dy, x : x + w : dx] for y, x in origins])
    scanned = call(backend, "average_pooling.forward", cut, kernel, stride=stride)
    dense = call(backend, "average_pooling.forward", image, kernel, dilation=dilation)
    for (y, x), result in zip(origins, scanned, strict=True):
        rows, columns = np.ogrid[: result.shape[1], : result.shape[2]]
        expected = dense[0, :, y + rows * sy * dy, x + columns * sx * dx].transpose(2, 0, 1)
        assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("case", SMALL[1:6], ids=str)
def test_gradient_by_finite_differences(any_backend, rng, case):
    x, error = rng.standard_normal(case.x), rng.standard_normal(case.y)
    backward = ("average_pooling.backward", error, case.x[2:], case.kernel)
    assert_gradient(
        lambda x: call(any_backend, "average_pooling.forward", x, case.kernel, **case.options),
        call(any_backend, *backward, **case.options),
        x,
        error,
        exhaustive=any_backend.name == "reference",
    )


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_reference_against_a_loop_over_every_cell(rng, case):
    x, error = rng.standard_normal(case.x), rng.standard_normal(case.y)
    (sy, sx), (dy, dx) = case.stride, case.dilation
    y, gradient = np.zeros(case.y), np.zeros(case.x)
    for n, c, oy, ox in np.ndindex(case.y):
        for i, j in np.ndindex(case.kernel):
            cell = (n, c, oy * sy + i * dy, ox * sx + j * dx)
            y[n, c, oy, ox] += x[cell] / np.prod(case.kernel)
            gradient[cell] += error[n, c, oy, ox] / np.prod(case.kernel)
    result = REFERENCE.average_pooling.forward(x, case.kernel, **case.options)
    assert relative_difference(result, y) <= 1e-12
    result = REFERENCE.average_pooling.backward(error, case.x[2:], case.kernel, **case.options)
    assert relative_difference(result, gradient) <= 1e-12


WINDOW = {"kernel": (2, 3), "stride": (2, 3)}
CALLS = {
    "average_pooling.forward": {"x": np.zeros((2, 3, 6, 7)), **WINDOW},
    "average_pooling.backward": {"error": np.zeros((2, 3, 3, 2)), "size": (6, 7), **WINDOW},
}
REFUSALS = [
    (
        "average_pooling.forward",
        {"kernel": 0},
        ValueError,
        "kernel is 0; expected an int or a pair (y, x) of ints of at least 1",
    ),
    (
        "average_pooling.forward",
        {"dilation": (3, 4)},
        ValueError,
        "input size is 6 x 7; expected at least the footprint 4 x 9 of kernel (2, 3) "
        "with dilation (3, 4)",
    ),
    (
        "average_pooling.backward",
        {"stride": (1, 3)},
        ValueError,
        "error has shape 2 x 3 x 3 x 2; expected 2 x 3 x 5 x 2, no axis empty",
    ),
    (
        "average_pooling.backward",
        {"size": True},
        ValueError,
        "size is True; expected an int or a pair (y, x) of ints of at least 1",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
