"""NumPy arrays, float64 whatever was asked for."""

from contextlib import contextmanager

import numpy as np

MOST_ELEMENTS = 2**62


def empty(shape, dtype):
    """An uninitialised array; float dtypes become float64."""
    return np.empty(shape, _widened(dtype))


def zeros(shape, dtype):
    """An array of zeros; float dtypes become float64."""
    return np.zeros(shape, _widened(dtype))


def to_device(array):
    """``array`` as a contiguous NumPy array; float dtypes become float64."""
    return np.ascontiguousarray(array, _widened(array.dtype))


def to_host(array):
    """``array`` itself."""
    return array


def all_to_host(arrays):
    """``arrays`` themselves, in a list."""
    return list(arrays)


def synchronize():
    """Nothing to wait for."""


def release():
    """Nothing to give back: NumPy frees arrays itself."""


def _widened(dtype):
    dtype = np.dtype(dtype)
    return np.dtype(np.float64) if dtype.kind == "f" else dtype


@contextmanager
def on_stream(handle):
    """Nothing to order: every call returns when its work is done."""
    yield


def free_bytes():
    """None: the reference is for small arrays."""
    return None
