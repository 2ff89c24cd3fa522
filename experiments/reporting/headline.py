"""The README's first screen, as far as it is measured: the demo's picture and the headline."""

from __future__ import annotations

import textwrap
from pathlib import Path

from experiments.inputs.arithmetic import DIRECTIONS
from experiments.reporting.derived import CLAIMED_SPEEDUP, largest, totals_of
from experiments.reporting.markdown import link
from experiments.reporting.pages import around
from experiments.reporting.report import FIGURES, PAGE
from experiments.reporting.speedups import cases
from experiments.reporting.stored import Machine, naming

PICTURE = "<!-- the picture: made by experiments report -->", "<!-- the picture ends -->"
HEADLINE = "<!-- the headline: made by experiments report -->", "<!-- the headline ends -->"
"""The lines before and after each in the README."""
DEMO, NETWORKS, GROWTH = "demo", "networks", "growth"


def put(machines: list[Machine], text: str) -> str:
    """The README ``text`` with its picture and its headline rebuilt from stored results.

    Raises:
        BadResults: rows are not those of their experiment.
        ValueError: the text does not hold the lines of ``PICTURE``, or those of ``HEADLINE``,
            once each and in order.
    """
    newest = _newest(machines, NETWORKS)
    on_gpu = _newest([one for one in machines if one.record["backend"] == "cuda"], NETWORKS)
    headline = newest and _sentences(newest, on_gpu if on_gpu != newest else None)
    for marks, part in (PICTURE, _picture(_newest(machines, DEMO))), (HEADLINE, headline):
        before, after = around(text, *marks)
        text = "\n\n".join(filter(None, [before, part, after]))
    return text


def _newest(machines, name):
    """The machine on which an experiment ran last, not counting ``--quick``; None if on none."""
    ran = [m for m in machines if name in m.results and not m.results[name].record["quick"]]
    return max(ran, key=lambda machine: machine.results[name].record["utc"], default=None)


def _picture(machine):
    if machine is None:
        return None
    place = Path("results", machine.folder.name, DEMO, FIGURES["png"])
    return f"![Every pixel of a photograph, labelled in one pass]({place})"


def _sentences(machine, on_gpu):
    """What was measured, and what became of the paper's claim, there and on a GPU if one is given:
    two sentences."""
    with naming(machine.folder / NETWORKS):
        rows = machine.rows[NETWORKS]
        size = _common_size(rows)
        ranges = {d: _range(rows, size, d) for d in DIRECTIONS}
        notes = _absent(rows, size)
    with naming(machine.folder / GROWTH):
        every = [*rows, *machine.rows.get(GROWTH, [])]
        reached = {d: _reached(cases(every, d)) for d in DIRECTIONS}
    if any("*" in text for text in (*ranges.values(), *reached.values())):
        notes.append("`*`: scanning extrapolated from a timed sample of pixels")
    if any("‡" in text for text in (*ranges.values(), *reached.values())):
        notes.append("`‡`: the host set the pace of scanning")
    evidence = [link("networks", _place(machine, NETWORKS))]
    if GROWTH in machine.results:
        evidence.append(link("growth", _place(machine, GROWTH)))
    text = (
        f"On {machine.name}, one pass labels {size} x {size} pixels "
        f"{ranges['forward']} times as fast as patch-by-patch scanning through the same kernels, "
        f"and its backward pass is {ranges['backward']} times as fast"
        + (f" ({'; '.join(notes)})" if notes else "")
        + f". The paper's claim, over {CLAIMED_SPEEDUP} times, is reached forward "
        f"{reached['forward']} and backward {reached['backward']} ({', '.join(evidence)})"
        + (f"; {_best(on_gpu, machine)}." if on_gpu else ".")
    )
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _best(machine, newest):
    """The best that a machine gave beside the newest one, and whether its code is older."""
    with naming(machine.folder / NETWORKS):
        rows = machine.rows[NETWORKS]
        best = {d: max(cases(rows, d), key=lambda case: case.speedup) for d in DIRECTIONS}
    nets = len({row["net"] for row in rows})
    records = [one.results[NETWORKS].record for one in (machine, newest)]
    older = records[0].get("code") != records[1].get("code")
    return (
        f"on {machine.name}, of {nets} nets{' and with earlier code' * older}, the highest "
        f"speedups are {best['forward']} forward and {best['backward']} backward "
        f"({link('networks', _place(machine, NETWORKS))})"
    )


def _common_size(rows):
    """The largest size at which more than half of the nets ran."""
    nets = {}
    for row in rows:
        nets.setdefault(row["labelled"], set()).add(row["net"])
    many = len(set.union(*nets.values())) / 2
    return max(size for size, ran in nets.items() if len(ran) > many)


def _range(rows, size, direction):
    of_size = [case for case in cases(rows, direction) if case.size == size]
    least, most = (choose(of_size, key=lambda case: case.speedup) for choose in (min, max))
    return f"{least.marked_speedup(3)} ({least.net}) to {most.marked_speedup(3)} ({most.net})"


def _absent(rows, size):
    """Which nets did not run at a size, but at another one; nothing where all did."""
    at = {row["net"] for row in rows if row["labelled"] == size}
    others = {net: most for net, most in largest(totals_of(rows)).items() if net not in at}
    counts = [f"{len(at)} of {len(at) + len(others)} nets"] if others else []
    return counts + [f"{net} ran at {most}" for net, most in others.items()]


def _reached(every):
    """At how many of the nets and sizes the claim was measured, and the best of them."""
    best = max(every, key=lambda case: case.speedup)
    return (
        f"in {sum(case.passes for case in every)} of {len(every)} cases (the best: {best.net} at "
        f"{best.size}, {best.marked_speedup()} times, of which arithmetic alone gives "
        f"{best.ratio:.4g})"
    )


def _place(machine, name):
    return Path("results", machine.folder.name, name, PAGE)
