"""Tables of measurements as CSV, whose columns are of known kinds."""

from __future__ import annotations

import csv
import io
from types import NoneType
from typing import Any, get_args

from experiments.storing.kinds import parsed

MOST_CELLS = 1_500_000


def written(rows: list[dict]) -> bytes:
    """The CSV of rows that all have the columns of the first one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def read(content: bytes, columns: dict[str, Any]) -> list[dict]:
    """The rows of a CSV, their values of the kinds of their columns.

    A column that may be empty may be missing: its values are None. Other columns than those asked
    for are left out.

    Args:
        columns: the kind of each (see ``storing.kinds``) by its name.

    Raises:
        ValueError: it is no such table; the message names line and column.
    """
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", newline=""), strict=True)
    try:
        return _rows(lines, columns)
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from None


def _rows(lines, columns):
    names = next(lines, [])
    if len(set(names)) < len(names):
        raise ValueError("two of its columns have the same name")
    places = {name: place for place, name in enumerate(names) if name in columns}
    absent = [name for name in columns if name not in places]
    for name in absent:
        if NoneType not in get_args(columns[name]):
            raise ValueError(f"it has no column {name}")
    missing = dict.fromkeys(absent)
    rows, most = [], MOST_CELLS // max(1, len(columns))
    for line in lines:
        if len(rows) == most:
            raise ValueError(f"it has more than {most} rows")
        if len(line) != len(names):
            found = f"line {lines.line_num} has {len(line)} cells"
            raise ValueError(f"{found}; expected {len(names)}")
        try:
            cells = {name: parsed(name, line[at], columns[name]) for name, at in places.items()}
        except ValueError as error:
            raise ValueError(f"line {lines.line_num}: {error}") from None
        rows.append(cells | missing)
    if not rows:
        raise ValueError("it has no rows")
    return rows
