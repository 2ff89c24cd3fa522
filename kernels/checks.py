"""What arguments must be: arrays and numbers that are checked before any work.

Every error names the argument, what it was and what was expected. Arrays are only asked for
``dtype``, ``shape`` and ``strides``, so host and device arrays are checked alike.

What may be written in several ways (a pair, a number, a flag, a choice) is returned in the one way
that is computed with; what passes as it is or not at all (an array, an instance, a sequence) gives
None.
"""

from __future__ import annotations

import math
from functools import cache
from numbers import Integral, Real

import numpy as np

Pair = tuple[int, int]
Margins = tuple[int, int, int, int]

FLOAT_DTYPES = ("float32", "float64")
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
MAX_INDEX = 2**31 - 1
"""The largest index that the kernels use."""
SMALLEST_FLOAT, LARGEST_FLOAT = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""Numbers within these are neither 0 nor infinite in either dtype."""


def pair(name: str, value: int | Pair, minimum: int = 1, most: int = MAX_INDEX) -> Pair:
    """``value`` as (y, x); one int stands for both.

    Raises:
        ValueError: ``value`` is not one or two ints from ``minimum`` to ``most``.
    """
    values = value if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2 or not _are_whole(values, minimum, most):
        large = len(values) == 2 and _are_whole(values, minimum, math.inf)
        limits = f"from {minimum} to {most}" if large else f"of at least {minimum}"
        raise ValueError(f"{name} is {value!r}; expected an int or a pair (y, x) of ints {limits}")
    return int(values[0]), int(values[1])


def count(name: str, value: int, least: int = 1, most: int = MAX_INDEX) -> int:
    """``value`` as an int from ``least`` to ``most``.

    Raises:
        ValueError: it is none.
    """
    if not _is_whole(value) or value < least:
        raise ValueError(f"{name} is {value!r}; expected an int of at least {least}")
    if value > most:
        raise ValueError(f"{name} is {value!r}; expected an int of at most {most}")
    return int(value)


def margins(name: str, value: Margins) -> Margins:
    """``value`` as (top, left, bottom, right) in cells.

    Raises:
        ValueError: ``value`` is not four ints of at least 0.
    """
    if not isinstance(value, tuple | list) or len(value) != 4 or not _are_whole(value, 0):
        raise ValueError(
            f"{name} is {value!r}; expected (top, left, bottom, right), four ints of at least 0"
        )
    return tuple(map(int, value))


def number(name: str, value: float, *, positive: bool = False, below: float = math.inf) -> float:
    """``value`` as a float that is finite in float32, too.

    Args:
        positive: refuse 0, and what would be 0 in float32.
        below: refuse this and larger ones.

    Raises:
        ValueError: no number, less than 0, or too large.
    """
    is_number = type(value) is float or (isinstance(value, Real) and not isinstance(value, bool))
    smallest = SMALLEST_FLOAT if positive else 0
    if not is_number or not smallest <= value <= LARGEST_FLOAT or value >= below:
        least = "above 0" if positive else "of at least 0"
        most = f"and less than {below}" if below < math.inf else "and finite in float32"
        raise ValueError(f"{name} is {value!r}; expected a number {least} {most}")
    return float(value)


def flag(name: str, value: bool) -> bool:
    """``value`` if it is True or False.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool | np.bool):
        raise ValueError(f"{name} is {value!r}; expected True or False")
    return bool(value)


def choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


def float_dtype(name: str, value) -> str:
    """The one of ``FLOAT_DTYPES`` that ``value`` stands for, such as ``np.float32``.

    Raises:
        ValueError: none of them.
    """
    if isinstance(value, type | np.dtype):
        value = next((known for known in FLOAT_DTYPES if np.dtype(known) == value), value)
    return choice(name, value, FLOAT_DTYPES)


def instance(name: str, value, cls: type) -> None:
    """Refuse anything but a ``cls``.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, cls):
        raise TypeError(f"{name} is {kind_of(value)}; expected {_with_article(cls.__name__)}")


def _is_whole(value) -> bool:
    """Whether it is an int, or one of NumPy's; True and False are none."""
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def _are_whole(values, least, most=MAX_INDEX) -> bool:
    return all(_is_whole(value) and least <= value <= most for value in values)


def array(
    name: str,
    array,
    shape: tuple[int | None, ...],
    dtypes: tuple[str, ...] = FLOAT_DTYPES,
    *,
    axes: str = "",
    any_layout: bool = False,
) -> None:
    """Refuse an array that a kernel could not read.

    Args:
        name: what the caller calls the array.
        array: a host or device array.
        shape: the expected extent of each axis; None means any extent of at least 1.
        dtypes: the accepted dtypes, native byte order.
        axes: what the axes are, for the message.
        any_layout: also take other byte orders and strides, as the caller copies the array.

    Raises:
        TypeError: not an array, a masked one, or another dtype or byte order.
        ValueError: another rank or extent, an empty axis, or not C-contiguous.
    """
    if type(array) is np.ndarray:
        if _is_right(array, shape, dtypes):
            return
    else:
        unmasked(name, array)
    if isinstance(array, type) or not all(hasattr(array, a) for a in ("dtype", "shape", "strides")):
        raise TypeError(f"{name} is {kind_of(array)}; expected an array")
    axes = axes and f", {axes}"
    if len(array.shape) != len(shape):
        raise ValueError(
            f"{name} has shape {_by(array.shape) or '()'}; expected {len(shape)} axes, "
            f"{_by(shape)}{axes}"
        )
    if (_native_name_of if any_layout else _name_of)(array.dtype) not in dtypes:
        order = "" if any_layout else " in native byte order"
        raise TypeError(f"{name} has dtype {array.dtype}; expected {' or '.join(dtypes)}{order}")
    for have, want in zip(array.shape, shape):
        if have < 1 or want not in (None, have):
            raise ValueError(
                f"{name} has shape {_by(array.shape)}; expected {_by(shape)}{axes}, no axis empty"
            )
    if any_layout:
        return
    step = array.dtype.itemsize
    for extent, stride in zip(reversed(array.shape), reversed(array.strides)):
        if extent > 1 and stride != step:
            raise ValueError(f"{name} is not C-contiguous; pass a contiguous copy")
        step *= extent


def _is_right(array, shape, dtypes) -> bool:
    """Whether a NumPy array is as expected: what nearly all are, told fast."""
    if not (array.size and array.flags.c_contiguous and _name_of(array.dtype) in dtypes):
        return False
    have_shape = array.shape
    if have_shape == shape:
        return True
    known = [want if want is None else have for have, want in zip(have_shape, shape)]
    return len(have_shape) == len(shape) and known == list(shape)


def unmasked(name: str, array) -> None:
    """Refuse NumPy's masked arrays, whose mask every computation would lose.

    Raises:
        TypeError: it is one.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array; expected a plain one, as its mask would be lost: its "
            "filled(...) puts a value there that you choose"
        )


def kind_of(value) -> str:
    """What ``value`` is, for a message: ``a list``, ``an int``, ``the class ReLU``."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return _with_article(type(value).__name__)


def _with_article(name):
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _by(shape) -> str:
    return " x ".join("any" if extent is None else str(extent) for extent in shape)


_name_of = cache(str)
"""A dtype's name: such as ``float32``, or ``>f4`` where the byte order is not the machine's."""


@cache
def _native_name_of(dtype) -> str:
    return str(dtype.newbyteorder("="))


def lies_on_device(name: str, array) -> bool:
    """Whether ``array`` is a device array, of whatever library (CUDA array interface).

    Raises:
        TypeError: its library refuses to say, such as PyTorch where a gradient is recorded.
    """
    try:
        return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")
    except RuntimeError as error:
        raise TypeError(f"{name} cannot be read: {error}") from None


def indices(name: str, array, size: int) -> None:
    """Refuse a host array of ints of which one is none of the places 0 ... ``size`` - 1.

    Raises:
        ValueError: it holds another.
    """
    unsigned = array.view(f"u{array.itemsize}")  # in which negative ints are the largest
    if unsigned.max() >= size:
        raise ValueError(
            f"{name} reach from {array.min()} to {array.max()}; expected ints from 0 to {size - 1}"
        )


def same_dtype(**arrays) -> None:
    """Refuse arrays of unlike dtype; None is skipped.

    Raises:
        TypeError: naming the first array and the one that differs from it.
    """
    given = [(name, a) for name, a in arrays.items() if a is not None]
    first, reference = given[0]
    for name, other in given[1:]:
        if other.dtype != reference.dtype:
            raise TypeError(
                f"{name} has dtype {other.dtype}; expected {reference.dtype}, the dtype of {first}"
            )


def sequence(name: str, value) -> None:
    """Refuse anything but a list or tuple of at least one element.

    Raises:
        TypeError, ValueError: it is none, or empty.
    """
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} is {kind_of(value)}; expected a list or tuple")
    if not value:
        raise ValueError(f"{name} is empty; expected at least one element")


def same_map(**maps) -> None:
    """Refuse N x C x H x W maps of unlike shape or dtype."""
    first = next(iter(maps.values()))
    shape = (None,) * 4
    for name, map_ in maps.items():
        array(name, map_, shape)
        shape = first.shape
    same_dtype(**maps)


def per_channel(x, **vectors) -> None:
    """Check a map and its per-channel vectors (length C, same dtype)."""
    array("x", x, (None,) * 4)
    for name, vector in vectors.items():
        array(name, vector, (x.shape[1],))
    same_dtype(x=x, **vectors)


def alike(**arrays) -> None:
    """Refuse arrays of unlike shape or dtype, of any rank."""
    shape = getattr(next(iter(arrays.values())), "shape", ())
    for name, value in arrays.items():
        array(name, value, shape)
    same_dtype(**arrays)
