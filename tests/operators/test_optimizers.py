"""SGD and Adam against the reference, and the reference against their formulas by hand."""

import numpy as np
import pytest

from tests.comparison import DTYPES, REFERENCE, operator, relative_difference
from tests.foreign import ON_DEVICE, Foreign

SGD = {"rate": 0.1, "momentum": 0.9, "decay": 0.01}
ADAM = {"rate": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "decay": 0.01, "count": 3}
RULES = {"sgd.step": (3, SGD), "adam.step": (4, ADAM)}
SHAPES = [(1,), (7,), (3, 2, 5, 1)]
REAL = [(500, 50, 4, 4), (1025,)]


def stepped(backend, rule, arrays, options):
    """The arrays after one step, on the host."""
    there = [backend.memory.to_device(array.copy()) for array in arrays]
    assert operator(backend, rule)(*there, **options) is None
    return [backend.memory.to_host(array) for array in there]


def check(backend, rng, rule, shape, dtype):
    number, options = RULES[rule]
    arrays = [rng.uniform(0.1, 1, shape).astype(dtype) for _ in range(number)]
    expected = stepped(REFERENCE, rule, arrays, options)
    actual = stepped(backend, rule, arrays, options)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == dtype
        assert relative_difference(a, e) <= {"float32": 1e-6, "float64": 1e-14}[dtype]
    np.testing.assert_array_equal(actual[1], arrays[1], "the gradient changed")
    again = stepped(backend, rule, arrays, options)
    assert [a.tobytes() for a in again] == [a.tobytes() for a in actual]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
class TestAgainstReference:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_small(self, backend, rng, rule, shape, dtype):
        check(backend, rng, rule, shape, dtype)

    @pytest.mark.parametrize("shape", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, rule, shape, dtype):
        check(fast_backend, rng, rule, shape, dtype)


class TestByHand:
    def test_sgd(self, any_backend):
        arrays = [np.array([value]) for value in (2.0, 3.0, 5.0)]
        parameter, _, velocity = stepped(
            any_backend, "sgd.step", arrays, {"rate": 0.5, "momentum": 0.25, "decay": 0.5}
        )
        assert velocity == [0.25 * 5 + 3 + 0.5 * 2]
        assert parameter == [2 - 0.5 * velocity[0]]

    def test_adam_starts_with_a_step_of_its_rate(self, any_backend):
        """Corrected moments of one gradient are the gradient and its square."""
        arrays = [np.array([value]) for value in (2.0, -3.0, 0.0, 0.0)]
        options = ADAM | {"decay": 0.0, "epsilon": 0.0, "count": 1}
        parameter, _, mean, square = stepped(any_backend, "adam.step", arrays, options)
        np.testing.assert_allclose(parameter, [2.1], rtol=1e-12)
        np.testing.assert_allclose((mean[0], square[0]), (-0.3, 0.09), rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros((2, 4)), ValueError, "gradient has shape 2 x 4; expected 2 x 3"),
        (np.zeros((2, 3), np.float32), TypeError, "gradient has dtype float32; expected float64"),
        (np.zeros((3, 2)).T, ValueError, "gradient is not C-contiguous"),
    ],
)
def test_refusal_before_anything_changes(any_backend, rule, bad, error, message):
    number, options = RULES[rule]
    arrays = [np.ones((2, 3)) for _ in range(number)]
    arrays[1] = bad
    if any_backend.name in ON_DEVICE:
        there = [Foreign(any_backend.memory, array) for array in arrays]
    else:
        there = arrays
    with pytest.raises(error, match=message):
        operator(any_backend, rule)(*there, **options)
    if any_backend.name in ON_DEVICE:
        arrays = [any_backend.memory.to_host(array.memory) for array in there]
    assert all((array == 1).all() for array in (arrays[0], *arrays[2:]))
