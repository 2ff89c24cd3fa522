"""A cache of finished measurements, one small file each, so that an interrupted run can resume.

The key of a measurement is the digest of everything that determines it: experiment, parameters,
seed, backend, machine, threads, and the code that it measures. If any of these changes, it is
measured again.
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

ROOT = Path(__file__).parents[2]
FOLDER = "cache"
"""Name of the cache's folder inside that of an experiment's results."""


class MeasurementCache:
    """The finished measurements of one experiment.

    Args:
        folder: of the files; made when the first measurement is finished.
        common: the part of the key that all measurements of this run share, as JSON can hold it.
        provenance: stored beside each new measurement (time, commit ...).
        fresh: delete the measurements of earlier runs first.

    Attributes:
        provenances: of every measurement used so far, in order.
        reused: how many of them were read from the cache.
    """

    def __init__(self, folder: Path, common: dict, provenance: dict, *, fresh: bool = False):
        self.folder, self.common, self.provenance = folder, common, provenance
        self.provenances: list[dict] = []
        self.reused = 0
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)

    def holds(self, parameters: dict) -> bool:
        """Whether ``measured`` would read this measurement rather than make it."""
        return _read(self._entry(parameters)[1]) is not None

    def measured(self, parameters: dict, measure: Callable):
        """The result of ``measure()`` after a round trip through JSON, new or from the cache."""
        key, path = self._entry(parameters)
        entry = _read(path)
        if entry is None:
            started = time.perf_counter()
            value = measure()
            provenance = self.provenance | {"seconds": round(time.perf_counter() - started, 1)}
            entry = {"key": key, "provenance": provenance, "value": value}
            content = json.dumps(entry, default=_plain)
            write_atomically(path, content.encode())
            entry = json.loads(content)
        else:
            self.reused += 1
        self.provenances.append(entry["provenance"])
        return entry["value"]

    def _entry(self, parameters):
        """The whole key of a measurement, and its file."""
        key = self.common | {"parameters": parameters}
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
    """Digest of ``kernels/``, ``net/``, the experiment's module and all it imports from here."""
    sources = {path for folder in ("kernels", "net") for path in (ROOT / folder).rglob("*.py")}
    waiting = [ROOT / "experiments" / f"{experiment}.py"]
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
