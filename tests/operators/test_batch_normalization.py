"""Frozen batch normalisation against the reference, and the reference against literal numbers."""

import numpy as np
import pytest

from kernels.activation import Activation
from tests.activations import EACH, UNKNOWN, each_activation
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
from tests.refusals import assert_refused, refusals

SMALL = [(1, 1, 1, 1), (2, 3, 5, 7), (3, 17, 2, 1)]
REAL = [(1, 64, 83, 61), (256, 200, 1, 1), (4100, 5, 1, 1), (2, 5, 1, 9), (1, 3, 500, 300)]
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
    for activation in (None, *EACH):
        arguments = x, mean, variance, gamma, beta, EPSILON, activation
        name, options = "batch_normalization.forward", {"tolerance": FORWARD[dtype]}
        assert_matches_reference(backend, name, *arguments, **options)
        with np.errstate(invalid="ignore"):
            y = REFERENCE.batch_normalization.forward(*arguments).astype(dtype)
        arguments = error, x, mean, variance, gamma, EPSILON, activation, y
        name, options = "batch_normalization.backward", {"tolerance": GRADIENT[dtype]}
        assert_matches_reference(backend, name, *arguments, **options)


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


@pytest.mark.parametrize("place", ["error", "x", "y"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_takes_the_place_of_an_argument(backend, rng, place, dtype):
    memory, norm = backend.memory, backend.batch_normalization
    values = operands(rng, (2, 3, 5, 7), dtype)
    names = ("x", "mean", "variance", "gamma", "beta", "error")
    x, mean, variance, gamma, beta, error = (memory.to_device(values[n]) for n in names)
    y = norm.forward(x, mean, variance, gamma, beta, EPSILON, "tanh")
    given = (error, x, mean, variance, gamma, EPSILON, "tanh", y)
    expected = [memory.to_host(a) for a in norm.backward(*given)]
    out = {"error": error, "x": x, "y": y}[place]
    result = norm.backward(*given, out=out)
    assert result[0] is out
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_array_equal(memory.to_host(one), other)


class TestFold:
    @pytest.mark.parametrize("biased", [True, False])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_against_reference(self, backend, rng, dtype, biased):
        values = operands(rng, (1, 7, 1, 1), dtype)
        vectors = [values[n] for n in ("mean", "variance", "gamma", "beta")]
        weights = rng.standard_normal((7, 3, 2, 5), dtype)
        bias = rng.standard_normal(7, dtype) if biased else None
        name, options = "batch_normalization.fold", {"tolerance": FORWARD[dtype]}
        assert_matches_reference(backend, name, weights, bias, *vectors, EPSILON, **options)

    def test_is_a_convolution_and_its_normalisation(self, rng):
        values = operands(rng, (1, 4, 1, 1))
        vectors = [values[n] for n in ("mean", "variance", "gamma", "beta")]
        x, bias = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal(4)
        weights = rng.standard_normal((4, 3, 2, 3))
        convolution, norm = REFERENCE.convolution, REFERENCE.batch_normalization
        both = norm.forward(convolution.forward(x, weights, bias), *vectors, EPSILON)
        folded = convolution.forward(x, *norm.fold(weights, bias, *vectors, EPSILON))
        assert relative_difference(folded, both) <= 1e-14


class TestFiniteDifferences:
    @each_activation
    @pytest.mark.parametrize("by", ["x", "gamma", "beta"])
    def test_gradient(self, any_backend, rng, by, activation):
        def forward(value):
            given = [(values | {by: value})[n] for n in ("x", "mean", "variance", "gamma", "beta")]
            return call(any_backend, "batch_normalization.forward", *given, EPSILON, activation)

        values = operands(rng, (2, 3, 2, 3))
        given = [values[n] for n in ("error", "x", "mean", "variance", "gamma")]
        y = forward(values[by])
        name = "batch_normalization.backward"
        result = call(any_backend, name, *given, EPSILON, activation, y)
        gradient = dict(zip(("x", "gamma", "beta"), result))[by]
        exhaustive = any_backend.name == "reference"
        assert_gradient(forward, gradient, values[by], values["error"], exhaustive=exhaustive)


def test_by_hand(any_backend):
    x = np.array([1.0, 4, 7, 10]).reshape(1, 2, 1, 2)
    error = np.array([1.0, 2, 3, 4]).reshape(1, 2, 1, 2)
    mean, variance = np.array([1.0, 4]), np.array([3.0, 0])
    gamma, beta = np.array([2.0, -0.5]), np.array([10.0, 0])
    prefix = "batch_normalization"
    y = call(any_backend, f"{prefix}.forward", x, mean, variance, gamma, beta, 1.0)
    np.testing.assert_allclose(y.ravel(), [10, 13, -1.5, -3], rtol=1e-14)
    y = call(any_backend, f"{prefix}.forward", x, mean, variance, gamma, beta, 1.0, "relu")
    np.testing.assert_allclose(y.ravel(), [10, 13, 0, 0], rtol=1e-14)
    given = error, x, mean, variance, gamma, 1.0
    dx, *gradients = call(any_backend, f"{prefix}.backward", *given)
    np.testing.assert_allclose(dx.ravel(), [1, 2, -1.5, -2], rtol=1e-14)
    np.testing.assert_allclose(gradients, [[3, 33], [3, 7]], rtol=1e-14)
    dx, *gradients = call(any_backend, f"{prefix}.backward", *given, "relu", y)
    np.testing.assert_allclose(dx.ravel(), [1, 2, 0, 0], rtol=1e-14)
    np.testing.assert_allclose(gradients, [[3, 0], [3, 0]], rtol=1e-14)
    weights, vectors = np.array([1.0, 2]).reshape(2, 1, 1, 1), (mean, variance, gamma, beta)
    weights, bias = call(any_backend, f"{prefix}.fold", weights, np.ones(2), *vectors, 1.0)
    np.testing.assert_allclose(weights.ravel(), [1, -1], rtol=1e-14)
    np.testing.assert_allclose(bias, [10, 1.5], rtol=1e-14)


X, VECTOR = np.zeros((2, 3, 4, 5)), np.ones(3)
VECTORS = {"mean": VECTOR, "variance": VECTOR, "gamma": VECTOR, "beta": VECTOR}
CALLS = {
    "batch_normalization.forward": {"x": X, **VECTORS, "epsilon": EPSILON, "activation": None},
    "batch_normalization.backward": {
        "error": X,
        "x": X,
        "mean": VECTOR,
        "variance": VECTOR,
        "gamma": VECTOR,
        "epsilon": EPSILON,
        "activation": "relu",
        "y": X,
        "out": None,
    },
    "batch_normalization.fold": {
        "weights": np.zeros((3, 1, 2, 2)),
        "bias": VECTOR,
        **VECTORS,
        "epsilon": EPSILON,
    },
}
REFUSALS = [
    row
    for function, arguments in CALLS.items()
    for name in ("mean", "variance", "gamma", "beta", "bias")
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
        "batch_normalization.backward",
        {name: X[:1]},
        ValueError,
        f"{name} has shape 1 x 3 x 4 x 5; expected 2 x 3 x 4 x 5, no axis empty",
    )
    for name in ("x", "y", "out")
]
REFUSALS += [
    (
        "batch_normalization.backward",
        {"x": X.astype(np.float32)},
        TypeError,
        "x has dtype float32; expected float64, the dtype of error",
    ),
    (
        "batch_normalization.backward",
        {"y": None},
        TypeError,
        "y is a NoneType; expected",
    ),
    *(
        (
            f"batch_normalization.{function}",
            {"activation": activation},
            ValueError,
            message,
        )
        for function in ("forward", "backward")
        for activation, message in (
            ("gelu", UNKNOWN),
            (
                Activation("leaky_relu", 0.0),
                "slope is 0.0; expected a number above 0 and finite in float32",
            ),
        )
    ),
    (
        "batch_normalization.fold",
        {"weights": np.zeros((3, 1, 2))},
        ValueError,
        "weights has ",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
