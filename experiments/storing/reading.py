"""Files that may be damaged, or come from a stranger: read within limits of kind and size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20


class BadFile(ValueError):
    """A file that is not what it should be; the message names it and the fault."""


def content_of(path: Path, most: int) -> bytes:
    """The bytes of a file of at most ``most`` bytes.

    Raises:
        BadFile: it is missing, larger, a link, or no file; or it cannot be read.
    """
    if path.is_symlink():
        raise BadFile(f"{path} is a link; expected a file")
    if not path.exists():
        raise BadFile(f"{path} is missing")
    if not path.is_file():
        raise BadFile(f"{path} is a folder or a device; expected a file")
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise BadFile(f"{path} has more than {most} bytes")
    return content


def json_of(content: bytes) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: it is none, or too large or too deep to be read.
    """
    try:
        return json.loads(content)
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"it is too large or too deep ({type(error).__name__})") from None
