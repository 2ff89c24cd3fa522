"""What layers, learning rules and schedules share: dataclasses that hold what was asked for."""

from __future__ import annotations

from dataclasses import fields

import numpy as np


class Options:
    """A dataclass that names an option which it does not have, and keeps values as Python's own:
    NumPy's numbers as ints and floats, lists as tuples. So equal ones are equal, hashed and kept in
    files alike.
    """

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
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, tuple | list) else value
