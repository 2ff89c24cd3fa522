"""Kinds of values that files hold, and values checked against them.

A kind is ``str``, ``int``, ``float``, ``bool``, a union of these and None, ``list[str]`` or
``dict[str, str]``. Ints have 64 bits; texts can be written as UTF-8.
"""

from __future__ import annotations

import re
import reprlib
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin

LARGEST_INT = 2**63 - 1
_INT = re.compile(r"[+-]?\d{1,19}")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.IGNORECASE)
_NAMES = {str: "a text", int: "an int", float: "a number", bool: "true or false", NoneType: "null"}


def checked(name: str, value: Any, kind: Any) -> Any:
    """``value`` if it is of the kind; an int where a float is expected stays an int.

    Raises:
        ValueError: it is of another.

    >>> checked("gpu", None, str | None)
    """
    if not _is(value, kind):
        raise ValueError(f"{name} is {reprlib.repr(value)}; expected {_name(kind)}")
    return value


def checked_fields(record: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """``record`` if it is a dict that holds the fields, each of its kind.

    Raises:
        ValueError: it does not.
    """
    if type(record) is not dict:
        raise ValueError("it is no object of JSON")
    for name, kind in fields.items():
        if name not in record:
            raise ValueError(f"it has no {name}")
        checked(name, record[name], kind)
    return record


def parsed(name: str, text: str, kind: Any) -> Any:
    """The value of the kind that ``text`` stands for; an empty text stands for None.

    Raises:
        ValueError: it stands for no such value.

    >>> parsed("seconds", "0.5", float | None), parsed("seconds", "", float | None)
    (0.5, None)
    """
    members = _members(kind)
    if text == "" and NoneType in members:
        return None
    if int in members and _INT.fullmatch(text) and abs(int(text)) <= LARGEST_INT:
        return int(text)
    if float in members and _FLOAT.fullmatch(text):
        return float(text)
    if bool in members and text in ("True", "False"):
        return text == "True"
    if str in members:
        return text
    raise ValueError(f"{name} is {reprlib.repr(text)}; expected {_name(kind)}")


@cache
def _members(kind):
    """The types of a union, or the only one."""
    return get_args(kind) or (kind,)


def _is(value, kind):
    if get_origin(kind) in (list, dict):
        if type(value) is not get_origin(kind):
            return False
        parts = value if type(value) is list else [*value, *value.values()]
        return all(_is(part, str) for part in parts)
    members = _members(kind)
    if type(value) is int:
        return (int in members or float in members) and abs(value) <= LARGEST_INT
    if type(value) is str:
        return str in members and _is_encodable(value)
    return type(value) in members


def _is_encodable(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(kind):
    if get_origin(kind) is list:
        return "a list of texts"
    if get_origin(kind) is dict:
        return "texts by name"
    return " or ".join(_NAMES[member] for member in _members(kind))
