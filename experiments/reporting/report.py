"""Tables and figures of results, and their index, from the stored files alone.

Everything is made before anything is written: damaged results stop a report as a whole, by name,
and leave what was there. ``experiments`` and ``views`` are modules by name, those of the
experiments and those that show the profiler's results: each says which ``COLUMNS`` its rows have,
and makes its table, caption and figure from them; a ``TITLE`` stands for its name on its page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib

from experiments.reporting import claims, quick
from experiments.reporting.heading import heading, state
from experiments.reporting.limitations import limitations
from experiments.reporting.markdown import each_escaped, escaped, link
from experiments.reporting.stored import Stored, naming, shown_rows, threads
from experiments.storing.results import Results

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "every pixel in one pass"
matplotlib.rcParams["hatch.linewidth"] = 0.6
matplotlib.rcParams["axes.spines.top"] = matplotlib.rcParams["axes.spines.right"] = False

PAGE, INDEX = "table.md", "README.md"
FIGURES = {"png": "figure.png", "svg": "figure.svg"}
_UNDATED = {"png": {"Software": None}, "svg": {"Date": None}}


def shown(experiment, results: Results, beside: Sequence[Results] = ()) -> dict[Path, bytes]:
    """The page and the figure of an experiment's results, by their paths.

    Args:
        beside: results of others on the same machine, whose rows the figure shows, too.

    Raises:
        results.BadResults: the rows are not those of the experiment.
    """
    with naming(results.folder):
        rows = [row for one in (results, *beside) for row in one.rows]
        figure = experiment.figure(rows, results.record, results.arrays)
        if figure is not None and results.record.get("quick"):
            quick.stamp(figure)
        made = {} if figure is None else _drawn(figure, results.folder)
        named = results.record["experiment"].replace("_", " ").capitalize()
        title = getattr(experiment, "TITLE", named)
        caption = experiment.caption(each_escaped(results.record))
        text = [f"# {title}", "", *heading(results), "", caption, ""]
        text += [_provenance(results.record), ""]
        text += [f"![figure]({FIGURES['png']})", ""] if made else []
        text += [experiment.table(shown_rows(results)), ""]
        page = "\n".join(text)
        page = quick.marked(page) if results.record.get("quick") else page
        return made | {results.folder / PAGE: page.encode()}


def _drawn(figure, folder):
    made = {}
    for suffix, name in FIGURES.items():
        content = io.BytesIO()
        figure.savefig(content, format=suffix, dpi=150, metadata=_UNDATED[suffix])
        made[folder / name] = content.getvalue()
    svg = folder / FIGURES["svg"]
    return made | {svg: numbered(made[svg])}


def numbered(svg: bytes) -> bytes:
    """An SVG of Matplotlib with its clip paths named by number.

    Matplotlib names them by all bits of where they lie; the last bits of what the solver of its
    layouts finds differ from process to process, though nothing of them is seen.

    >>> numbered(b'<g clip-path="url(#p0123456789)"/><clipPath id="p0123456789"/>')
    b'<g clip-path="url(#clip1)"/><clipPath id="clip1"/>'
    """
    identifiers = enumerate(re.findall(rb'<clipPath id="(p[0-9a-f]{10})"', svg), 1)
    names = {name: b"clip%d" % number for number, name in identifiers}
    return re.sub(rb'(?<=[#"])p[0-9a-f]{10}\b', lambda name: names.get(name[0], name[0]), svg)


def _provenance(record):
    gpu = f", GPU {record['gpu']}" if record["gpu"] else ""
    state = " with uncommitted changes" if record["dirty"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    commits = ", ".join(commit[:12] for commit in record["commit"].split(", "))
    machine = escaped(f"{record['cpu']}, {threads(record)}{gpu}; {record['utc']}")
    made_by = escaped(f"commit {commits}{state}; Python {record['python']}, {versions}")
    return f"Backend **{escaped(record['backend'])}**; {machine}; {made_by}{_digest(record)}."


def _digest(record):
    return f"; {state(record)}" if record.get("code") else ""


def everything(stored: Stored, experiments: dict, views: dict) -> dict[Path, bytes]:
    """All pages and figures, and the index, by their paths.

    Raises:
        results.BadResults: rows are not those of their experiment.
    """
    made = {}
    for machine in stored.machines:
        for name, results in machine.results.items():
            others = getattr(experiments[name], "BESIDE", ())
            beside = [machine.results[other] for other in others if other in machine.results]
            made |= shown(experiments[name], results, beside)
    for results in stored.profiles:
        made |= shown(views[results.record["experiment"]], results)
    return made | {stored.folder / INDEX: index(stored, experiments, views, made).encode()}


def index(stored: Stored, experiments: dict, views: dict, made: Collection[Path]) -> str:
    """The page that lists all results, their verdicts and limitations.

    Args:
        made: the paths of pages and figures.

    Raises:
        results.BadResults: rows are not those of their experiment.
    """
    lines = ["# Results", "", *_machines(stored, experiments, made)]
    lines += _profiles(stored, views, made)
    page = "\n".join([*lines, "", *limitations(stored, experiments), ""])
    tiny = [one.record["quick"] for machine in stored.machines for one in machine.results.values()]
    return quick.marked(page) if tiny and all(tiny) else page


def _machines(stored, experiments, made):
    yield (
        "Made by `python -m experiments`, one folder for each machine and backend; this page and "
        "all tables and figures are rebuilt from the stored files by `python -m experiments "
        "report`. Claim by claim: [docs/reproduction.md](../docs/reproduction.md); "
        "[limitations](#limitations) below."
    )
    for machine in stored.machines:
        yield from ("", f"## {machine.name}", "")
        yield "| experiment | measured | what it shows | the claim it belongs to |"
        yield "|---|---|---|---|"
        for name, results in machine.results.items():
            tiny = results.record["quick"]
            verdicts = [
                f'"{claim.text}": **{machine.judged(claim).verdict}**'
                for claim in claims.CLAIMS
                if name in claim.experiments and not tiny
            ]
            measured = escaped(results.record["utc"][:10]) + (" (--quick)" if tiny else "")
            cells = [_links(results, made), measured, _first(experiments[name], results)]
            said = quick.QUICK if tiny else "; ".join(verdicts) or "none"
            yield f"| {' | '.join(cells)} | {said} |"


def _profiles(stored, views, made):
    if not stored.profiles:
        return
    yield from ("", "## The CUDA kernels, profiled", "")
    yield (
        "Made by `python -m experiments profile` and `model`; see "
        "[docs/profiling.md](../docs/profiling.md)."
    )
    yield from ("", "| profile of | made | what it shows |", "|---|---|---|")
    for results in stored.profiles:
        shows = _first(views[results.record["experiment"]], results)
        yield f"| {_links(results, made)} | {escaped(results.record['utc'][:10])} | {shows} |"


def _first(experiment, results):
    """The first paragraph of a caption."""
    return experiment.caption(each_escaped(results.record)).split("\n\n")[0]


def _links(results, made):
    """Links from the index to the page and the figure of some results."""
    place = Path(results.folder.parent.name, results.folder.name)
    links = link(results.folder.name, place / PAGE)
    if results.folder / FIGURES["png"] in made:
        png, svg = (link(suffix.upper(), place / name) for suffix, name in FIGURES.items())
        links += f", figure as {png} and {svg}"
    return links
