"""Arrays of other libraries in the host's memory, such as PyTorch's tensors: read where they lie.

They come through DLPack, or ``__array__`` where a library has no DLPack.
"""

from __future__ import annotations

import functools
import inspect
import sys

import numpy as np

from kernels import checks

_PLAIN = {np.ndarray, int, float, bool, str, tuple, type(None)}


def operator(function):
    """Declare a public function of an operator on the host: it takes other libraries' arrays, too,
    where they lie. One that takes several maps has them first, as ``maps``."""
    names = list(inspect.signature(function).parameters)
    plain = _PLAIN - ({tuple} if names[0] == "maps" else set())

    @functools.wraps(function)
    def called(*arguments, **options):
        kinds = {*map(type, arguments), *map(type, options.values())}
        if not kinds <= plain:
            rest = arguments[len(names) :]  # too many are the function's
            arguments = (*map(_read, names, arguments), *rest)
            options = {name: _read(name, value) for name, value in options.items()}
        return function(*arguments, **options)

    return called


def _read(name, value):
    if type(value) in (tuple, list):
        return type(value)(host_array(f"{name}[{i}]", one) for i, one in enumerate(value))
    return host_array(name, value)


def host_array(name: str, value):
    """``value`` as a NumPy array of the same memory, where it is another library's host array.

    Anything else is given back as it is: NumPy's arrays, device arrays, and what is no array.

    Args:
        name: what the caller calls it.

    Raises:
        TypeError: its library does not export it, or it is not what its memory holds.
    """
    if isinstance(value, np.ndarray | np.generic | type):
        return value
    exports = hasattr(value, "__dlpack__")
    if not (exports or hasattr(value, "__array__")) or checks.lies_on_device(name, value):
        return value
    if getattr(value, "is_neg", bool)():  # DLPack passes over PyTorch's negative bit
        raise TypeError(
            f"{name} is a view of negated numbers; expected the numbers: use resolve_neg()"
        )
    try:
        return np.from_dlpack(value) if exports else np.asarray(value)
    except Exception as error:  # each library has errors of its own
        raise TypeError(
            f"{name} is {checks.kind_of(value)} of {getattr(value, 'dtype', 'no dtype')}, which "
            f"cannot be read: {error}"
        ) from None


def given_back(array: np.ndarray, like):
    """A result as an array of the library that ``like`` is of, in the same memory; where that
    library takes none, the NumPy array."""
    if isinstance(like, np.ndarray):
        return array
    if hasattr(like, "__array_namespace__"):
        library = like.__array_namespace__()
    else:
        library = sys.modules.get(type(like).__module__.partition(".")[0])
    from_dlpack = getattr(library, "from_dlpack", None)
    return from_dlpack(array) if from_dlpack else array
