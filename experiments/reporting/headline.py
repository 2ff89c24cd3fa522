"""The README's first screen, as far as it is measured: the demo's picture and the headline."""

from __future__ import annotations

import textwrap
from pathlib import Path

from experiments.reporting.derived import CLAIMED_SPEEDUP, arithmetic, totals_of
from experiments.reporting.markdown import link
from experiments.reporting.report import FIGURES, PAGE
from experiments.reporting.stored import Machine, naming

BEGIN, END = "<!-- the headline: made by experiments report -->", "<!-- the headline ends -->"
"""The lines before and after it in the README."""
DEMO, NETWORKS, GROWTH = "demo", "networks", "growth"


def put(machines: list[Machine], text: str) -> str:
    """The README ``text`` with its headline rebuilt from stored results.

    Raises:
        BadResults: rows are not those of their experiment.
        ValueError: the text does not hold each of ``BEGIN`` and ``END`` once, in this order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the README lacks the lines {BEGIN} and {END}, or has one of them twice")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    parts = [_picture(_newest(machines, DEMO)), _sentences(_newest(machines, NETWORKS))]
    return "\n\n".join([before + BEGIN, *filter(None, parts), after])


def _newest(machines, name):
    """The machine on which an experiment ran last, not counting ``--quick``; None if on none."""
    ran = [m for m in machines if name in m.results and not m.results[name].record["quick"]]
    return max(ran, key=lambda machine: machine.results[name].record["utc"], default=None)


def _picture(machine):
    if machine is None:
        return None
    place = Path("results", machine.folder.name, DEMO, FIGURES["png"])
    return f"![Every pixel of a photograph, labelled in one pass]({place})"


def _sentences(machine):
    """What was measured, and what became of the paper's claim: two sentences."""
    if machine is None:
        return None
    with naming(machine.folder / NETWORKS):
        totals = totals_of(machine.rows[NETWORKS])
        largest = max(size for _, size, _, _ in totals)
        ranges = {d: _range(totals, largest, d) for d in ("forward", "backward")}
    with naming(machine.folder / GROWTH):
        every = totals | totals_of(machine.rows.get(GROWTH, []))
        reached = {d: _reached(every, d) for d in ranges}
    evidence = [link("networks", _place(machine, NETWORKS))]
    if GROWTH in machine.results:
        evidence.append(link("growth", _place(machine, GROWTH)))
    text = (
        f"On {machine.name}, one pass labels {largest} x {largest} pixels "
        f"{ranges['forward']} times as fast as patch-by-patch scanning through the same kernels, "
        f"and goes backward {ranges['backward']} times as fast (scanning extrapolated from timed "
        f"samples). The paper's claim, over {CLAIMED_SPEEDUP} times, is reached forward "
        f"{reached['forward']} and backward {reached['backward']} ({', '.join(evidence)})."
    )
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _range(totals, size, direction):
    found = {
        net: row["speedup"]
        for (net, labelled, way, form), row in totals.items()
        if (labelled, way, form) == (size, direction, "dense")
    }
    least, most = min(found, key=found.get), max(found, key=found.get)
    return f"{found[least]:.3g} ({least}) to {found[most]:.3g} ({most})"


def _reached(totals, direction):
    """At how many of the nets and sizes the claim was measured, and the best of them."""
    cases = {k: row for k, row in totals.items() if k[2:] == (direction, "dense")}
    above = [key for key, row in cases.items() if row["speedup"] > CLAIMED_SPEEDUP]
    best = max(cases, key=lambda key: cases[key]["speedup"])
    saved = arithmetic(totals, *best[:3])
    return (
        f"in {len(above)} of {len(cases)} cases (the best: {best[0]} at {best[1]}, "
        f"{cases[best]['speedup']:.4g} times, of which arithmetic alone gives {saved:.4g})"
    )


def _place(machine, name):
    return Path("results", machine.folder.name, name, PAGE)
