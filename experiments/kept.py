"""Finished measurements, one small file each, so that a run which was stopped can go on.

A measurement is kept under the digest of all that decides it: experiment, parameters, seed,
backend, machine, threads, and the code that it measures. Change any and it is measured again.
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from net.files import write_atomically

ROOT = Path(__file__).parents[1]


class Kept:
    """The measurements of one experiment.

    Args:
        folder: of the files; made when the first measurement is done.
        shared: what all measurements of this run have in common, as JSON can hold it.
        made: what to note beside each measurement made now (time, commit ...).
        fresh: forget what was kept before.

    Attributes:
        notes: the ``made`` of every measurement used, in order.
        reused: how many of them were found rather than made.
    """

    def __init__(self, folder: Path, shared: dict, made: dict, *, fresh: bool = False):
        self.folder, self.shared, self.made = folder, shared, made
        self.notes: list[dict] = []
        self.reused = 0
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)

    def holds(self, parameters: dict) -> bool:
        """Whether ``measured`` would find this rather than make it."""
        return _read(self._place(parameters)[1]) is not None

    def measured(self, parameters: dict, measure: Callable):
        """What ``measure()`` gives (as JSON gives it back), now or at an earlier time."""
        key, path = self._place(parameters)
        found = _read(path)
        if found is None:
            started = time.perf_counter()
            value = measure()
            made = self.made | {"seconds": round(time.perf_counter() - started, 1)}
            content = json.dumps({"key": key, "made": made, "value": value}, default=_plain)
            write_atomically(path, content.encode())
            found = json.loads(content)
        else:
            self.reused += 1
        self.notes.append(found["made"])
        return found["value"]

    def _place(self, parameters):
        """All that decides the measurement, and its file."""
        key = self.shared | {"parameters": parameters}
        text = json.dumps(key, sort_keys=True)
        return key, self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def _read(path):
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _plain(value):
    """NumPy's numbers and arrays as JSON can hold them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a measurement holds a {type(value).__name__}; expected what JSON can hold")


def code_digest(experiment: str) -> str:
    """Of ``kernels/``, ``net/``, the experiment's module and what it imports of this package."""
    sources = {path for folder in ("kernels", "net") for path in (ROOT / folder).rglob("*.py")}
    waiting = [ROOT / "experiments" / f"{experiment.replace('-', '_')}.py"]
    while waiting:
        path = waiting.pop()
        if path not in sources:
            sources.add(path)
            waiting += _imports(path)
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _imports(path) -> list[Path]:
    """Modules of ``experiments`` that a file imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module.split(".")[0] != "experiments":
            continue
        place = ROOT.joinpath(*node.module.split("."))
        files = [place.with_suffix(".py"), *(place / f"{alias.name}.py" for alias in node.names)]
        found += [file for file in files if file.is_file()]
    return found
