"""Activations against the reference, and the reference against values written out by hand."""

import numpy as np
import pytest

from kernels import get_backend
from kernels.activation import ACTIVATIONS, Activation, cpu, cuda, reference
from tests.activations import UNKNOWN, each_activation
from tests.comparison import (
    DTYPES,
    FORWARD,
    GRADIENT,
    REFERENCE,
    assert_matches_reference,
    call,
)
from tests.finite_differences import assert_gradient
from tests.refusals import assert_refused, refusals

SMALL = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 17, 1, 3)]
REAL = [(1, 48, 93, 71), (256, 200, 1, 1), *((1, 1, 1, w) for w in range(2, 40))]
EXTREMES = [0.0, -0.0, 1e-30, -1e-30, 9.0, -9.0, 100.0, -100.0, 1000.0, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", DTYPES)
@each_activation
class TestAgainstReference:
    @pytest.mark.parametrize("shape", SMALL, ids=str)
    def test_small(self, backend, rng, shape, activation, dtype):
        check(backend, 3 * rng.standard_normal(shape, dtype), activation)

    @pytest.mark.parametrize("shape", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, shape, activation, dtype):
        check(fast_backend, 3 * rng.standard_normal(shape, dtype), activation)

    def test_extremes(self, backend, activation, dtype):
        check(backend, np.array(EXTREMES, dtype).reshape(1, 2, 2, 3), activation)

    def test_non_finite_errors(self, backend, activation, dtype):
        """Where y is 0 or NaN too: ReLU drops an infinite error at y = 0 and passes it at NaN."""
        y, error = np.meshgrid([-0.25, 0, 0.5, 1, np.nan], [1, np.inf, -np.inf, np.nan])
        y, error = y.astype(dtype)[None, None], error.astype(dtype)[None, None]
        tolerance = GRADIENT[dtype]
        arguments = (backend, "activation.backward", error, y, activation)
        assert_matches_reference(*arguments, tolerance=tolerance)


def check(backend, x, activation):
    dtype = str(x.dtype)
    with np.errstate(invalid="ignore"):
        y = REFERENCE.activation.forward(x, activation).astype(dtype)
    error = x[..., ::-1].copy()
    tolerance = 0 if activation == "relu" else FORWARD[dtype]
    assert_matches_reference(backend, "activation.forward", x, activation, tolerance=tolerance)
    tolerance = 0 if activation == "relu" else GRADIENT[dtype]
    arguments = (backend, "activation.backward", error, y, activation)
    assert_matches_reference(*arguments, tolerance=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_values_keep_their_relative_precision(backend, dtype):
    """tanh(x) and exp(x) - 1 are x for tiny x, and sigmoid(x) is exp(x) for very negative x,
    not 0."""
    tiny = np.array([1e-4, -1e-6, 1e-20, -1e-30], dtype).reshape(1, 4, 1, 1)
    y = call(backend, "activation.forward", tiny, "tanh")
    np.testing.assert_allclose(y, np.tanh(tiny.astype(np.float64)), rtol=FORWARD[dtype])
    y = call(backend, "activation.forward", -np.abs(tiny), Activation("elu", 1.0))
    expected = np.expm1(-np.abs(tiny.astype(np.float64)))
    np.testing.assert_allclose(y, expected, rtol=FORWARD[dtype])
    low = np.array([-10, -20, -40, -80], dtype).reshape(1, 4, 1, 1)
    y = call(backend, "activation.forward", low, "sigmoid")
    np.testing.assert_allclose(y, np.exp(low.astype(np.float64)), rtol=1e-4)


@pytest.mark.cpu
def test_elu_is_exact_to_some_units_in_the_last_place(rng):
    x = -np.exp(rng.uniform(-30, 5, 100_000)).astype(np.float32).reshape(1, 1, 1, -1)
    y = call(get_backend("cpu"), "activation.forward", x, Activation("elu", 1.0))
    expected = np.expm1(x.astype(np.float64))
    assert (np.abs(y - expected) <= 3 * np.spacing(np.abs(y))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@each_activation
def test_bits_do_not_depend_on_the_place(backend, rng, activation, dtype):
    """Vectorised loops and their tails, or threads, must compute alike."""
    x = 2 * rng.standard_normal(41, dtype)
    whole = call(backend, "activation.forward", x.reshape(1, 1, 1, 41), activation).ravel()
    for start in range(1, 19, 3):
        part = x[start:].reshape(1, -1, 1, 1)
        y = call(backend, "activation.forward", part, activation)
        assert y.tobytes() == whole[start:].tobytes()


@each_activation
def test_gradient_by_finite_differences(any_backend, rng, activation):
    x = rng.uniform(0.1, 2, (2, 2, 2, 3)) * rng.choice([-1, 1], (2, 2, 2, 3))
    error = rng.standard_normal(x.shape)
    y = call(any_backend, "activation.forward", x, activation)
    assert_gradient(
        lambda x: call(any_backend, "activation.forward", x, activation),
        call(any_backend, "activation.backward", error, y, activation),
        x,
        error,
        exhaustive=any_backend.name == "reference",
    )


class TestByHand:
    def test_relu(self, any_backend):
        x = np.array([-np.inf, -2, -0.0, 0, 3, np.inf, np.nan]).reshape(1, 7, 1, 1)
        y = call(any_backend, "activation.forward", x, "relu")
        np.testing.assert_array_equal(y.ravel(), [0, 0, 0, 0, 3, np.inf, np.nan])
        assert not np.signbit(y[:, :4]).any()
        error = np.arange(1.0, 8).reshape(1, 7, 1, 1)
        dx = call(any_backend, "activation.backward", error, y, "relu")
        np.testing.assert_array_equal(dx.ravel(), [0, 0, 0, 0, 5, 6, 7])

    def test_tanh_and_sigmoid(self, any_backend):
        x = np.log([0.5, 1, 2]).reshape(1, 3, 1, 1)
        error = np.full_like(x, 2.0)
        for activation, y, dx in [
            ("tanh", [-0.6, 0, 0.6], [1.28, 2, 1.28]),
            ("sigmoid", [1 / 3, 1 / 2, 2 / 3], [4 / 9, 1 / 2, 4 / 9]),
        ]:
            result = call(any_backend, "activation.forward", x, activation)
            np.testing.assert_allclose(result.ravel(), y, rtol=1e-14, atol=1e-16)
            result = call(any_backend, "activation.backward", error, result, activation)
            np.testing.assert_allclose(result.ravel(), dx, rtol=1e-14)

    def test_leaky_relu_and_elu(self, any_backend):
        x = np.array([-np.inf, -np.log(4), -0.0, 3, np.nan]).reshape(1, 5, 1, 1)
        error = np.arange(1.0, 6).reshape(1, 5, 1, 1)
        for activation, y, dx in [
            (
                Activation("leaky_relu", 0.5),
                [-np.inf, -np.log(2), 0, 3, np.nan],
                [0.5, 1, 1.5, 4, 5],
            ),
            (Activation("elu", 2), [-2, -1.5, 0, 3, np.nan], [0, 1, 6, 4, 5]),
        ]:
            result = call(any_backend, "activation.forward", x, activation)
            np.testing.assert_allclose(result.ravel(), y, rtol=1e-14)
            result = call(any_backend, "activation.backward", error, result, activation)
            np.testing.assert_allclose(result.ravel(), dx, rtol=1e-14)


@pytest.mark.parametrize("module", [reference, cpu, cuda])
def test_every_module_has_the_formulas_of_every_activation(module):
    assert module._FORMULAS.keys() == ACTIVATIONS.keys()


def test_compiled_code_knows_each_activation_by_a_number_of_its_own():
    assert {one.number for one in cpu._FORMULAS.values()} == {*range(len(ACTIVATIONS))}


@pytest.mark.cpu
@pytest.mark.parametrize("number", [len(ACTIVATIONS), 99, cpu.NONE, -7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_that_compiled_code_does_not_know_gives_nan(number, dtype):
    activation = cpu.Numbered(number, np.dtype(dtype).type(0.5))
    y, gradient, ones = (np.ones(5, dtype) for _ in range(3))
    cpu.activate(y, activation)
    cpu.differentiate(gradient, ones, ones, activation)
    assert np.isnan(y).all()
    assert np.isnan(gradient).all()


X = np.zeros((2, 3, 4, 5))
CALLS = {
    "activation.forward": {"x": X, "activation": "relu"},
    "activation.backward": {"error": X, "y": X, "activation": "relu"},
}
BAD = [
    ("gelu", UNKNOWN),
    (None, UNKNOWN.replace("'gelu'", "None")),
    (Activation("gelu", 1.0), UNKNOWN),
    ("elu", "activation is 'elu'; expected Activation('elu', alpha)"),
    (Activation("elu"), "alpha is None; expected a number above 0 and finite in float32"),
    (
        Activation("relu", 0.5),
        "activation is Activation(name='relu', parameter=0.5); expected 'relu' without a parameter",
    ),
]
BAD += [
    (
        Activation("leaky_relu", value),
        f"slope is {value!r}; expected a number above 0 and finite in float32",
    )
    for value in (0, -0.5, np.nan, np.inf, 1e-50, 1e300, True, "1", 1j)
]
REFUSALS = [
    (function, {"activation": activation}, ValueError, message)
    for function in CALLS
    for activation, message in BAD
]
REFUSALS += [
    (
        "activation.backward",
        {"y": np.zeros((2, 3, 5, 4))},
        ValueError,
        "y has shape 2 x 3 x 5 x 4; expected 2 x 3 x 4 x 5, no axis empty",
    ),
    (
        "activation.backward",
        {"y": X.astype(np.float32)},
        TypeError,
        "y has dtype float32; expected float64, the dtype of error",
    ),
]


@pytest.mark.parametrize("refusal", refusals(CALLS, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
