"""The files of nets and runs: safetensors, with all that is no array in one JSON document.

docs/file-format.md is the specification. What is read may come from a stranger: everything is
checked against the file's size before anything of a declared size is allocated.
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors.numpy import save

from net.files import checked_file, checked_path, write_atomically

FORMAT = "regularly-sparse"
VERSION = (2, 1)
"""Major and minor. Version 1 was the ``.npz`` of ``net.learning.old_runs``."""

KEY = FORMAT
"""The one key of the safetensors metadata."""

MAX_HEADER = 4 * 2**20
MAX_DEPTH = 16
LARGEST_INT = 2**64 - 1

DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}

_ALWAYS = {"format", "version", "requires", "checksum"}
USAGE = (
    *("normalization", "class_names", "colors", "label_rule", "border", "training"),
    "receptive_field",
)
"""Keys that say how the net is used."""
_PARTS = {"net", "run", *USAGE}
PREFIXES = ("net/", "run/", "slot/")

# Strings match whole, closed or not, and are never gone back into: one pass, whatever the text
_STRINGS_AND_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{\]}]', re.DOTALL)


class BadCheckpoint(ValueError):
    """A file that is no net or run of this program, or not a whole one; the message says why.

    >>> import tempfile
    >>> from net import load
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     load(file.name)
    Traceback (most recent call last):
        ...
    net.file_format.BadCheckpoint: ... cannot be loaded: ...
    """


@dataclass(frozen=True)
class Entry:
    """An array of a file: where it lies behind the header, in bytes."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass
class Contents:
    """An open file, its header read and checked.

    Attributes:
        document: all that is no array, not yet checked beyond format and version.
        entries: the arrays that it declares, by name; they fill the rest of the file exactly.
    """

    document: dict
    entries: dict[str, Entry]
    file: BinaryIO
    data_begins: int

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays, by name, in the machine's byte order.

        Raises:
            ValueError: they are not those that were written.
        """
        arrays = {}
        for name, entry in self.entries.items():
            array = np.empty(entry.shape, entry.dtype)
            self.file.seek(self.data_begins + entry.begin)
            if self.file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
                raise ValueError("it was cut while it was read")
            arrays[name] = array
        if self.document.get("checksum") != _checksum(self.document, arrays):
            raise ValueError("its checksum is wrong: it is damaged")
        native = {name: array.dtype.newbyteorder("=") for name, array in arrays.items()}
        return {name: array.astype(native[name], copy=False) for name, array in arrays.items()}


def write(path: str | Path, document: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write a file atomically; the same content gives the same bytes, in every process.

    Args:
        path: the file.
        document: its keys ``net``, ``run`` and those of ``USAGE``, as JSON can hold them.
        arrays: float32 or float64, by name.

    Raises:
        ValueError: the document is too large.
        OSError: the file cannot be written; the old one is as it was.
    """
    path = checked_path("path", path)
    document = {"format": FORMAT, "version": list(VERSION), "requires": []} | document
    # The writer copies memory as it lies, so a Fortran-ordered array would come out permuted
    arrays = {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        for name, array in arrays.items()
    }
    document["checksum"] = _checksum(document, arrays)
    content = save(arrays, {KEY: _text(document)})
    if int.from_bytes(content[:8], "little") > MAX_HEADER:
        raise ValueError(
            f"the description of {path} takes {int.from_bytes(content[:8], 'little')} bytes; "
            f"expected at most {MAX_HEADER} (history and layers are in it)"
        )
    write_atomically(path, content)


@contextmanager
def opened(path: str | Path):
    """The ``Contents`` of a file; a ValueError in the block becomes a BadCheckpoint of its path.

    Raises:
        BadCheckpoint: it is not what ``write`` makes, or the block found it wrong.
        OSError: it cannot be read.
    """
    path = checked_file("path", path)
    with open(path, "rb") as file:
        try:
            yield _contents(path, file)
        except BadCheckpoint:
            raise
        except (ValueError, TypeError, OverflowError) as error:
            raise BadCheckpoint(f"{path} cannot be loaded: {str(error)[:1000]}") from None


def _contents(path, file) -> Contents:
    size = os.fstat(file.fileno()).st_size
    begin = file.read(8)
    if begin[:4] == b"PK\x03\x04":
        raise BadCheckpoint(
            f"{path} is an .npz, as runs were until version 1: "
            f"python -m net convert {path} NEW makes a new file of it"
        )
    length = int.from_bytes(begin, "little")
    if len(begin) < 8 or length > size - 8:
        raise ValueError("it is truncated, or no safetensors file")
    if length > MAX_HEADER:
        raise ValueError(f"its header takes {length} bytes; expected at most {MAX_HEADER}")
    header = parsed("header", file.read(length))
    metadata = exactly("header.__metadata__", header.pop("__metadata__", None), {KEY})
    if not isinstance(metadata[KEY], str):
        raise ValueError(f"header.__metadata__ holds {quoted(metadata[KEY])}; expected a text")
    document = parsed("document", metadata[KEY].encode())
    entries = {name: _entry(f"array {quoted(name)}", value) for name, value in header.items()}
    _check_filled(entries, size - 8 - length)
    _check_versions(document, entries)
    return Contents(document, entries, file, 8 + length)


def _entry(name, value) -> Entry:
    value = exactly(name, value, {"dtype", "shape", "data_offsets"})
    if value["dtype"] not in list(DTYPES):
        raise ValueError(f"{name} has dtype {quoted(value['dtype'])}; expected F32 or F64")
    dtype, shape, offsets = DTYPES[value["dtype"]], value["shape"], value["data_offsets"]
    for key, ints, most in (("shape", shape, 8), ("data_offsets", offsets, 2)):
        if not isinstance(ints, list) or len(ints) > most or not all(_is_size(i) for i in ints):
            raise ValueError(f"{name} has {key} {quoted(ints)}; expected ints of at least 0")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{name} has data_offsets {quoted(offsets)}; expected two that span shape "
            f"{quoted(shape)} of {value['dtype']}"
        )
    return Entry(dtype, tuple(shape), *offsets)


def _is_size(value):
    return type(value) is int and value >= 0


def _check_filled(entries, size):
    """Refuse arrays that overlap, leave holes or do not end where the file does."""
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end:
            raise ValueError(f"its arrays overlap or leave a hole at byte {min(entry.begin, end)}")
        end = entry.end
    if end != size:
        raise ValueError(f"its arrays take {end} bytes, and {size} follow the header")


def _check_versions(document, entries):
    if document.get("format") != FORMAT:
        raise ValueError(f"it is a {quoted(document.get('format'))}; expected a {FORMAT!r}")
    version = document.get("version")
    if not isinstance(version, list) or len(version) != 2 or not all(_is_size(v) for v in version):
        raise ValueError(f"its version is {quoted(version)}; expected [major, minor]")
    if version[0] != VERSION[0]:
        newer = "newer than" if version[0] > VERSION[0] else "other than"
        raise ValueError(f"its version {version} is {newer} {list(VERSION)}, which is read here")
    requires = document.get("requires")
    if not isinstance(requires, list) or not all(isinstance(key, str) for key in requires):
        raise ValueError(f"requires is {quoted(requires)}; expected a list of keys")
    unknown = sorted(set(requires) - _PARTS)
    if unknown:
        raise ValueError(
            f"its version {version} needs {quoted(unknown)}, unknown to {list(VERSION)}"
        )
    more = document.keys() - _ALWAYS - _PARTS
    more |= {name for name in entries if not name.startswith(PREFIXES)}
    if more and version[1] <= VERSION[1]:
        raise ValueError(f"it holds {quoted(sorted(more))}, unknown to its version {version}")


def parsed(name: str, text: bytes, *, not_finite: bool = False) -> dict:
    """An object of strict JSON: no key twice, no number beyond its type, nothing too deep.

    Args:
        name: what messages call it.
        text: the JSON.
        not_finite: take ``NaN``, ``Infinity`` and ``-Infinity``, which are no JSON.

    Raises:
        ValueError: it is none.
    """
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise ValueError(f"{name} is nested more than {MAX_DEPTH} deep")
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_without_twins,
            parse_int=_int,
            parse_float=_float,
            parse_constant=float if not_finite else _refuse_constant,
        )
    except ValueError as error:
        raise ValueError(f"{name} is no JSON of this format: {error}") from None
    return an_object(name, value)


def _without_twins(pairs):
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands there twice")
    return value


def _int(text):
    if len(text) > 21 or abs(int(text)) > LARGEST_INT:
        raise ValueError(f"{text[:40]} takes more than 64 bits")
    return int(text)


def _float(text):
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is beyond float64")
    return value


def _refuse_constant(text):
    raise ValueError(f"{text} is no number")


def an_object(name: str, value) -> dict:
    """``value`` if it is a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {quoted(value)}; expected an object")
    return value


def exactly(name: str, value, keys: set[str]) -> dict:
    """``value`` if it is a JSON object with these keys and no other."""
    if an_object(name, value).keys() != keys:
        raise ValueError(
            f"{name} has the keys {quoted(sorted(value))}; expected {', '.join(sorted(keys))}"
        )
    return value


def quoted(value) -> str:
    """``value`` as a message shows it, however large it is."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def _text(document):
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _checksum(document, arrays):
    """CRC-32 of the arrays' bytes by name, then of the rest of the document."""
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].reshape(-1).view(np.uint8), crc)
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return zlib.crc32(_text(rest).encode(), crc)
