"""Calling operators on host arrays and comparing them with the NumPy reference."""

import numpy as np

from kernels import checks, get_backend
from tests import lists

FORWARD = {"float32": 2e-6, "float64": 1e-12}
GRADIENT = {"float32": 1e-5, "float64": 1e-12}
DTYPES = tuple(FORWARD)

REFERENCE = get_backend("reference")


def relative_difference(a, b) -> float:
    """max|a - b| / max|b|; infinite where only b is all zero."""
    difference = np.abs(a - b).max(initial=0.0)
    with np.errstate(divide="ignore"):
        return float(difference and difference / np.abs(b).max(initial=0.0))


def operator(backend, name):
    """The function ``name``, such as ``convolution.forward``, of ``backend``."""
    folder, function = name.split(".")
    return getattr(getattr(backend, folder), function)


def call(backend, name, *arguments, **options):
    """The result of ``name`` on host arrays, as host arrays; its arguments must not change."""
    memory, function = backend.memory, operator(backend, name)
    there = lists.in_layout(backend, name, each(memory.to_device, arguments))
    before = each(_bits, each(memory.to_host, there))
    result = function(*there, **options)
    assert each(_bits, each(memory.to_host, there)) == before, f"{name} changed its arguments"
    each(_check_contiguous, result)
    return lists.by_cell(backend, name, each(memory.to_host, result))


def assert_matches_reference(backend, name, *arguments, tolerance=0.0, **options):
    """Hold ``name`` to the reference; called twice, it must give the same bits.

    Floating-point results have the dtype of the first array of floats, and the relative difference
    is at most ``tolerance``. NaN, infinities and integers are equal exactly.
    """
    with np.errstate(invalid="ignore"):
        expected = operator(REFERENCE, name)(*arguments, **options)
    actual = call(backend, name, *arguments, **options)
    dtype = next(a.dtype for a in _arrays(arguments) if a.dtype.kind == "f")
    for a, e in zip(_arrays(actual), _arrays(expected), strict=True):
        assert a.dtype == (dtype if e.dtype.kind == "f" else e.dtype)
        assert a.shape == e.shape
        special = ~np.isfinite(e)
        np.testing.assert_array_equal(a[special], e[special])
        assert relative_difference(a[~special], e[~special]) <= tolerance
    again = call(backend, name, *arguments, **options)
    assert each(_bits, again) == each(_bits, actual), f"{name} is not reproducible"


def each(function, value):
    """``function`` of every array in ``value``, an array or a nesting of lists and tuples."""
    if isinstance(value, (list, tuple)):
        return type(value)(each(function, v) for v in value)
    return function(value) if hasattr(value, "dtype") else value


def _arrays(value):
    if isinstance(value, (list, tuple)):
        return [array for v in value for array in _arrays(v)]
    return [value] if hasattr(value, "dtype") else []


def _bits(array):
    return np.asarray(array).tobytes()


def _check_contiguous(array):
    """The next operator must accept this result."""
    checks.array("result", array, (None,) * len(array.shape), (str(array.dtype),))
