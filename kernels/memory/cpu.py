"""NumPy arrays in the host's memory."""

from contextlib import contextmanager

import numpy as np


def empty(shape, dtype):
    """An uninitialised array of ``shape`` and ``dtype``."""
    return np.empty(shape, dtype)


def zeros(shape, dtype):
    """An array of zeros of ``shape`` and ``dtype``."""
    return np.zeros(shape, dtype)


def to_device(array):
    """``array`` as a contiguous NumPy array; no copy where it already is one."""
    return np.ascontiguousarray(array)


def to_host(array):
    """``array`` itself."""
    return array


def synchronize():
    """Nothing to wait for: every call returns when its work is done."""


@contextmanager
def on_stream(handle):
    """Nothing to order: every call returns when its work is done."""
    yield
