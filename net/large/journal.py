"""The regions of a run that are done, so that a run that was killed goes on where it stopped.

The first line describes the run in JSON; each further line is the number of a region that was
written. A region is noted only when it is on the disk (``Sink.write``), so what is noted survives a
killed process and a power failure. A region that was not noted is written again, with the same
content.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from net.files import synchronize, write_atomically

SUFFIX = ".journal"


def journal_path(out: Path) -> Path:
    """Where the journal of labels in ``out`` lies."""
    return out.with_name(out.name + SUFFIX)


def stored(path: Path) -> dict | None:
    """The description of the run in a journal; None where there is no journal.

    Raises:
        ValueError: it is no journal.
    """
    if not path.exists():
        return None
    with path.open("rb") as file:
        line = file.readline(2**20)
    try:
        run = json.loads(line)
    except ValueError:
        run = None
    if not isinstance(run, dict) or not line.endswith(b"\n"):
        raise ValueError(f"{path} is no journal of labelling; expected none, or one")
    return run


def noted(path: Path) -> set[int]:
    """Numbers of the regions that a journal says are written; none where there is no journal."""
    return _noted(path.read_bytes()) if path.exists() else set()


def _noted(content):
    """The last line does not count where it is torn."""
    _, *lines = content.splitlines(keepends=True)
    return {int(line) for line in lines if line.endswith(b"\n") and line.strip().isdigit()}


def check_same(path: Path, before: dict, run: dict) -> None:
    """Refuse a ``run`` that is not the one ``before``, of the journal."""
    if before != run:
        raise ValueError(
            f"{path} is of another run: {_difference(before, run)}; expected the same again, or "
            f"another place for it"
        )


class Journal:
    """An open journal, which no other process writes.

    Args:
        path: the file; it is made if it is not there.
        run: description of the run, as JSON can hold it.

    Attributes:
        done: numbers of the regions that are written.

    Raises:
        ValueError: the journal is of another run; the message says what differs.
        BlockingIOError: another process is writing it.
    """

    def __init__(self, path: Path, run: dict):
        before = stored(path)
        if before is None:
            write_atomically(path, json.dumps(run).encode() + b"\n")
            synchronize(path.parent)
        else:
            check_same(path, before, run)
        self._file = path.open("r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise BlockingIOError(f"{path}: another process is labelling there") from None
        content = self._file.read()
        self._file.truncate(content.rindex(b"\n") + 1)
        self._file.seek(0, 2)
        self.done = _noted(content)

    def add(self, number: int) -> None:
        """Note, on the disk, that a region is written."""
        self._file.write(b"%d\n" % number)
        os.fdatasync(self._file.fileno())
        self.done.add(number)

    def close(self) -> None:
        """Let others write it."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _difference(before, run):
    parts = [
        f"{name} {json.dumps(before.get(name))}, now {json.dumps(run.get(name))}"
        for name in dict.fromkeys((*before, *run))
        if before.get(name) != run.get(name)
    ]
    return "; ".join(parts)
