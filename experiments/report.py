"""Markdown tables and figures, rebuilt from the stored files alone."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib

from experiments import results
from net.files import write_atomically

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "every pixel in one pass"


def write(name: str, experiment, folder: Path) -> Path:
    """Rebuild ``table.md`` and the figure of one experiment's ``folder``; returns the table's path.

    Raises:
        results.BadResults: the stored files are missing or do not belong together.
    """
    rows, record, arrays = results.load(folder)
    figure = experiment.figure(rows, record, arrays)
    text = [f"# {name.capitalize()}", "", experiment.caption(record), "", _provenance(record), ""]
    if figure is not None:
        for suffix in ("png", "svg"):
            content = io.BytesIO()
            figure.savefig(content, format=suffix, dpi=150, metadata=_UNDATED[suffix])
            write_atomically(folder / f"figure.{suffix}", content.getvalue())
        text += ["![figure](figure.png)", ""]
    text += [experiment.table(rows), ""]
    write_atomically(folder / "table.md", "\n".join(text).encode())
    return folder / "table.md"


_UNDATED = {"png": {"Software": None}, "svg": {"Date": None}}


def _provenance(record):
    gpu = f", GPU {record['gpu']}" if record["gpu"] else ""
    state = " with uncommitted changes" if record["dirty"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"Backend **{record['backend']}**; {record['cpu']}, {record['threads']} threads{gpu}; "
        f"{record['utc']}; commit {record['commit'][:12]}{state}; Python {record['python']}, "
        f"{versions}; `{record['command']}`."
    )
