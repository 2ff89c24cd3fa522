"""Result files: tidy CSV with a JSON record beside it, each written whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = ("numba", "numba-cuda", "llvmlite", "numpy", "scikit-image", "matplotlib")


class BadResults(ValueError):
    """Result files that cannot be used; the message says which and why."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``path`` so that a reader finds the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Make ``folder`` and try to write there.

    Raises:
        OSError: naming the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"--out is {folder}; expected a writable folder: {error}") from None


def save(folder: Path, rows: list[dict], record: dict) -> None:
    """Write ``rows`` (one measurement each) and their record to ``folder``.

    The record carries the digest of the table, so that a table and a record that do not belong
    together are found out.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    table = text.getvalue().encode()
    record = record | {"sha256": hashlib.sha256(table).hexdigest()}
    write_atomically(folder / "measurements.csv", table)
    write_atomically(folder / "record.json", (json.dumps(record, indent=2) + "\n").encode())


def load(folder: Path) -> tuple[list[dict], dict]:
    """The rows, numbers as numbers, and the record of an experiment's ``folder``.

    Raises:
        BadResults: a file is missing, or the two do not belong together.
    """
    table, record = folder / "measurements.csv", folder / "record.json"
    for path in (table, record):
        if not path.is_file():
            raise BadResults(f"{path} is missing; run the experiment first")
    content, record = table.read_bytes(), json.loads(record.read_text())
    if record.get("sha256") != hashlib.sha256(content).hexdigest():
        raise BadResults(f"{table} is not the table that {folder / 'record.json'} describes")
    rows = csv.DictReader(io.StringIO(content.decode()))
    return [{key: _number(value) for key, value in row.items()} for row in rows], record


def machine(backend) -> dict:
    """What ran: time, code, versions, machine, command."""
    import numba

    return {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--", ".", ":!results")),
        "backend": backend.name,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        "gpu": backend.memory.device_name() if backend.name == "cuda" else None,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "command": " ".join(["python -m experiments", *sys.argv[1:]]),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _git(*arguments) -> str | None:
    root = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "": None}.get(text, text)
