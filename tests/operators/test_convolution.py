"""Convolution against the reference, and the reference against SciPy with zero-filled kernels."""

import numpy as np
import pytest
from scipy.signal import correlate

from kernels.activation import Activation
from kernels.window import Window
from tests.activations import UNKNOWN, each_activation
from tests.comparison import (
    DTYPES,
    GRADIENT,
    REFERENCE,
    assert_matches_reference,
    call,
    relative_difference,
)
from tests.finite_differences import assert_gradient
from tests.operators.convolutions import FUNCTIONS, ConvolutionCase
from tests.refusals import assert_refused, refusals

SMALL = [
    ConvolutionCase((1, 1, 1, 1), 1, (1, 1)),
    ConvolutionCase((2, 3, 5, 7), 5, (1, 1)),
    ConvolutionCase((1, 2, 8, 9), 2, (1, 1), stride=(9, 9)),
    ConvolutionCase((1, 1, 6, 7), 1, (3, 3)),
    ConvolutionCase((1, 2, 5, 2), 3, (2, 1)),
    ConvolutionCase((2, 3, 9, 11), 5, (3, 2), dilation=(2, 3)),
    ConvolutionCase((2, 3, 9, 11), 5, (2, 3), stride=(2, 3)),
    ConvolutionCase((2, 3, 9, 11), 2, (3, 2), stride=(2, 1), dilation=(1, 3)),
    ConvolutionCase((1, 2, 11, 13), 3, (2, 3), stride=(3, 2), dilation=(2, 3)),
    ConvolutionCase((1, 2, 7, 9), 3, (3, 2), stride=(2, 2), dilation=(2, 4)),
    ConvolutionCase((1, 1, 8, 10), 2, (3, 3), stride=(3, 3)),
    ConvolutionCase((2, 2, 9, 8), 2, (2, 1), stride=(3, 4)),
    ConvolutionCase((3, 5, 4, 3), 17, (4, 3)),
    ConvolutionCase((1, 3, 7, 5), 2, (4, 3), dilation=(2, 2)),
    ConvolutionCase((1, 17, 3, 4), 3, (2, 2)),
    ConvolutionCase((1, 3, 3, 5), 25, (2, 3)),
    ConvolutionCase((1, 1, 3, 19), 1, (1, 3), dilation=(1, 8)),
]
WIDTHS = [
    ConvolutionCase((1, 2, 3, w), filters, (2, min(2, w)), dilation=(1, 2 if w > 2 else 1))
    for w in (*range(1, 10), 15, 16, 17, 18, 31, 33, 34, 49, 50, 65)
    for filters in (1, 9, 33)
]
BATCHES = [
    ConvolutionCase((batch, 3, 4, 3), 17, (2, 2), stride=(1, stride))
    for batch in (7, 8, 9, 15, 16, 17, 47, 48, 50)
    for stride in (1, 2)
]
REAL = [
    ConvolutionCase((1, 48, 70, 90), 48, (5, 5), dilation=(2, 2)),
    ConvolutionCase((1, 64, 37, 53), 64, (3, 3)),
    ConvolutionCase((1, 25, 45, 62), 50, (3, 4), dilation=(8, 5)),
    ConvolutionCase((2, 3, 67, 61), 32, (7, 7), stride=(2, 2)),
    ConvolutionCase((2, 7, 41, 38), 19, (3, 2), stride=(2, 3), dilation=(3, 2)),
    ConvolutionCase((1, 1, 95, 71), 48, (4, 4)),
    ConvolutionCase((64, 1, 28, 28), 20, (5, 5)),
    ConvolutionCase((37, 48, 9, 9), 48, (4, 4)),
    ConvolutionCase((256, 200, 1, 1), 200, (1, 1)),
    ConvolutionCase((100, 200, 1, 1), 3, (1, 1)),
    ConvolutionCase((130, 50, 4, 4), 101, (4, 4)),
    ConvolutionCase((1, 200, 31, 33), 3, (1, 1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("function", FUNCTIONS)
    @pytest.mark.parametrize("case", SMALL, ids=str)
    def test_small(self, backend, rng, case, function, dtype):
        case.assert_matches_reference(backend, function, **case.operands(rng, dtype))

    @pytest.mark.parametrize("function", FUNCTIONS)
    @pytest.mark.parametrize("case", [*WIDTHS, *BATCHES, *REAL], ids=str)
    def test_every_size(self, fast_backend, rng, case, function, dtype):
        case.assert_matches_reference(fast_backend, function, **case.operands(rng, dtype))

    @pytest.mark.parametrize("case", SMALL[4:6], ids=str)
    def test_without_bias(self, backend, rng, case, dtype):
        operands = case.operands(rng, dtype) | {"bias": None}
        case.assert_matches_reference(backend, "forward", **operands)

    @pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 17, 1, 1)], ids=str)
    def test_gradient_bias(self, backend, rng, shape, dtype):
        check_gradient_bias(backend, rng.standard_normal(shape, dtype))

    @pytest.mark.parametrize("shape", [(1, 48, 123, 97), (256, 50, 3, 3), (4100, 5, 1, 1)], ids=str)
    def test_gradient_bias_of_real_size(self, fast_backend, rng, shape, dtype):
        check_gradient_bias(fast_backend, rng.standard_normal(shape, dtype))


def check_gradient_bias(backend, error):
    tolerance = GRADIENT[str(error.dtype)]
    assert_matches_reference(backend, "convolution.gradient_bias", error, tolerance=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
class TestInfinityAndNaN:
    """They reach what reads them and nothing else: no tail is filled up with 0 * x."""

    CASE = ConvolutionCase((2, 3, 6, 7), 5, (2, 3), stride=(1, 2), dilation=(3, 1))

    def test_a_few(self, backend, rng, function, dtype):
        operands = self.CASE.operands(rng, dtype)
        operands["weights"][1, 2] = 0
        operands["bias"][1:4] = -np.inf, np.nan, np.inf
        for array in (operands["x"], operands["error"]):
            array[0, 0, 0, 0], array[0, -1, -1, -1] = np.inf, -np.inf
            array[0, 1, 1, 1] = np.nan
        self.CASE.assert_matches_reference(backend, function, **operands)

    @pytest.mark.parametrize("case", [*SMALL, *WIDTHS[::7], *BATCHES[::5]], ids=str)
    def test_at_the_end(self, fast_backend, rng, case, function, dtype):
        operands = case.operands(rng, dtype)
        operands["weights"][0, 0, 0, 0] = 0
        operands["x"][-1, -1, -1, -1] = operands["error"][-1, -1, -1, -1] = np.inf
        case.assert_matches_reference(fast_backend, function, **operands)


@pytest.mark.parametrize("dtype", DTYPES)
@each_activation
@pytest.mark.parametrize("case", [SMALL[4], SMALL[11]], ids=str)
def test_fused_activation_has_the_bits_of_a_separate_one(backend, rng, case, activation, dtype):
    operands = case.operands(rng, dtype)
    operands["x"][0, 0, 0, 0] = np.nan
    arguments = case.call("forward", **operands)
    fused = call(backend, *arguments, **case.options, activation=activation)
    plain = call(backend, *arguments, **case.options)
    assert np.isnan(fused).any()
    assert not np.array_equal(fused, plain, equal_nan=True)
    assert fused.tobytes() == call(backend, "activation.forward", plain, activation).tobytes()


DENSE = pytest.mark.parametrize(
    ("channels", "patch", "filters", "kernel", "stride", "dilation"),
    [
        (1, (6, 7), 3, (2, 3), (2, 2), (1, 1)),
        (3, (5, 6), 5, (3, 2), (2, 3), (1, 1)),
        (2, (3, 3), 17, (2, 2), (1, 1), (2, 3)),
        (3, (4, 5), 2, (2, 2), (2, 1), (3, 2)),
        (5, (3, 2), 4, (3, 2), (1, 1), (2, 2)),
    ],
)


class TestDenseForm:
    """Li, Zhao & Wang 2014: "exactly the same results as those by patch-by-patch scanning".

    A layer whose input patches have cells d pixels apart, and that has stride s in the patch net,
    gives at pixel (y, x) what the dense form gives at (y + i*s*d, x + j*s*d).
    """

    @DENSE
    def test_small(self, backend, rng, channels, patch, filters, kernel, stride, dilation):
        self.check(backend, rng, channels, patch, filters, kernel, stride, dilation, (2, 3))

    @DENSE
    def test_many(self, fast_backend, rng, channels, patch, filters, kernel, stride, dilation):
        self.check(fast_backend, rng, channels, patch, filters, kernel, stride, dilation, (5, 11))

    def check(self, backend, rng, channels, patch, filters, kernel, stride, dilation, pixels):
        def forward(maps, **options):
            name = "convolution.forward"
            return call(backend, name, maps, weights, bias, activation="relu", **options)

        (sy, sx), (dy, dx) = stride, dilation
        h, w = Window(patch, dilation=dilation).footprint
        size = (h + pixels[0] - 1, w + pixels[1] - 1)
        image = rng.standard_normal((1, channels, *size), np.float32)
        weights = rng.standard_normal((filters, channels, *kernel), np.float32)
        bias = rng.standard_normal(filters, np.float32)
        origins = list(np.ndindex(pixels))
        cut = np.concatenate([image[:, :, y : y + h : dy, x : x + w : dx] for y, x in origins])
        scanned = forward(cut, stride=stride)
        dense = forward(image, dilation=dilation)
        for (y, x), result in zip(origins, scanned, strict=True):
            rows, columns = np.ogrid[: result.shape[1], : result.shape[2]]
            expected = dense[0, :, y + rows * sy * dy, x + columns * sx * dx].transpose(2, 0, 1)
            assert result.tobytes() == expected.tobytes()
        alone = forward(cut[-1:], stride=stride)
        assert alone[0].tobytes() == scanned[-1].tobytes()


SMOOTH = [
    ConvolutionCase((2, 2, 4, 5), 3, (2, 2)),
    ConvolutionCase((1, 2, 7, 8), 2, (2, 3), stride=(2, 3), dilation=(3, 2)),
]


@pytest.mark.parametrize("case", SMOOTH, ids=str)
class TestFiniteDifferences:
    def test_input(self, any_backend, rng, case):
        self.check(any_backend, rng, case, "x", "gradient_input", "error", "weights", case.x[2:])

    def test_weights(self, any_backend, rng, case):
        self.check(any_backend, rng, case, "weights", "gradient_weights", "x", "error", case.kernel)

    def test_bias(self, any_backend, rng, case):
        self.check(any_backend, rng, case, "bias", "gradient_bias", "error")

    def check(self, backend, rng, case, by, function, *arguments):
        def forward(value):
            x, weights, bias = (value if n == by else operands[n] for n in ("x", "weights", "bias"))
            return call(backend, "convolution.forward", x, weights, bias, **case.options)

        operands = case.operands(rng, "float64")
        arguments = [operands[a] if isinstance(a, str) else a for a in arguments]
        options = {} if by == "bias" else case.options
        gradient = call(backend, f"convolution.{function}", *arguments, **options)
        exhaustive = backend.name == "reference"
        assert_gradient(forward, gradient, operands[by], operands["error"], exhaustive=exhaustive)


class TestReference:
    @pytest.mark.parametrize("case", SMALL, ids=str)
    def test_forward_is_correlation_with_a_zero_filled_kernel(self, rng, case):
        operands = case.operands(rng, "float64")
        x, weights, bias = operands["x"], operands["weights"], operands["bias"]
        window = Window(case.kernel, case.stride, case.dilation)
        (dy, dx), (sy, sx) = case.dilation, case.stride
        sparse = np.zeros((*weights.shape[:2], *window.footprint))
        sparse[:, :, ::dy, ::dx] = weights
        expected = [
            [correlate(image, kernel, mode="valid")[0] + b for kernel, b in zip(sparse, bias)]
            for image in x
        ]
        expected = np.array(expected)[:, :, ::sy, ::sx]
        y = REFERENCE.convolution.forward(x, weights, bias, **case.options)
        assert y.shape == expected.shape
        assert relative_difference(y, expected) <= 1e-12

    def test_a_case_by_hand(self):
        x = np.arange(12.0).reshape(1, 1, 3, 4)
        weights = np.array([[[[1.0, 10.0]]], [[[0.0, -1.0]]]])
        y = REFERENCE.convolution.forward(x, weights, np.array([0.5, 0]), stride=2, dilation=(1, 3))
        np.testing.assert_array_equal(y, [[[[30.5], [118.5]], [[-3.0], [-11.0]]]])

    @each_activation
    def test_activation_is_applied(self, rng, activation):
        x, weights = rng.standard_normal((1, 2, 4, 5)), rng.standard_normal((3, 2, 2, 2))
        plain = REFERENCE.convolution.forward(x, weights)
        fused = REFERENCE.convolution.forward(x, weights, activation=activation)
        np.testing.assert_array_equal(fused, REFERENCE.activation.forward(plain, activation))


X, WEIGHTS, ERROR = np.zeros((2, 3, 6, 7)), np.zeros((4, 3, 2, 3)), np.zeros((2, 4, 5, 5))
CALLS = {
    "convolution.forward": {"x": X, "weights": WEIGHTS, "bias": np.zeros(4)},
    "convolution.gradient_input": {"error": ERROR, "weights": WEIGHTS, "size": (6, 7)},
    "convolution.gradient_weights": {"x": X, "error": ERROR, "kernel": (2, 3)},
    "convolution.gradient_bias": {"error": ERROR},
}
REFUSALS = [
    (
        "convolution.forward",
        {"weights": np.zeros((4, 2, 2, 3))},
        ValueError,
        "weights has shape 4 x 2 x 2 x 3; expected any x 3 x any x any, no axis empty",
    ),
    (
        "convolution.forward",
        {"bias": np.zeros(5)},
        ValueError,
        "bias has shape 5; expected 4, no axis empty",
    ),
    (
        "convolution.forward",
        {"bias": np.zeros(4, np.float32)},
        TypeError,
        "bias has dtype float32; expected float64, the dtype of x",
    ),
    (
        "convolution.forward",
        {"weights": WEIGHTS.astype(np.float32)},
        TypeError,
        "weights has dtype float32; expected float64, the dtype of x",
    ),
    (
        "convolution.forward",
        {"dilation": (6, 1)},
        ValueError,
        "input size is 6 x 7; expected at least the footprint 7 x 3 of kernel (2, 3) "
        "with dilation (6, 1)",
    ),
    (
        "convolution.forward",
        {"stride": 0},
        ValueError,
        "stride is 0; expected an int or a pair (y, x) of ints of at least 1",
    ),
    (
        "convolution.forward",
        {"dilation": (1, 2, 3)},
        ValueError,
        "dilation is (1, 2, 3); expected an int or a pair (y, x) of ints of at least 1",
    ),
    (
        "convolution.forward",
        {"activation": "gelu"},
        ValueError,
        UNKNOWN,
    ),
    (
        "convolution.forward",
        {"activation": Activation("elu", -1.0)},
        ValueError,
        "alpha is -1.0; expected a number above 0 and finite in float32",
    ),
    (
        "convolution.gradient_input",
        {"weights": np.zeros((5, 3, 2, 3))},
        ValueError,
        "weights has shape 5 x 3 x 2 x 3; expected 4 x any x any x any, no axis empty",
    ),
    (
        "convolution.gradient_input",
        {"weights": WEIGHTS.astype(np.float32)},
        TypeError,
        "weights has dtype float32; expected float64, the dtype of error",
    ),
    (
        "convolution.gradient_input",
        {"size": (6, 8)},
        ValueError,
        "error has shape 2 x 4 x 5 x 5; expected 2 x 4 x 5 x 6, no axis empty",
    ),
    (
        "convolution.gradient_input",
        {"size": (6.0, 7)},
        ValueError,
        "size is (6.0, 7); expected an int or a pair (y, x) of ints of at least 1",
    ),
    (
        "convolution.gradient_input",
        {"size": (1, 7)},
        ValueError,
        "input size is 1 x 7; expected at least the footprint 2 x 3 of kernel (2, 3)",
    ),
    (
        "convolution.gradient_weights",
        {"error": ERROR[:1]},
        ValueError,
        "error has shape 1 x 4 x 5 x 5; expected 2 x any x any x any, no axis empty",
    ),
    (
        "convolution.gradient_weights",
        {"error": ERROR.astype(np.float32)},
        TypeError,
        "error has dtype float32; expected float64, the dtype of x",
    ),
    (
        "convolution.gradient_weights",
        {"kernel": (3, 3)},
        ValueError,
        "error has shape 2 x 4 x 5 x 5; expected 2 x 4 x 4 x 5, no axis empty",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
