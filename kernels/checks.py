"""What arguments must be: arrays and numbers that are checked before any work.

Every error names the argument, what it was and what was expected. Arrays are only asked for
``dtype``, ``shape`` and ``strides``, so host and device arrays are checked alike.
"""

from __future__ import annotations

from functools import cache

import numpy as np

Pair = tuple[int, int]
Margins = tuple[int, int, int, int]

FLOAT_DTYPES = ("float32", "float64")


def pair(name: str, value: int | Pair, minimum: int = 1) -> Pair:
    """``value`` as (y, x); one int stands for both.

    Raises:
        ValueError: ``value`` is not one or two ints of at least ``minimum``.
    """
    values = (value, value) if isinstance(value, int) else value
    ok = isinstance(values, (tuple, list)) and len(values) == 2
    if not ok or not all(type(v) is int and v >= minimum for v in values):
        raise ValueError(
            f"{name} is {value!r}; expected an int or a pair (y, x) of ints of at least {minimum}"
        )
    return tuple(values)


def count(name: str, value: int) -> int:
    """``value`` if it is an int of at least 1.

    Raises:
        ValueError: it is not.
    """
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}; expected an int of at least 1")
    return value


def margins(name: str, value: Margins) -> Margins:
    """``value`` as (top, left, bottom, right) in cells.

    Raises:
        ValueError: ``value`` is not four ints of at least 0.
    """
    ok = isinstance(value, (tuple, list)) and len(value) == 4
    if not ok or not all(type(v) is int and v >= 0 for v in value):
        raise ValueError(
            f"{name} is {value!r}; expected (top, left, bottom, right), four ints of at least 0"
        )
    return tuple(value)


def choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``.

    Raises:
        ValueError: it is not.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


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
    unmasked(name, array)
    if not all(hasattr(array, a) for a in ("dtype", "shape", "strides")):
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


def unmasked(name: str, array) -> None:
    """Refuse NumPy's masked arrays, whose mask every computation would lose.

    Raises:
        TypeError: it is one.
    """
    if type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array; expected a plain one, as its mask would be lost: pass "
            f"{name}.filled(...) with a value that is right there"
        )


def kind_of(value) -> str:
    """What ``value`` is, for a message: ``a list``, ``an int``, ``the class ReLU``."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _by(shape) -> str:
    return " x ".join("any" if extent is None else str(extent) for extent in shape)


_name_of = cache(str)
"""Of a dtype: such as ``float32``, or ``>f4`` where the byte order is not the machine's."""


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


def same_map(**maps) -> None:
    """Refuse N x C x H x W maps of unlike shape or dtype."""
    if not maps:
        raise TypeError("maps is empty; expected at least one array")
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
    shape = next(iter(arrays.values())).shape
    for name, value in arrays.items():
        array(name, value, shape)
    same_dtype(**arrays)
