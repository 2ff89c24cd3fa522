"""Gradients over lists have the same bits for any number of threads.

Each thread adds to cells of its own. Windows whose cells belong to several threads, and neighbours
whose rows overlap, are taken in one order by all of them.
"""

import numba
import numpy as np
import pytest

from kernels.host import threads as sharing
from kernels.listed_convolution import cpu as convolution
from kernels.listed_max_pooling import cpu as max_pooling
from tests.comparison import DTYPES

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="Numba has one thread here"),
]

CELLS, OUTPUTS = 261, 200


@pytest.fixture
def numbers_of_threads(monkeypatch):
    """Runs a function on one thread and on all; however little work there is, it is shared."""
    monkeypatch.setattr(sharing, "SMALLEST_SHARED_WORK_NS", 0)
    most = numba.get_num_threads()

    def run(function):
        results = []
        for number in (1, most):
            numba.set_num_threads(number)
            results.append(function())
        return results

    yield run
    numba.set_num_threads(most)


def windows(rng, kernel):
    """A table of windows anywhere, most of which have neighbours."""
    first = np.sort(rng.integers(0, CELLS - kernel[1] + 1, OUTPUTS))
    rows = first[:, None] + rng.integers(0, 3, (OUTPUTS, kernel[0])) * 11
    return np.minimum(rows, CELLS - kernel[1]).astype(np.int32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 5, 16, 17, 25, 48])
def test_input_gradient_of_convolution(numbers_of_threads, rng, channels, dtype):
    kernel = (3, 5)
    rows = windows(rng, kernel)
    error = rng.standard_normal((OUTPUTS, 9, 1, 1)).astype(dtype)
    weights = rng.standard_normal((9, channels, *kernel)).astype(dtype)
    one, all_ = numbers_of_threads(lambda: convolution.gradient_input(error, rows, weights, CELLS))
    np.testing.assert_array_equal(one, all_)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernel", "channels"), [((8, 8), 25), ((5, 7), 3), ((2, 2), 48)])
def test_gradient_of_max_pooling(numbers_of_threads, rng, kernel, channels, dtype):
    rows = windows(rng, kernel)
    error = rng.standard_normal((OUTPUTS, channels, 1, 1)).astype(dtype)
    argmax = rng.integers(0, kernel[0] * kernel[1], error.shape).astype(np.uint8)
    one, all_ = numbers_of_threads(lambda: max_pooling.backward(error, argmax, rows, kernel, CELLS))
    np.testing.assert_array_equal(one, all_)
