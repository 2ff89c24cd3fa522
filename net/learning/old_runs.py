"""Runs in the old format, an ``.npz``, made into files of today: ``python -m net convert OLD NEW``.

Version 1 held a JSON header and the arrays, each stored uncompressed; any other archive is refused
before anything is unpacked.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

from net import file_format
from net.description import held, net_options
from net.file_format import MAX_HEADER, BadCheckpoint, exactly, parsed, quoted
from net.files import checked_file, checked_path
from net.learning.checkpoint import LOSSES, checked, history_described

FORMAT = "regularly-sparse training run"

_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][fu][1248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:(?:0|[1-9]\d*), ?)*(?:0|[1-9]\d*)?)\), \} *\n",
    re.DOTALL,
)
MAX_MEMBERS = 100_000
_DTYPES = {b"<f4", b"<f8", b"|u1"}


def convert(old: str | Path, new: str | Path) -> None:
    """Write the run of the file ``old`` to the file ``new``, for ``net.learning.checkpoint.load``.

    Raises:
        BadCheckpoint: ``old`` is no run of version 1, or not a whole one.
        OSError: a file cannot be read or written, or ``new`` is there already.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as old:
    ...     convert(old.name, "run.safetensors")
    Traceback (most recent call last):
        ...
    net.file_format.BadCheckpoint: ... cannot be converted: ...
    """
    old, new = checked_file("old", old), checked_path("new", new)
    if new.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    content = old.read_bytes()
    try:
        document, arrays = _run(_stored(content))
        checked(document, arrays)
    except _ERRORS as error:
        raise BadCheckpoint(f"{old} cannot be converted: {str(error)[:1000]}") from None
    file_format.write(new, document, arrays)


_ERRORS = (
    *(ValueError, TypeError, OverflowError),
    # of zipfile
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error),
)


def _run(arrays) -> tuple[dict, dict]:
    """The document and the arrays of today, not yet checked against each other."""
    header = arrays.pop("header", np.empty(0, "u1"))
    if header.dtype != np.uint8 or header.nbytes > MAX_HEADER:
        raise ValueError(f"its header is {header.dtype} of {header.nbytes} bytes")
    header = parsed("header", header.tobytes(), not_finite=True)
    if (header.get("format"), header.get("version")) != (FORMAT, 1):
        kind = f"{quoted(header.get('format'))}, version {quoted(header.get('version'))}"
        raise ValueError(f"it is a {kind}; expected a {FORMAT!r}, version 1")
    keys = {"format", "version", "net", "trainer", "steps", "losses", "history"}
    header = exactly("header", header, keys)
    keys = {"optimizer", "border", "class_weights", "seed", "form", "batch"}
    run = exactly("trainer", header["trainer"], keys)
    run |= {"steps": header["steps"], "history": history_described(header["history"])}
    losses = header["losses"]
    if not isinstance(losses, list) or not all(type(loss) in (int, float) for loss in losses):
        raise ValueError(f"losses is {quoted(losses)}; expected numbers")
    dtype = net_options(header["net"])["dtype"]
    wide = {name: held(array, dtype) for name, array in arrays.items() if array.itemsize == 8}
    arrays = arrays | wide | {LOSSES: np.array(losses, np.float64)}
    return {"net": header["net"], "run": run}, arrays


def _stored(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an archive, by name."""
    arrays = {}
    if content.count(b"PK\x01\x02") > MAX_MEMBERS:
        raise ValueError(f"it holds more than {MAX_MEMBERS} arrays")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > len(content):
            raise ValueError("it unpacks to more than its own size")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if member.compress_type != zipfile.ZIP_STORED or member.filename in (name, ""):
                raise ValueError(f"it holds {quoted(member.filename)}; expected stored arrays")
            if name in arrays:
                raise ValueError(f"it holds {quoted(name)} twice")
            arrays[name] = _array(name, archive.read(member))
    return arrays


def _array(name, content) -> np.ndarray:
    header = _NPY.match(content)
    length = int.from_bytes(content[8:10], "little")
    if header is None or header.end() != 10 + length or header[1] not in _DTYPES:
        raise ValueError(f"array {quoted(name)} is of no kind that a run holds")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(extent) for extent in header[3].replace(b",", b" ").split())
    if len(shape) > 8 or math.prod(shape) * dtype.itemsize != len(content) - header.end():
        raise ValueError(f"array {quoted(name)} has shape {shape}, and other bytes than that")
    order = "F" if header[2] == b"True" else "C"
    return np.frombuffer(content, dtype, offset=header.end()).reshape(shape, order=order)
