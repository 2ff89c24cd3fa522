"""Allocation and copies, and the poison that these tests rely on."""

import gc
import mmap
from pathlib import Path

import numpy as np
import pytest

from kernels.memory import cpu

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


@pytest.mark.cpu
@pytest.mark.skipif(not cpu._store.range.nbytes, reason="the system reserves no addresses")
def test_dead_arrays_give_their_place_to_later_ones():
    def address(array):
        return array.__array_interface__["data"][0]

    shape = (1, 3, 1000, 1000)
    first, second = cpu.empty(shape, "float32"), cpu.empty(shape, "float64")
    places = address(first), address(second)
    assert all(place % 4096 == 0 for place in places)
    view = first[0, 1]
    del first
    third = cpu.empty(shape, "float32")
    assert address(third) not in places  # a view lives
    del view
    assert address(cpu.empty(shape, "float32")) == places[0]
    del second, third
    assert address(cpu.empty((2, *shape[1:]), "float64")) == places[0]


@pytest.mark.cpu
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc says what is resident")
@pytest.mark.skipif(not cpu._store.range.nbytes, reason="the system reserves no addresses")
def test_released_memory_goes_to_the_system():
    """But for what lies before an array that lives."""

    def resident():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    kept = cpu.zeros((64, 2**20), "uint8")
    freed = cpu.zeros((256, 2**20), "uint8")
    before, places = resident(), freed.ctypes.data
    del freed
    assert resident() > before - 2**26
    cpu.release()
    assert resident() < before - 2**27
    assert (kept == 0).all()
    again = cpu.zeros((256, 2**20), "uint8")
    assert again.ctypes.data == places
    assert (again == 0).all()


def test_an_axis_that_an_index_added_is_copied(backend):
    """Its stride is 0, like that of an axis along which an array is repeated."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)[:, :, None, None]
    copy = backend.memory.to_host(backend.memory.to_device(array))
    assert copy.shape == (2, 3, 1, 1)
    np.testing.assert_array_equal(copy, array)
