"""Arguments that every operator must refuse, in messages that name what was wrong."""

import re

import numpy as np
import pytest

from tests.comparison import each, operator
from tests.foreign import ON_DEVICE, Foreign


def refusals(calls, rows):
    """Test parameters: every array argument made unreadable in turn, then ``rows``.

    Args:
        calls: {"operator.function": its arguments by name}, each fine as it is.
        rows: (a function in ``calls``, the arguments to change, the error, how its message begins).
    """
    rows = [*_unreadable_arrays(calls), *rows]
    return [
        pytest.param(
            (function, calls[function] | changes, error, message), id=_id(function, message)
        )
        for function, changes, error, message in rows
    ]


def assert_refused(backend, refusal):
    """The call raises the error, and its message begins as given."""
    function, arguments, error, message = refusal
    if backend.name in ON_DEVICE:
        there = each(lambda array: Foreign(backend.memory, array), list(arguments.values()))
        arguments = dict(zip(arguments, there))
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        operator(backend, function)(**arguments)


def _id(function, message):
    return f"{function}: {message.split(';')[0]}"


def _unreadable_arrays(calls):
    for function, arguments in calls.items():
        for name, array in arguments.items():
            if isinstance(array, np.ndarray):
                for bad, error, message in _unreadable(name, array):
                    yield function, {name: bad}, error, message


def _unreadable(name, array):
    rank = f"expected {array.ndim} axes"
    shape = " x ".join(map(str, array.shape))
    yield array.tolist(), TypeError, f"{name} is a list; expected an array"
    yield array.reshape(-1)[0, ...], ValueError, f"{name} has shape (); {rank}"
    yield array[None], ValueError, f"{name} has shape 1 x {shape}; {rank}"
    shape = " x ".join(map(str, (0, *array.shape[1:])))
    yield array[:0], ValueError, f"{name} has shape {shape}; expected "
    for dtype in map(np.dtype, ("float16", "int64", "uint32", array.dtype.newbyteorder(">"))):
        if dtype != array.dtype:
            message = f"{name} has dtype {dtype}; expected "
            yield array.astype(dtype), TypeError, message
    if array.size == 1:
        return
    contiguous = f"{name} is not C-contiguous; pass a contiguous copy"
    yield np.repeat(array, 2, axis=-1)[..., ::2], ValueError, contiguous
    if array.ndim > 1:
        yield np.asfortranarray(array), ValueError, contiguous
