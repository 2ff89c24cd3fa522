"""A cache of finished measurements, one small file each, so that an interrupted run can resume.

The key of a measurement is the digest of everything that determines it: experiment, parameters,
seed, backend, machine, threads, the GPU's driver and tiles, and the code that it measures. If any
of these changes, it is measured again.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.storing.kinds import checked_fields
from experiments.storing.reading import MEBIBYTE, BadFile, content_of, json_of
from net.files import write_atomically

ROOT = Path(__file__).parents[2]
FOLDER = "cache"
"""Name of the cache's folder inside that of an experiment's results."""
LARGEST = 8 * MEBIBYTE
"""Bytes of a measurement's file."""


class MeasurementCache:
    """The finished measurements of one experiment.

    Args:
        folder: the folder of the files; made when the first measurement is finished.
        common: the part of the key that all measurements of this run share, as JSON can hold it.
        provenance: stored beside each new measurement (time, commit ...).
        fresh: delete the measurements of earlier runs first.
        finished: called after each measurement, with whether it was made rather than read.

    Attributes:
        provenances: the provenance of every measurement used so far, in order.
        reused: the number of them that were read from the cache.
        saved: seconds that these took when they were made.
    """

    def __init__(
        self,
        folder: Path,
        common: dict,
        provenance: dict,
        *,
        fresh: bool = False,
        finished: Callable | None = None,
    ):
        self.folder, self.common, self.provenance = folder, common, provenance
        self.finished = finished
        self.provenances: list[dict] = []
        self.reused, self.saved = 0, 0.0
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)

    def holds(self, parameters: dict) -> bool:
        """Whether ``measured`` would read this measurement rather than make it."""
        return self._read(*self._entry(parameters)) is not None

    def measured(self, parameters: dict, measure: Callable):
        """The result of ``measure()`` after a round trip through JSON, new or from the cache.

        A damaged file is named on stderr, and its measurement is made anew.
        """
        key, path = self._entry(parameters)
        entry = self._read(key, path, report=True)
        made = entry is None
        if made:
            started = time.perf_counter()
            value = measure()
            provenance = self.provenance | {"seconds": round(time.perf_counter() - started, 1)}
            entry = {"key": key, "provenance": provenance, "value": value}
            entry = json.loads(json.dumps(entry, default=_plain))
            entry["sha256"] = _digest(entry)
            write_atomically(path, json.dumps(entry).encode())
        else:
            self.reused += 1
            self.saved += entry["provenance"]["seconds"]
        self.provenances.append(entry["provenance"])
        if self.finished:
            self.finished(made)
        return entry["value"]

    def _entry(self, parameters):
        """The whole key of a measurement, as JSON gives it back, and its file."""
        text = json.dumps(self.common | {"parameters": parameters}, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:20]
        return json.loads(text), self.folder / f"{name}.json"

    def _read(self, key, path, report=False):
        """The entry with this key; None where there is none, or a damaged one."""
        if not os.path.lexists(path):
            return None
        try:
            return _checked(json_of(content_of(path, LARGEST)), key, self.provenance)
        except (ValueError, RecursionError, MemoryError) as error:
            if report:
                fault = error if isinstance(error, BadFile) else f"{path} is damaged: {error}"
                print(f"experiments: {fault}; it is measured anew", file=sys.stderr)
            return None


def _checked(entry, key, provenance):
    entry = checked_fields(entry, {"sha256": str})
    if entry.keys() != {"key", "provenance", "value", "sha256"} or entry["key"] != key:
        raise ValueError("it holds another measurement")
    kinds = {name: type(value) for name, value in (provenance | {"seconds": 0.0}).items()}
    checked_fields(entry["provenance"], kinds)
    if entry["sha256"] != _digest(entry):
        raise ValueError("its measurement is not the one that was stored")
    return entry


def _digest(entry):
    """Of all but the digest itself."""
    parts = [entry[name] for name in ("key", "provenance", "value")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _plain(value):
    """NumPy's numbers and arrays as JSON can hold them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a measurement holds a {type(value).__name__}; expected what JSON can hold")


def code_digest(experiment: str) -> str:
    """Digest of ``kernels/``, ``net/``, the experiment's module and all it imports from here."""
    sources = _sources("kernels", "net")
    waiting = [ROOT / "experiments" / f"{experiment}.py"]
    while waiting:
        path = waiting.pop()
        if path not in sources:
            sources.add(path)
            waiting += _imports(path)
    return _digest_of(sources)


def state_digest() -> str:
    """Digest of the code that results are of: the Python files of ``kernels/``, ``net/``,
    ``experiments/inputs`` and ``experiments/measuring``.

    It is the same for all experiments, so that results can be seen to belong together. What is an
    experiment's own, the profiler and files of data are identified by the commit alone.
    """
    return _digest_of(_sources("kernels", "net", "experiments/inputs", "experiments/measuring"))


def _sources(*folders):
    return {path for folder in folders for path in (ROOT / folder).rglob("*.py")}


def _digest_of(sources):
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _imports(path) -> list[Path]:
    """Modules of ``experiments`` that a file imports."""
    imported = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module.split(".")[0] != "experiments":
            continue
        place = ROOT.joinpath(*node.module.split("."))
        files = [place.with_suffix(".py"), *(place / f"{alias.name}.py" for alias in node.names)]
        imported += [file for file in files if file.is_file()]
    return imported
