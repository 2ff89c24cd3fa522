"""Arrays of results as NumPy's ``.npz``, read within limits: nothing is unpickled or unpacked that
is larger than it may be."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib

import numpy as np

MOST_ARRAYS = 100
_ERRORS = (
    *(ValueError, TypeError, OverflowError, SyntaxError, RecursionError, MemoryError),
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
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MOST_ARRAYS or sum(m.file_size for m in members) > most:
                raise ValueError(f"more than {MOST_ARRAYS} arrays, or {most} bytes")
            return {m.filename.removesuffix(".npy"): _array(archive.read(m)) for m in members}
    except _ERRORS as error:
        raise ValueError(f"its arrays cannot be read: {error}") from None


def _array(content):
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is in a format that is not known here")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "biuf" or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"an array is {dtype} of {shape}, and has other bytes")
    order = "F" if fortran else "C"
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order=order)
