"""Arrays of results as NumPy's ``.npz``, read within limits: nothing is unpickled or unpacked that
is larger than it may be."""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib

import numpy as np

MOST_ARRAYS = 100
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][biuf][1248])', 'fortran_order': (True|False), "
    rb"'shape': (\((?:\d{1,10}, ?)*(?:\d{1,10})?\)), \} *\n",
    re.DOTALL,
)
_ERRORS = (
    *(ValueError, TypeError, OverflowError, MemoryError),
    # of zipfile
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError, OSError),
    *(struct.error, zlib.error),
)


def written(arrays: dict[str, np.ndarray]) -> bytes:
    """The archive of arrays by name."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def read(content: bytes, most: int) -> dict[str, np.ndarray]:
    """The arrays of an archive that unpacks to at most ``most`` bytes.

    Raises:
        ValueError: it is none.
    """
    if not content.startswith(b"PK"):
        raise ValueError("it is no archive of arrays")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MOST_ARRAYS or sum(m.file_size for m in members) > most:
                raise ValueError(f"more than {MOST_ARRAYS} arrays, or {most} bytes")
            return {m.filename.removesuffix(".npy"): _array(archive.read(m)) for m in members}
    except _ERRORS as error:
        raise ValueError(f"its arrays cannot be read: {error}") from None


def _array(content):
    header = _NPY.match(content)
    if header is None or header.end() != 10 + int.from_bytes(content[8:10], "little"):
        raise ValueError("an array is of no kind that results hold")
    dtype, shape = np.dtype(header[1].decode()), tuple(map(int, re.findall(rb"\d+", header[3])))
    if math.prod(shape) * dtype.itemsize != len(content) - header.end():
        raise ValueError(f"an array is {dtype} of shape {shape}, and has other bytes")
    order = "F" if header[2] == b"True" else "C"
    return np.frombuffer(content, dtype, offset=header.end()).reshape(shape, order=order)
