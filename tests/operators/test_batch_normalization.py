"""Frozen batch normalisation against the reference, and the reference against literal numbers."""

import numpy as np
import pytest

from tests.comparison import DTYPES, FORWARD, GRADIENT, assert_matches_reference, call
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals

SMALL = [(1, 1, 1, 1), (2, 3, 5, 7), (3, 17, 2, 1)]
REAL = [(1, 64, 83, 61), (256, 200, 1, 1), (2, 5, 1, 9), (1, 3, 500, 300)]
EPSILON = 1e-3


def operands(rng, shape, dtype="float64"):
    channels = shape[1]
    return {
        "x": rng.standard_normal(shape, dtype),
        "mean": rng.standard_normal(channels, dtype),
        "variance": rng.uniform(0.1, 3, channels).astype(dtype),
        "gamma": rng.standard_normal(channels, dtype),
        "beta": rng.standard_normal(channels, dtype),
        "error": rng.standard_normal(shape, dtype),
    }


def check(backend, x, mean, variance, gamma, beta, error):
    dtype = str(x.dtype)
    for function, tolerance, *arguments in [
        ("forward", FORWARD, x, mean, variance, gamma, beta),
        ("backward_input", GRADIENT, error, variance, gamma),
        ("backward_parameters", GRADIENT, error, x, mean, variance),
    ]:
        name = f"batch_normalization.{function}"
        assert_matches_reference(backend, name, *arguments, EPSILON, tolerance=tolerance[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("shape", SMALL, ids=str)
    def test_small(self, backend, rng, shape, dtype):
        check(backend, **operands(rng, shape, dtype))

    @pytest.mark.parametrize("shape", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, shape, dtype):
        check(fast_backend, **operands(rng, shape, dtype))

    def test_infinity_and_nan(self, backend, rng, dtype):
        values = operands(rng, (2, 5, 2, 3), dtype)
        values["x"][0, :3, 0, 0] = np.inf, -np.inf, np.nan
        values["error"][1, 1:4, 0, 0] = np.inf, -np.inf, np.nan
        values["variance"][3] = 0
        values["gamma"][4] = np.nan
        check(backend, **values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_the_place(backend, rng, dtype):
    """A map's pixels, one by one as a patch net's outputs, give what the whole map gives."""
    values = operands(rng, (1, 3, 3, 9), dtype)
    x, *parameters = (values[n] for n in ("x", "mean", "variance", "gamma", "beta"))
    pixels = x.reshape(3, 27).T.reshape(27, 3, 1, 1).copy()
    whole = call(backend, "batch_normalization.forward", x, *parameters, EPSILON)
    scanned = call(backend, "batch_normalization.forward", pixels, *parameters, EPSILON)
    assert scanned.reshape(27, 3).T.tobytes() == whole.tobytes()


class TestFiniteDifferences:
    @pytest.mark.parametrize("by", ["x", "gamma", "beta"])
    def test_gradient(self, any_backend, rng, by):
        def forward(value):
            given = [(values | {by: value})[n] for n in ("x", "mean", "variance", "gamma", "beta")]
            return call(any_backend, "batch_normalization.forward", *given, EPSILON)

        values = operands(rng, (2, 3, 2, 3))
        error, x, mean, variance, gamma = (
            values[n] for n in ("error", "x", "mean", "variance", "gamma")
        )
        if by == "x":
            arguments = ("backward_input", error, variance, gamma)
        else:
            arguments = ("backward_parameters", error, x, mean, variance)
        function, *arguments = arguments
        result = call(any_backend, f"batch_normalization.{function}", *arguments, EPSILON)
        gradient = {"x": result, "gamma": result[0], "beta": result[1]}[by]
        exhaustive = any_backend.name == "reference"
        assert_gradient(forward, gradient, values[by], error, exhaustive=exhaustive)


def test_by_hand(any_backend):
    x = np.array([1.0, 4, 7, 10]).reshape(1, 2, 1, 2)
    error = np.array([1.0, 2, 3, 4]).reshape(1, 2, 1, 2)
    mean, variance = np.array([1.0, 4]), np.array([3.0, 0])
    gamma, beta = np.array([2.0, -0.5]), np.array([10.0, 0])
    prefix = "batch_normalization"
    y = call(any_backend, f"{prefix}.forward", x, mean, variance, gamma, beta, 1.0)
    np.testing.assert_allclose(y.ravel(), [10, 13, -1.5, -3], rtol=1e-14)
    dx = call(any_backend, f"{prefix}.backward_input", error, variance, gamma, 1.0)
    np.testing.assert_allclose(dx.ravel(), [1, 2, -1.5, -2], rtol=1e-14)
    gradients = call(any_backend, f"{prefix}.backward_parameters", error, x, mean, variance, 1.0)
    np.testing.assert_allclose(gradients, [[3, 33], [3, 7]], rtol=1e-14)


X, VECTOR = np.zeros((2, 3, 4, 5)), np.ones(3)
CALLS = {
    "batch_normalization.forward": {
        "x": X,
        "mean": VECTOR,
        "variance": VECTOR,
        "gamma": VECTOR,
        "beta": VECTOR,
        "epsilon": EPSILON,
    },
    "batch_normalization.backward_input": {
        "error": X,
        "variance": VECTOR,
        "gamma": VECTOR,
        "epsilon": EPSILON,
    },
    "batch_normalization.backward_parameters": {
        "error": X,
        "x": X,
        "mean": VECTOR,
        "variance": VECTOR,
        "epsilon": EPSILON,
    },
}
REFUSALS = [
    row
    for function, arguments in CALLS.items()
    for name in ("mean", "variance", "gamma", "beta")
    if name in arguments
    for row in [
        (
            function,
            {name: np.ones(4)},
            ValueError,
            f"{name} has shape 4; expected 3, no axis empty",
        ),
        (
            function,
            {name: np.ones(3, np.float32)},
            TypeError,
            f"{name} has dtype float32; expected float64, the dtype of ",
        ),
    ]
]
REFUSALS += [
    (
        "batch_normalization.backward_parameters",
        {"x": X[:1]},
        ValueError,
        "x has shape 1 x 3 x 4 x 5; expected 2 x 3 x 4 x 5, no axis empty",
    ),
    (
        "batch_normalization.backward_parameters",
        {"x": X.astype(np.float32)},
        TypeError,
        "x has dtype float32; expected float64, the dtype of error",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
