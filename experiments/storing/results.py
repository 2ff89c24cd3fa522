"""Result files: tidy CSV and a JSON record, each written atomically."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from net.files import write_atomically

TABLE, ARRAYS, RECORD = "measurements.csv", "arrays.npz", "record.json"
GENERATED = (":!results", ":!docs/reproduction.md")
PACKAGES = ("numba", "numba-cuda", "llvmlite", "numpy", "scikit-image", "matplotlib", "torch")


class BadResults(ValueError):
    """Result files that cannot be used; the message says which and why."""


def check_writable(folder: Path) -> None:
    """Make ``folder`` and check that it is writable.

    Raises:
        OSError: naming the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"--out is {folder}; expected a writable folder: {error}") from None


def save(folder: Path, rows: list[dict], record: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write ``rows`` (one measurement each), ``arrays`` if any, and their record to ``folder``.

    The record is written last and holds the digests of the others, so that ``load`` detects files
    that do not belong together.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    contents = {TABLE: text.getvalue().encode()}
    if arrays:
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        contents[ARRAYS] = packed.getvalue()
    for name, content in contents.items():
        write_atomically(folder / name, content)
    record = record | {"sha256": {name: _digest(content) for name, content in contents.items()}}
    write_atomically(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def load(folder: Path) -> tuple[list[dict], dict, dict[str, np.ndarray]]:
    """The rows (numbers as numbers), the record and the arrays of an experiment's ``folder``.

    Raises:
        BadResults: a file is missing, or they do not belong together.
    """
    record = json.loads(_present(folder / RECORD).read_bytes())
    contents = {name: _present(folder / name).read_bytes() for name in record["sha256"]}
    for name, content in contents.items():
        if record["sha256"][name] != _digest(content):
            raise BadResults(f"{folder / name} is not the file that {folder / RECORD} describes")
    rows = csv.DictReader(io.StringIO(contents[TABLE].decode()))
    rows = [{key: _number(value) for key, value in row.items()} for row in rows]
    if ARRAYS not in contents:
        return rows, record, {}
    with np.load(io.BytesIO(contents[ARRAYS]), allow_pickle=False) as file:
        return rows, record, dict(file)


def _present(path):
    if not path.is_file():
        raise BadResults(f"{path} is missing; run the experiment first")
    return path


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def machine(backend) -> dict:
    """The record of a run: time, commit, versions, machine, command."""
    import numba

    return {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--", ".", *GENERATED)),
        "backend": backend.name,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        "gpu": _gpu(backend),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
        "system": f"{platform.system()} {platform.machine()}",
        "command": " ".join(["python -m experiments", *sys.argv[1:]]),
    }


def slug(record: dict) -> str:
    """The folder of a machine and its backend, such as ``"intel-xeon-processor-2-cores-cpu"``."""
    name = record["gpu"] or f"{record['cpu']} {record['cores']} cores"
    words = re.sub(r"\((r|tm)\)", " ", f"{name} {record['backend']}".lower())
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _gpu(backend) -> str | None:
    if backend.name != "cuda":
        return None
    from kernels.device.api import device_name

    return device_name()


def _installed(name):
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _git(*arguments) -> str | None:
    root = Path(__file__).parents[2]
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
