"""Dropout against the reference, and what its mask must be."""

import numpy as np
import pytest

from kernels import get_backend
from tests.comparison import DTYPES, FORWARD, assert_matches_reference, call
from tests.conftest import CUDA, SIMULATOR
from tests.refusals import assert_refused, refusals

KEY = (5, 2**31 + 7, 3)
SMALL = [(1, 1, 1, 1), (2, 3, 5, 7), (3, 2, 1, 9)]
REAL = [(1, 48, 70, 90), (256, 200, 1, 1)]


def check(backend, rng, shape, dtype):
    x = rng.standard_normal(shape, dtype)
    rows, columns = rng.integers(0, 600, (2, shape[0])).astype(np.int32)
    where = {"spacing": (2, 3), "rate": 0.3, "key": KEY}
    assert_matches_reference(
        backend, "dropout.apply", x, rows, columns, tolerance=FORWARD[dtype], **where
    )


@pytest.mark.parametrize("dtype", DTYPES)
class TestAgainstReference:
    @pytest.mark.parametrize("shape", SMALL, ids=str)
    def test_small(self, backend, rng, shape, dtype):
        check(backend, rng, shape, dtype)

    @pytest.mark.parametrize("shape", REAL, ids=str)
    def test_every_size(self, fast_backend, rng, shape, dtype):
        check(fast_backend, rng, shape, dtype)


def kept(backend, shape=(1, 1, 64, 64), origin=(0, 0), spacing=(1, 1), rate=0.5, key=KEY):
    """Where ones are kept; kept ones are scaled to keep their expectation."""
    rows, columns = (np.full(shape[0], place, np.int32) for place in origin)
    options = {"spacing": spacing, "rate": rate, "key": key}
    y = call(backend, "dropout.apply", np.ones(shape), rows, columns, **options)
    np.testing.assert_allclose(np.unique(y[y != 0]), [1 / (1 - rate)], rtol=1e-14)
    return y != 0


class TestMask:
    def test_a_patch_sees_the_cells_of_the_whole_map(self, any_backend):
        """A patch at (3, 4) whose cells lie (2, 3) apart, against the dense map."""
        whole = kept(any_backend, (1, 2, 12, 14))
        patch = kept(any_backend, (1, 2, 4, 3), origin=(3, 4), spacing=(2, 3))
        np.testing.assert_array_equal(patch, whole[:, :, 3:11:2, 4:13:3])

    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
    def test_the_share_is_right(self, fast_backend, rate):
        mask = kept(fast_backend, (1, 4, 128, 128), rate=rate)
        assert abs(mask.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / mask.size)

    def test_neighbours_and_channels_are_independent(self, fast_backend):
        mask = kept(fast_backend, (1, 2, 256, 256))[0]
        pairs = (
            (mask[0, 1:], mask[0, :-1]),
            (mask[0, :, 1:], mask[0, :, :-1]),
            (mask[0], mask[1]),
        )
        for a, b in pairs:
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / 256

    @pytest.mark.parametrize("other", [(6, KEY[1], 3), (5, 8, 3), (5, KEY[1], 4)])
    def test_seed_step_and_layer_each_change_it(self, fast_backend, other):
        agree = kept(fast_backend) == kept(fast_backend, key=other)
        assert abs(agree.mean() - 0.5) < 4 * 0.5 / 64

    def test_rate_zero_keeps_everything(self, any_backend):
        assert kept(any_backend, (1, 1, 3, 3), rate=0.0).all()

    def test_a_dropped_nan_is_gone(self, any_backend):
        mask = kept(any_backend, (1, 1, 3, 5))
        x = np.where(mask, 1.0, np.nan)
        rows = np.zeros(1, np.int32)
        options = {"spacing": (1, 1), "rate": 0.5, "key": KEY}
        y = call(any_backend, "dropout.apply", x, rows, rows, **options)
        np.testing.assert_array_equal(y, np.where(mask, 2.0, 0.0))


@pytest.mark.parametrize("name", [SIMULATOR, CUDA])
def test_a_list_on_a_device_drops_what_its_cells_drop(name, rng):
    """A row of cells (``kernels.listed_cells``), and the same cells as a batch."""
    backend, x = get_backend(name), rng.standard_normal((5, 3, 1, 1))
    places = rng.integers(0, 600, (2, 5)).astype(np.int32)
    options = {"spacing": (2, 3), "rate": 0.5, "key": KEY}
    of_batch = call(backend, "dropout.apply", x, *places, **options)
    of_row = call(backend, "dropout.apply", x.transpose(3, 1, 2, 0).copy(), *places, **options)
    np.testing.assert_array_equal(of_row.transpose(3, 1, 2, 0), of_batch)


PLACES = {"rows": np.zeros(2, np.int32), "columns": np.zeros(2, np.int32)}
ARGUMENTS = {"x": np.zeros((2, 3, 4, 5)), **PLACES, "spacing": (1, 1), "rate": 0.5, "key": KEY}
REFUSALS = [
    ("dropout.apply", {"rate": 1.0}, ValueError, "rate is 1.0; expected a number of at least 0"),
    ("dropout.apply", {"rate": -0.1}, ValueError, "rate is -0.1; expected a number of at least 0"),
    ("dropout.apply", {"key": (1, 2)}, ValueError, "key is (1, 2); expected (seed, step, layer)"),
    ("dropout.apply", {"key": (1, -2, 0)}, ValueError, "key is (1, -2, 0); expected (seed"),
    ("dropout.apply", {"spacing": 0}, ValueError, "spacing is 0; expected an int or a pair"),
]


@pytest.mark.parametrize("refusal", refusals({"dropout.apply": ARGUMENTS}, REFUSALS))
def test_refusal(any_backend, refusal):
    assert_refused(any_backend, refusal)
