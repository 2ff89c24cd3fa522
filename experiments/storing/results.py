"""Result files: measurements and arrays, and a JSON record of how they were made.

Whatever is read may be damaged or come from a stranger: it is checked, and an error names the file
and the fault.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from experiments.storing import arrays as npz
from experiments.storing import tables
from experiments.storing.kinds import checked_fields
from experiments.storing.reading import MEBIBYTE, BadFile, content_of, json_of
from net.files import write_atomically

TABLE, ARRAYS, RECORD = "measurements.csv", "arrays.npz", "record.json"
LARGEST = {TABLE: 16 * MEBIBYTE, ARRAYS: 16 * MEBIBYTE, RECORD: MEBIBYTE}
"""Bytes of each file; arrays are not larger when unpacked, either."""
FIELDS = {
    **dict.fromkeys(("utc", "commit", "backend", "cpu", "python", "command", "experiment"), str),
    **{"dirty": bool, "threads": int, "gpu": str | None},
    **dict.fromkeys(("versions", "sha256"), dict[str, str]),
}
"""What every record holds, and the kind of each; a record may hold more."""


class BadResults(BadFile):
    """Result files that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Results:
    """The stored results of an experiment.

    Attributes:
        folder: the folder that holds them.
        record, rows, arrays: the contents as they were saved.
        contents: the bytes of the files, by their names.
    """

    folder: Path
    record: dict
    rows: list[dict]
    arrays: dict[str, np.ndarray]
    contents: dict[str, bytes]


def check_writable(argument: str, folder: Path) -> None:
    """Check that files can be written to ``folder``, which need not be there yet; makes nothing.

    Raises:
        OSError: naming the ``argument`` and what is no such folder.
    """
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(
            f"{argument}; expected a writable folder, and {there} is none: {error.strerror}"
        ) from None


def save(folder: Path, rows: list[dict], record: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write ``rows`` (one measurement each), ``arrays`` if any, and their record to ``folder``.

    The record is written last and holds the digests of the others, so that ``load`` detects files
    that do not belong together.
    """
    contents = {TABLE: tables.written(rows)}
    if arrays:
        contents[ARRAYS] = npz.written(arrays)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    record = record | {"sha256": {name: _digest(content) for name, content in contents.items()}}
    write_atomically(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def load(folder: Path, columns: dict[str, dict[str, Any]], fields: dict[str, Any]) -> Results:
    """What an experiment's ``folder`` holds.

    Args:
        columns: the kind of each column of the rows (see ``storing.kinds``) by its name, for each
            experiment that the record may name.
        fields: the kinds of what the record holds beside ``FIELDS``.

    Raises:
        BadResults: a file is missing or damaged, or they do not belong together.
    """
    if folder.is_symlink():
        raise BadResults(f"{folder} is a link; expected a folder")
    record_content = _content(folder, RECORD)
    record = _made_of(folder / RECORD, _record, record_content, FIELDS | fields, columns)
    contents = {name: _content(folder, name) for name in record["sha256"]}
    for name, content in contents.items():
        if record["sha256"][name] != _digest(content):
            raise BadResults(f"{folder / name} is not the file that {folder / RECORD} describes")
    columns = columns[record["experiment"]]
    rows = _made_of(folder / TABLE, tables.read, contents[TABLE], columns)
    arrays = {}
    if ARRAYS in contents:
        arrays = _made_of(folder / ARRAYS, npz.read, contents[ARRAYS], LARGEST[ARRAYS])
    return Results(folder, record, rows, arrays, {RECORD: record_content} | contents)


def _content(folder, name):
    try:
        return content_of(folder / name, LARGEST[name])
    except BadFile as error:
        raise BadResults(str(error)) from None


def _made_of(path, make, *arguments):
    """What ``make`` makes of a file."""
    try:
        return make(*arguments)
    except ValueError as error:
        raise BadResults(f"{path} is damaged: {error}") from None
    except MemoryError:
        raise BadResults(f"{path} does not fit into memory") from None


def _record(content, fields, experiments):
    record = checked_fields(json_of(content), fields)
    if record["experiment"] not in experiments:
        names = ", ".join(experiments)
        raise ValueError(f"experiment is {record['experiment']!r}; expected {names}")
    datetime.fromisoformat(record["utc"])
    if record["threads"] < 1:
        raise ValueError(f"threads is {record['threads']}; expected at least 1")
    described = record["sha256"].keys()
    if TABLE not in described or not described <= {TABLE, ARRAYS}:
        names = ", ".join(map(repr, described)) or "nothing"
        raise ValueError(f"sha256 names {names}; expected {TABLE} and, for arrays, {ARRAYS}")
    return record


def _digest(content):
    return hashlib.sha256(content).hexdigest()
