"""What layers, learning rules and schedules share: dataclasses of options. An option's annotation
says what values it may have. ``Options`` checks it where it is given, and
``net.description`` where it comes from a file.
"""

from __future__ import annotations

from dataclasses import fields
from typing import ClassVar, Literal

import numpy as np

from kernels import checks
from kernels.checks import Pair

Positive = float
"""A number above 0."""
Fraction = float
"""A number of at least 0 and less than 1."""
Factor = float
"""A number of at least 0 and at most 1."""
Padding = int | Pair
"""Like other pairs, but of ints of at least 0."""
Statistics = Literal["frozen", "batch"]


class Options:
    """A dataclass that refuses what an option cannot be, and options that it does not have.

    Values are kept as Python's own: NumPy's numbers as ints and floats, lists as tuples. So equal
    ones are equal, hashed and kept in files alike.

    Raises:
        TypeError, ValueError: an option is wrong.
    """

    checks: ClassVar[dict] = {}

    def __new__(cls, *_, **options):
        names = [field.name for field in fields(cls)]
        unknown = sorted(options.keys() - set(names))
        if unknown:
            raise TypeError(
                f"{cls.__name__} is given {', '.join(unknown)}; expected {', '.join(names)}"
            )
        return super().__new__(cls)

    def __post_init__(self):
        for field in fields(self):
            value = _plain(getattr(self, field.name))
            if check := self.checks.get(field.type):
                value = check(f"{type(self).__name__}: {field.name}", value)
            object.__setattr__(self, field.name, value)


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, tuple | list) else value


def _pair(name, value, least=1):
    """A single int is kept as an int."""
    pair = checks.pair(name, value, least)
    return pair if isinstance(value, tuple) else pair[0]


def _factor(name, value):
    number = checks.number(name, value)
    if number > 1:
        raise ValueError(f"{name} is {value!r}; expected a number of at least 0 and at most 1")
    return number


def _name(name, value):
    if not is_name(value):
        raise ValueError(f"{name} is {value!r}; expected a printable text, or None")
    return value


def _names(name, value):
    if not isinstance(value, tuple) or not value or not all(map(is_name, value)):
        raise ValueError(
            f"{name} is {value!r}; expected a tuple of names of layers, such as ('image',), or None"
        )
    return value


def is_name(value):
    return isinstance(value, str) and value != "" and value.isprintable()


def _or_none(check):
    return lambda name, value: None if value is None else check(name, value)


Options.checks = {
    "int": checks.count,
    "float": checks.number,
    "Positive": lambda name, value: checks.number(name, value, positive=True),
    "Fraction": lambda name, value: checks.number(name, value, below=1),
    "Factor": _factor,
    "bool": checks.flag,
    "int | Pair": _pair,
    "int | Pair | None": _or_none(_pair),
    "Padding": lambda name, value: _pair(name, value, 0),
    "Margins": checks.margins,
    "Statistics": lambda name, value: checks.choice(name, value, ("frozen", "batch")),
    "str | None": _or_none(_name),
    "tuple[str, ...] | None": _or_none(_names),
}
"""Validators by annotation: each refuses a wrong value and returns the normalised one."""
