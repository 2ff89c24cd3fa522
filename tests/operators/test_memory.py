"""Allocation and copies, and the poison that these tests rely on."""

import numpy as np
import pytest

DTYPES = ("float32", "float64", "uint8", "int32", "bool")


def dtype_on(backend, dtype):
    """The reference widens float32."""
    return "float64" if backend.name == "reference" and dtype == "float32" else dtype


@pytest.mark.parametrize("dtype", DTYPES)
class TestMemory:
    def test_zeros(self, any_backend, dtype):
        array = any_backend.memory.zeros((2, 3, 4, 5), dtype)
        host = any_backend.memory.to_host(array)
        expected = np.zeros((2, 3, 4, 5), dtype_on(any_backend, dtype))
        assert (host.dtype, host.shape) == (expected.dtype, expected.shape)
        assert host.tobytes() == expected.tobytes()

    def test_empty(self, any_backend, dtype):
        array = any_backend.memory.empty((3, 5), dtype)
        assert array.dtype == dtype_on(any_backend, dtype)
        assert array.shape == (3, 5)

    def test_there_and_back(self, any_backend, rng, dtype):
        array = rng.integers(0, 100, (2, 3, 5)).astype(dtype)
        memory = any_backend.memory
        for view in (array, array[:, ::2], array.T, array[..., 0]):
            there = memory.to_device(view)
            assert there.dtype == dtype_on(any_backend, dtype)
            back = memory.to_host(there)
            memory.synchronize()
            assert back.flags.c_contiguous
            np.testing.assert_array_equal(back, view)

    def test_operators_start_from_poison(self, backend, dtype):
        host = backend.memory.to_host(backend.memory.empty((2, 3), dtype))
        poison = np.nan if dtype.startswith("float") else np.array(-1).astype(dtype)
        np.testing.assert_array_equal(host, np.full((2, 3), poison, dtype))
