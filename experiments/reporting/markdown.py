"""Texts that were read from files, as Markdown shows them: nothing in them is taken for markup."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

# Underscores within words, as in names of kernels, are no markup; "www." and "://" are links
_MARKUP = re.compile(
    r"[\\`*~$|<\[\]&]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=\bwww)\.", re.IGNORECASE
)


def escaped(text: str) -> str:
    """``text`` for a line or a table's cell, its line breaks and controls made spaces.

    >>> escaped("a | <b>`c`</b>")
    'a \\\\| \\\\<b>\\\\`c\\\\`\\\\</b>'
    """
    return _MARKUP.sub(r"\\\g<0>", _one_line(text))


def each_escaped(record: dict) -> dict:
    """A row or a record, all texts in it escaped."""
    return {_of(key): _of(value) for key, value in record.items()}


def code(text: str) -> str:
    """``text`` as inline code.

    >>> code("a `b`")
    '`` a `b` ``'
    """
    text = _one_line(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{space}{text}{space}{fence}"


def link(text: str, path: Path | str) -> str:
    """A link to a file."""
    return f"[{escaped(text)}]({quote(os.fsencode(path))})"


def _one_line(text):
    if text.isprintable():
        return text
    text = text.encode(errors="replace").decode()
    return "".join(c if c.isprintable() else " " for c in text)


def _of(value):
    match value:
        case str():
            return escaped(value)
        case dict():
            return each_escaped(value)
        case list():
            return [_of(part) for part in value]
    return value
