"""Results about the CUDA kernels, which belong to no machine, stored and shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from experiments.reporting import printed, report
from experiments.reporting.stored import load_profile
from experiments.storing import machine, results
from experiments.storing.cache import state_digest
from kernels import get_backend
from net.files import write_atomically


def store(
    experiment: str,
    view,
    rows: list[dict],
    sources: Iterable[str],
    place: Path,
    seconds: float,
) -> None:
    """Write rows, record, tables and figure to a folder, and print the tables.

    Args:
        experiment: the name of ``view``, a module that shows such rows.
        rows: the rows, with the view's columns.
        sources: the sources of the rows: static, traced, model, timed.
        place: the folder.
        seconds: what the rows took, with what was measured for them in earlier runs.
    """
    timed_here = "timed" in sources
    record = machine.described(get_backend("cuda" if timed_here else "cpu"))
    record |= {"experiment": experiment, "sources": list(sources), "code": state_digest()}
    record["seconds"] = round(seconds, 1)
    if not timed_here:
        record["backend"] = "cuda, compiled and simulated, not run"
    results.save(place, rows, record, {})
    made = report.shown(view, load_profile(place, {experiment: view}))
    for path, content in made.items():
        write_atomically(path, content)
    print(printed.fitted(made[place / report.PAGE].decode(), str(place / report.PAGE)))
