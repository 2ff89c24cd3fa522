"""Markdown tables, figures, the index and the page of claims, from the stored files alone.

The functions take ``experiments``, the modules of the experiments by name: each makes its table,
caption and figure from stored rows.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from experiments.reporting import claims
from experiments.storing import cache, results
from net.files import write_atomically

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "every pixel in one pass"
matplotlib.rcParams["axes.spines.top"] = matplotlib.rcParams["axes.spines.right"] = False


AGAINST = "against_torch"
PROFILE = "profile"
"""Folder of the profiler's results, which belong to no machine: beside those of the machines."""
BEGIN, END = "<!-- made by experiments report -->", "<!-- until here -->"
"""The lines before and after the comparison with PyTorch in the README."""


@dataclass(frozen=True)
class Machine:
    """The results of one machine and backend.

    Attributes:
        folder: that holds them, named after the machine.
        records, rows: by experiment.
    """

    folder: Path
    records: dict[str, dict]
    rows: dict[str, list[dict]]

    @property
    def name(self) -> str:
        """As a heading shows it."""
        record = next(iter(self.records.values()))
        device = record["gpu"] or f"{record['cpu']}, {_threads(record)}"
        return f"{device}, backend {record['backend']}"


def machines(out: Path, experiments) -> list[Machine]:
    """Every machine with results under ``out``, in the order of their names.

    Raises:
        results.BadResults: stored files are missing or do not belong together.
    """
    found = []
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        names = [name for name in experiments if (folder / name / results.RECORD).is_file()]
        stored = {name: results.load(folder / name) for name in names}
        if stored:
            rows = {name: rows for name, (rows, _, _) in stored.items()}
            records = {name: record for name, (_, record, _) in stored.items()}
            found.append(Machine(folder, records, rows))
    return found


def write(name: str, experiment, folder: Path) -> Path:
    """Rebuild ``table.md`` and the figure of one experiment's ``folder``; returns the table's path.

    Raises:
        results.BadResults: the stored files are missing or do not belong together.
    """
    rows, record, arrays = results.load(folder)
    figure = experiment.figure(rows, record, arrays)
    text = [f"# {name.replace('_', ' ').capitalize()}", "", experiment.caption(record), ""]
    text += [_provenance(record), ""]
    if figure is not None:
        for suffix in ("png", "svg"):
            content = io.BytesIO()
            figure.savefig(content, format=suffix, dpi=150, metadata=_UNDATED[suffix])
            write_atomically(folder / f"figure.{suffix}", content.getvalue())
        text += ["![figure](figure.png)", ""]
    text += [experiment.table(rows), ""]
    write_atomically(folder / "table.md", "\n".join(text).encode())
    return folder / "table.md"


def everything(out: Path, experiments, profiler) -> list[Path]:
    """Rebuild all tables and figures, and the index; returns what was written.

    Args:
        profiler: modules like those of experiments that show the profiler's results, by the
            ``experiment`` of a record.

    Raises:
        results.BadResults: stored files are missing or do not belong together.
    """
    written, stored = [], machines(out, experiments)
    for machine in stored:
        for name in machine.records:
            written.append(write(name, experiments[name], machine.folder / name))
    profiles = {path.parent: results.load(path.parent)[1] for path in _profiles(out)}
    for folder, record in profiles.items():
        written.append(write(record["experiment"], profiler[record["experiment"]], folder))
    index = [*_index(stored, experiments), *_index_of_profiles(profiles, profiler)]
    index = "\n".join(["# Results", "", *index, ""])
    write_atomically(out / "README.md", index.encode())
    return [*written, out / "README.md"]


def _profiles(out):
    """The records of the profiler's results, in the order of their folders."""
    return sorted((out / PROFILE).glob(f"*/{results.RECORD}"))


def _index(stored, experiments):
    yield (
        "Made by `python -m experiments`, one folder for each machine and backend; this page and "
        "all tables and figures are rebuilt from the stored files by `python -m experiments "
        "report`. Claim by claim: [docs/reproduction.md](../docs/reproduction.md)."
    )
    for machine in stored:
        yield from ("", f"## {machine.name}", "")
        yield "| experiment | measured | what it shows | the claim it belongs to |"
        yield "|---|---|---|---|"
        for name, record in machine.records.items():
            links = _links(machine.folder / name)
            shows = experiments[name].caption(record).split("\n\n")[0]
            verdicts = [
                f'"{claim.text}": **{claim.judged(machine.rows).verdict}**'
                for claim in claims.CLAIMS
                if claim.experiment == name
            ]
            measured = record["utc"][:10] + (" (--quick)" if record["quick"] else "")
            yield f"| {links} | {measured} | {shows} | {'; '.join(verdicts) or 'none'} |"


def _index_of_profiles(profiles, profiler):
    if not profiles:
        return
    yield from ("", "## The CUDA kernels, profiled", "")
    yield (
        "Made by `python -m experiments profile`; see [docs/profiling.md](../docs/profiling.md)."
    )
    yield from ("", "| profile of | made | what it shows |", "|---|---|---|")
    for folder, record in profiles.items():
        shows = profiler[record["experiment"]].caption(record).split("\n\n")[0]
        yield f"| {_links(folder)} | {record['utc'][:10]} | {shows} |"


def _links(folder):
    """Links from the index to the table and the figure in a folder of results."""
    place = f"{folder.parent.name}/{folder.name}"
    links = f"[{folder.name}]({place}/table.md)"
    if (folder / "figure.png").is_file():
        links += f", figure as [PNG]({place}/figure.png) and [SVG]({place}/figure.svg)"
    return links


def reproduction(out: Path, experiments, page: Path) -> Path:
    """Rebuild the page that compares claim by claim; returns its path.

    Raises:
        results.BadResults: stored files are missing or do not belong together.
    """
    write_atomically(page, reproduction_text(machines(out, experiments)).encode())
    return page


def reproduction_text(stored: list[Machine]) -> str:
    """The page that compares claim by claim, for results beside ``docs/``."""
    lines = [claims.INTRODUCTION, "", f"| claim | {' | '.join(m.name for m in stored)} |"]
    lines += [f"|---{'|---' * len(stored)}|"]
    for number, claim in enumerate(claims.CLAIMS, 1):
        verdicts = [claim.judged(machine.rows).verdict for machine in stored]
        lines.append(f"| {number}. {claim.text} | {' | '.join(verdicts)} |")
    if not any(machine.name.endswith("backend cuda") for machine in stored):
        lines += ["", claims.NO_GPU]
    for number, claim in enumerate(claims.CLAIMS, 1):
        lines += ["", f"## {number}. {claim.text}", "", f"**Tested:** {claim.tested}", ""]
        lines += ["| machine | result | verdict | evidence |", "|---|---|---|---|"]
        for machine in stored:
            judged = claim.judged(machine.rows)
            links = ""
            if claim.experiment in machine.records:
                path = f"../results/{machine.folder.name}/{claim.experiment}/table.md"
                quick = machine.records[claim.experiment]["quick"]
                links = f"[{claim.experiment}]({path})" + (
                    " (--quick: tiny sizes)" if quick else ""
                )
            lines.append(f"| {machine.name} | {judged.result} | {judged.verdict} | {links} |")
    return "\n".join([*lines, "", claims.HOW_TO_RUN, ""])


def readme(out: Path, experiments, page: Path) -> Path:
    """Rebuild the comparison with PyTorch in the README; returns its path.

    Raises:
        results.BadResults: stored files are missing or do not belong together.
    """
    text = readme_text(machines(out, experiments), experiments, page.read_text())
    write_atomically(page, text.encode())
    return page


def readme_text(stored: list[Machine], experiments, text: str) -> str:
    """The README ``text`` with the comparison with PyTorch rebuilt."""
    before, rest = text.split(BEGIN)
    _, behind = rest.split(END)
    lines = []
    for machine in stored:
        if AGAINST in machine.rows:
            place = f"results/{machine.folder.name}/{AGAINST}"
            rows = machine.rows[AGAINST]
            lines += [f"{machine.name} ([all figures]({place}/table.md)):", ""]
            lines += [experiments[AGAINST].summary(rows), ""]
    return before + BEGIN + "\n\n" + "\n".join(lines) + "\n" + END + behind


def pack(out: Path) -> Path:
    """Put all result files, without cached measurements, into an archive beside ``out``."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path in sorted(out.rglob("*")):
            if path.is_file() and cache.FOLDER not in path.parts and not path.name.startswith("."):
                archive.add(path, Path("results") / path.relative_to(out))
    target = out.with_name(f"{out.name}.tar.gz")
    write_atomically(target, content.getvalue())
    return target


_UNDATED = {"png": {"Software": None}, "svg": {"Date": None}}


def _threads(record):
    return f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"


def _provenance(record):
    gpu = f", GPU {record['gpu']}" if record["gpu"] else ""
    state = " with uncommitted changes" if record["dirty"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    commits = ", ".join(commit[:12] for commit in record["commit"].split(", "))
    return (
        f"Backend **{record['backend']}**; {record['cpu']}, {_threads(record)}{gpu}; "
        f"{record['utc']}; commit {commits}{state}; Python {record['python']}, "
        f"{versions}; `{record['command']}`."
    )
