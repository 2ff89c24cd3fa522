"""Pages as standard output shows them, in lines of limited length; files keep them whole."""

from __future__ import annotations

import re
import textwrap
from itertools import accumulate, groupby, zip_longest

WIDTH = 120
_GAP = "  "
_LONGEST_CELL = 44
"""Longer cells go on in the next line."""


def fitted(page: str, place: str | None = None, width: int = WIDTH) -> str:
    """A page in Markdown as plain text of at most ``width`` columns.

    Text is wrapped. Of a table that is too wide the last columns are left out, and named, where a
    file holds the whole page; else they follow in further tables, which begin with the first column
    as well. Columns without an entry are left out anyway.

    Args:
        page: its tables have a line for each row.
        place: the file that holds the whole page, for the note on columns that were left out; None
            where nothing may be left out.

    >>> print(fitted("| layer | ms |" + chr(10) + "|---|---|" + chr(10) + "| conv1 | 3 |", "a.md"))
    layer  ms
    conv1  3
    """
    made = []
    for is_table, group in groupby(page.split("\n"), lambda line: line.startswith("|")):
        lines = [*group]
        made += _table(lines, place, width) if is_table else _text(lines, width)
    return "\n".join(made)


def _text(lines, width):
    for line in lines:
        if not line.startswith("!["):
            indent = "  " * line.startswith("- ")
            options = {"break_long_words": False, "break_on_hyphens": False}
            plain = re.sub(r"\\(.)", r"\1", line)
            yield textwrap.fill(plain, width, subsequent_indent=indent, **options)


def _table(lines, place, width):
    names, _, *rows = map(_cells, lines)
    filled = [cells for cells in zip(names, *rows) if any(cells[1:])]
    columns = [_column(cells) for cells in filled]
    fitting = _fitting(columns, width)
    yield from _aligned(columns[:fitting])
    if place and fitting < len(columns):
        left = "; ".join(cells[0] for cells in filled[fitting:])
        yield from _text([f"({place} has more columns: {left})"], width)
        return
    key, columns = columns[:1], columns[fitting:]
    while columns:
        fitting = _fitting(key + columns, width) - 1
        yield from ("", *_aligned(key + columns[:fitting]))
        columns = columns[fitting:]


def _fitting(columns, width):
    """How many columns fit beside each other: at least two, of which ``WIDTH`` holds any."""
    ends = accumulate(len(_GAP) + size for size, _ in columns)
    return max(2, sum(end - len(_GAP) <= width for end in ends))


def _aligned(columns):
    """The lines of a table of such columns (see ``_column``)."""
    for parts in zip(*(cells for _, cells in columns)):
        for words in zip_longest(*parts, fillvalue=""):
            aligned = (word.ljust(size) for word, (size, _) in zip(words, columns))
            yield _GAP.join(aligned).rstrip()


def _column(cells):
    """The width of a column, and its cells as lines of that width; the heading is the first."""
    heading, *rest = cells
    parts = re.findall(r"[^\s-]+-?|-", heading)
    longest = max([*map(len, rest), *map(len, parts), 1])
    size = min(longest, _LONGEST_CELL)
    return size, [textwrap.wrap(cell, size) or [""] for cell in cells]


def _cells(line):
    cells = re.split(r"(?<!\\)\|", line.strip())[1:-1]
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in cells]
