"""Descriptions of nets as JSON, and back: of known kinds only, every value checked both ways.

A value that passes here comes back equal. Numbers are Python's ints and floats: a NumPy float64 is
one of the latter, other NumPy numbers are refused, as arithmetic with them rounds differently.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, is_dataclass

import numpy as np

from kernels import checks
from kernels.checks import Pair
from net import layers as kinds_of_layers
from net.borders import halo
from net.file_format import LARGEST_INT, an_object, exactly, quoted
from net.usage import Usage

MAX_LAYERS = 2000
REQUIRED = ("normalization",)
"""Keys without which scores would be wrong."""


class Kinds:
    """Dataclasses that a description may name, by their names.

    Args:
        classes: their fields have annotations that ``_CHECKS`` knows.
        nested: kinds that may stand in fields of an annotation.

    Attributes:
        names: the names that they have in a file.
    """

    def __init__(self, *classes: type, nested: dict[str, Kinds] | None = None):
        self._nested = nested or {}
        self._known = {cls.__name__: (cls, {f.name: f for f in fields(cls)}) for cls in classes}
        self.names = self._known.keys()
        unknown = {f.type for cls in classes for f in fields(cls)} - _CHECKS.keys()
        if unknown:
            raise TypeError(f"fields are {sorted(unknown)}; expected one of {sorted(_CHECKS)}")

    def described(self, where: str, value) -> dict:
        """``value`` as an object with its ``kind`` and its fields.

        Raises:
            ValueError: it is of no known kind, or a field (named from ``where``) holds something
                that no file can.
        """
        cls, declared = self._known.get(type(value).__name__, (None, {}))
        if type(value) is not cls:
            raise ValueError(f"{where} is {quoted(value)}; a file holds {', '.join(self._known)}")
        result = {"kind": cls.__name__}
        for name, field in declared.items():
            place, inner = f"{where}.{name}", getattr(value, name)
            if field.type in self._nested and is_dataclass(inner):
                result[name] = self._nested[field.type].described(place, inner)
            else:
                result[name] = _checked(field, place, inner)
        return result

    def rebuilt(self, where: str, value):
        """The inverse of ``described``; fields that are not there have their defaults.

        Raises:
            ValueError: unknown kinds and fields, missing fields, wrong values.
        """
        kind = an_object(where, value).get("kind")
        if not isinstance(kind, str) or kind not in self._known:
            raise ValueError(f"{where}.kind is {quoted(kind)}; known are {', '.join(self._known)}")
        cls, declared = self._known[kind]
        needed = {n for n, f in declared.items() if f.default is MISSING}
        if not needed <= value.keys() - {"kind"} <= declared.keys():
            raise ValueError(
                f"{where} is a {kind} with {quoted(sorted(value.keys() - {'kind'}))}; "
                f"expected {', '.join(declared)}"
            )
        arguments = {}
        for name, inner in value.items():
            if name == "kind":
                continue
            place, field = f"{where}.{name}", declared[name]
            if field.type in self._nested and isinstance(inner, dict):
                arguments[name] = self._nested[field.type].rebuilt(place, inner)
            else:
                arguments[name] = _checked(field, place, inner)
        try:
            return cls(**arguments)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def of_net(net) -> tuple[dict, dict[str, np.ndarray]]:
    """A net as ``file_format.write`` takes it: its document and its arrays.

    Raises:
        ValueError: a file cannot hold it; the layer and the field, or the array, are named.
    """
    arrays = {f"net/{name}": held(array, net.dtype) for name, array in net.state().items()}
    check_arrays(arrays, demanded(net.nodes.values(), net.dtype))
    for name, array in arrays.items():
        check_values(f"array {quoted(name)}", name, array)
    document = {
        "net": architecture(net.layers, net.channels, net.patch, net.dtype),
        "receptive_field": receptive_field(net.patch, net.receptive_field),
    }
    if net.usage is not None:
        document |= net.usage.described()
        document["requires"] = [key for key in REQUIRED if key in document]
    return document, arrays


def receptive_field(patch: Pair, extent: Pair) -> dict:
    """What a file says of the pixels that a label depends on: how many, and how far around it.

    >>> receptive_field((28, 28), (28, 28))
    {'size': [28, 28], 'halo': [13, 13, 14, 14]}
    """
    return {"size": list(extent), "halo": list(halo(patch, extent))}


def usage_of(document: dict, patch: Pair, channels: int, output) -> Usage | None:
    """How a net is used, after the document of its file.

    Args:
        document: the file's keys.
        patch: the net's patch.
        channels: number of channels of its images.
        output: the map that it gives.

    Raises:
        TypeError, ValueError: something is wrong, or not of this net.
    """
    usage = Usage.rebuilt(document)
    if usage is not None:
        usage.check(channels, output.channels)
    expected = receptive_field(patch, output.extent)
    if document.get("receptive_field", expected) != expected:
        stated = quoted(document["receptive_field"])
        raise ValueError(f"receptive_field is {stated}; expected {expected}, as the layers say")
    return usage


def architecture(layers, channels: int, patch: Pair, dtype: str) -> dict:
    """A net without its arrays, as JSON can hold it; arguments as those of ``Net``.

    Raises:
        ValueError: a file cannot hold it; the layer and the field are named.
    """
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"layers are {len(layers)}; a file holds at most {MAX_LAYERS}")
    return {
        "layers": [LAYERS.described(f"layers[{i}]", layer) for i, layer in enumerate(layers)],
        "channels": a_count("channels", channels),
        "patch": list(_ints("patch", patch, 2)),
        "dtype": dtype,
    }


def net_options(value) -> dict:
    """The arguments of ``Net`` that an ``architecture`` stands for.

    Raises:
        ValueError: it is none.
    """
    value = exactly("net", value, {"layers", "channels", "patch", "dtype"})
    described = value["layers"]
    if not isinstance(described, list) or len(described) > MAX_LAYERS:
        raise ValueError(f"net.layers is {quoted(described)}; expected at most {MAX_LAYERS} layers")
    return {
        "layers": [LAYERS.rebuilt(f"net.layers[{i}]", one) for i, one in enumerate(described)],
        "channels": a_count("net.channels", value["channels"]),
        "patch": checks.pair("net.patch", _ints("net.patch", value["patch"], 2)),
        "dtype": a_choice("net.dtype", value["dtype"], checks.FLOAT_DTYPES),
    }


def held(array: np.ndarray, dtype: str) -> np.ndarray:
    """A float array in the dtype of its net: the backend ``reference`` widens every one."""
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def demanded(nodes, dtype: str) -> dict[str, tuple[str, tuple]]:
    """Dtypes and shapes of the arrays of a net, by their names in a file."""
    return {
        f"net/{name}": (dtype, shape)
        for node in nodes
        for name, shape in (node.parameters | node.statistics).items()
    }


def check_arrays(arrays: dict, demanded: dict[str, tuple[str, tuple]]) -> None:
    """Compare what is there with what must be; an extent None is any.

    Args:
        arrays: whatever has a dtype and a shape, by name.
        demanded: dtypes and shapes, by name.

    Raises:
        ValueError: naming the first array that differs.
    """
    if arrays.keys() != demanded.keys():
        name = min(arrays.keys() ^ demanded.keys())
        fault = "missing" if name in demanded else "too many"
        raise ValueError(f"array {quoted(name)} is {fault}")
    for name, (dtype, shape) in demanded.items():
        array = arrays[name]
        same = len(array.shape) == len(shape) and all(
            want in (None, have) for have, want in zip(array.shape, shape)
        )
        if not same or array.dtype.name != dtype:
            raise ValueError(
                f"array {quoted(name)} is {array.dtype.name} of shape {array.shape}; "
                f"expected {dtype} of shape {shape}"
            )


def check_values(where: str, name: str, array: np.ndarray) -> None:
    """Refuse what no net and no optimiser is to hold.

    Args:
        where: the array's name in messages.
        name: its name in the file, which says whether it is a variance, or a mean of squares.

    Raises:
        ValueError: NaN, infinities, or a negative variance or mean of squares.
    """
    if not np.isfinite(array).all():
        raise ValueError(
            f"{where} holds NaN or infinities as {array.dtype}; expected finite numbers"
        )
    squares = name.endswith(".variance") or name.startswith("slot/square.")
    if squares and (array < 0).any():
        raise ValueError(f"{where} holds negative numbers; expected numbers of at least 0")


def a_count(where: str, value, least: int = 1) -> int:
    """``value`` if it is an int from ``least`` on, of 64 bits."""
    if type(value) is not int or not least <= value <= LARGEST_INT:
        raise ValueError(f"{where} is {quoted(value)}; expected an int from {least} to 2^64 - 1")
    return value


def a_number(where: str, value) -> int | float:
    """``value`` if it is finite and at least 0."""
    whole = type(value) is int and 0 <= value <= LARGEST_INT
    if not whole and not (isinstance(value, float) and 0 <= value < math.inf):
        raise ValueError(
            f"{where} is {quoted(value)}; expected a finite Python number of at least 0"
        )
    return value if whole else float(value)


def a_choice(where: str, value, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{where} is {quoted(value)}; expected {' or '.join(choices)}")
    return value


def a_text(where: str, value) -> str:
    """``value`` if it is a str of printable characters, which can always be encoded."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{where} is {quoted(value)}; expected a printable text")
    return str(value)


def _checked(field, where, value):
    return _CHECKS[field.type](where, value)


def _positive(where, value):
    value = a_number(where, value)
    if value == 0:
        raise ValueError(f"{where} is {value}; expected more than 0")
    return value


def _fraction(where, value):
    value = a_number(where, value)
    if value >= 1:
        raise ValueError(f"{where} is {value}; expected less than 1")
    return value


def _bool(where, value):
    if type(value) is not bool:
        raise ValueError(f"{where} is {quoted(value)}; expected True or False")
    return value


def _texts(where, value):
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} is {quoted(value)}; expected texts")
    return tuple(a_text(where, one) for one in value)


def _ints(where, value, number):
    if not isinstance(value, list | tuple) or len(value) != number:
        raise ValueError(f"{where} is {quoted(value)}; expected {number} ints")
    return tuple(a_count(where, one, 0) for one in value)


def _pair(where, value):
    return a_count(where, value, 0) if type(value) is int else _ints(where, value, 2)


def _or_none(check):
    return lambda where, value: None if value is None else check(where, value)


_CHECKS = {
    "int": a_count,
    "float": a_number,
    "Positive": _positive,
    "Fraction": _fraction,
    "Factor": a_number,
    "Rate": a_number,
    "bool": _bool,
    "Statistics": a_text,
    "str | None": _or_none(a_text),
    "tuple[str, ...] | None": _or_none(_texts),
    "int | Pair": _pair,
    "int | Pair | None": _or_none(_pair),
    "Padding": _pair,
    "Margins": lambda where, value: _ints(where, value, 4),
}
"""By the annotation of a field; what ``net.options`` allows within that, it checks itself."""

LAYERS = Kinds(
    *(
        cls
        for cls in vars(kinds_of_layers).values()
        if isinstance(cls, type) and issubclass(cls, kinds_of_layers.Layer) and hasattr(cls, "kind")
    )
)
"""Every kind of layer of ``net.layers``."""
