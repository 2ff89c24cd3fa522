"""Activations against the reference, and the reference against values written out by hand."""

import numpy as np
import pytest

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

activations = pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])


@pytest.mark.parametrize("dtype", DTYPES)
@activations
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
        y, error = np.meshgrid([0, 0.5, 1, np.nan], [1, np.inf, -np.inf, np.nan])
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
    """tanh(x) is x for tiny x, and sigmoid(x) is exp(x) for very negative x, not 0."""
    tiny = np.array([1e-4, -1e-6, 1e-20, -1e-30], dtype).reshape(1, 4, 1, 1)
    y = call(backend, "activation.forward", tiny, "tanh")
    np.testing.assert_allclose(y, np.tanh(tiny.astype(np.float64)), rtol=FORWARD[dtype])
    low = np.array([-10, -20, -40, -80], dtype).reshape(1, 4, 1, 1)
    y = call(backend, "activation.forward", low, "sigmoid")
    np.testing.assert_allclose(y, np.exp(low.astype(np.float64)), rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@activations
def test_bits_do_not_depend_on_the_place(backend, rng, activation, dtype):
    """Vectorised loops and their tails, or threads, must compute alike."""
    x = 2 * rng.standard_normal(41, dtype)
    whole = call(backend, "activation.forward", x.reshape(1, 1, 1, 41), activation).ravel()
    for start in range(1, 19, 3):
        part = x[start:].reshape(1, -1, 1, 1)
        y = call(backend, "activation.forward", part, activation)
        assert y.tobytes() == whole[start:].tobytes()


@activations
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
            found = call(any_backend, "activation.forward", x, activation)
            np.testing.assert_allclose(found.ravel(), y, rtol=1e-14, atol=1e-16)
            found = call(any_backend, "activation.backward", error, found, activation)
            np.testing.assert_allclose(found.ravel(), dx, rtol=1e-14)


X = np.zeros((2, 3, 4, 5))
CALLS = {
    "activation.forward": {"x": X, "activation": "relu"},
    "activation.backward": {"error": X, "y": X, "activation": "relu"},
}
REFUSALS = [
    (
        function,
        {"activation": activation},
        ValueError,
        f"activation is {activation!r}; expected one of 'relu', 'tanh', 'sigmoid'",
    )
    for function in CALLS
    for activation in ("ReLU", None)
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
