"""The results under a folder: those of each machine, and the profiler's.

All are read and checked before anything is made of them; one that is damaged is an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from experiments.reporting.claims import Claim, Judged
from experiments.reporting.markdown import each_escaped, escaped
from experiments.storing import results
from experiments.storing.results import BadResults, Results

PROFILE = "profile"
"""Folder of the profiler's results, which belong to no machine: beside those of the machines."""
FIELDS = {"quick": bool}
PROFILE_FIELDS = {"sources": list[str]}
"""What the records hold beside ``results.FIELDS``."""


@dataclass(frozen=True)
class Machine:
    """The results of one machine and backend.

    Attributes:
        folder: the folder that holds them, named after the machine.
        results: the results, by experiment.
    """

    folder: Path
    results: dict[str, Results]

    @property
    def record(self) -> dict:
        """The record of one of its experiments."""
        return next(iter(self.results.values())).record

    @property
    def plain_name(self) -> str:
        """Device, threads and backend."""
        record = self.record
        device = record["gpu"] or f"{record['cpu']}, {threads(record)}"
        return f"{device}, backend {record['backend']}"

    @property
    def name(self) -> str:
        """The same, as a heading shows it."""
        return escaped(self.plain_name)

    @cached_property
    def rows(self) -> dict[str, list[dict]]:
        """By experiment, as Markdown shows them."""
        return {name: shown_rows(results) for name, results in self.results.items()}

    def judged(self, claim: Claim) -> Judged:
        """The verdict on a claim.

        Raises:
            BadResults: the rows that it rests on are not those of the experiment.
        """
        present = [name for name in claim.experiments if name in self.results]
        with naming(self.folder / (present or claim.experiments)[0]):
            return claim.judged(self.rows)


def threads(record: dict) -> str:
    """How many, in words."""
    return f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"


def shown_rows(results: Results) -> list[dict]:
    """The rows as Markdown shows them."""
    return [each_escaped(row) for row in results.rows]


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Within it, an error says that no table, figure or verdict can be made of the rows in
    ``folder``.

    Their columns were checked; a combination of them may be missing, or a value may be absurd.
    """
    try:
        yield
    except Exception as error:
        fault = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        path = folder / results.TABLE
        raise BadResults(f"{path} holds no results of its experiment: {fault}") from error


@dataclass(frozen=True)
class Stored:
    """All results under ``folder``, in the order of the names of their folders."""

    folder: Path
    machines: list[Machine]
    profiles: list[Results]


def read(out: Path, experiments: dict, views: dict) -> Stored:
    """The results under ``out``.

    Args:
        experiments: modules of the experiments, by name.
        views: modules like those that show the profiler's results, by the ``experiment`` of a
            record.

    Raises:
        BadResults: there are none, or some are missing or damaged, or do not belong together.
    """
    machines = [_machine(folder, experiments) for folder in _folders(out) if folder.name != PROFILE]
    stored = Stored(out, [machine for machine in machines if machine], _profiles(out, views))
    if not stored.machines and not stored.profiles:
        raise BadResults(f"--out is {out}; expected results")
    return stored


def load(folder: Path, experiment) -> Results:
    """Results of an experiment's module in a ``folder`` named like it; raises as ``read``."""
    return results.load(folder, {folder.name: experiment.COLUMNS}, FIELDS)


def load_profile(folder: Path, views: dict) -> Results:
    """The profiler's results in a ``folder``; ``views`` and errors as ``read``."""
    columns = {name: view.COLUMNS for name, view in views.items()}
    return results.load(folder, columns, PROFILE_FIELDS)


def _machine(folder, experiments):
    present = [name for name in experiments if os.path.lexists(folder / name / results.RECORD)]
    if not present:
        return None
    _refuse_link(folder)
    return Machine(folder, {name: load(folder / name, experiments[name]) for name in present})


def _profiles(out, views):
    present = [f for f in _folders(out / PROFILE) if os.path.lexists(f / results.RECORD)]
    if present:
        _refuse_link(out / PROFILE)
    return [load_profile(folder, views) for folder in present]


def _folders(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _refuse_link(folder):
    if folder.is_symlink():
        raise BadResults(f"{folder} is a link; expected a folder")
