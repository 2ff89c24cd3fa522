"""The page of claims and the comparison in the README, made of stored results."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from experiments.reporting import claims, speedups
from experiments.reporting.limitations import states
from experiments.reporting.markdown import link
from experiments.reporting.report import PAGE
from experiments.reporting.stored import Machine, naming

AGAINST = "against_torch"
BEGIN, END = "<!-- made by experiments report -->", "<!-- until here -->"
"""The lines before and after the comparison with PyTorch in the README."""
_KEPT = "\N{NO-BREAK SPACE}"
LIMITATIONS = "All [limitations](../results/README.md#limitations) stand in one place."


def reproduction(machines: list[Machine], notes: Mapping[str, str] | None = None) -> str:
    """The page that compares claim by claim, for results beside ``docs/``.

    Args:
        machines: the results of each; those that serve no claim are passed over.
        notes: the model's notes beside claims, by ``Claim.modelled``.

    Raises:
        BadResults: rows are not those of their experiment.
    """
    serving = {name for claim in claims.CLAIMS for name in claim.experiments}
    machines = [machine for machine in machines if serving & machine.results.keys()]
    lines = [claims.INTRODUCTION, "", f"| claim | {' | '.join(m.name for m in machines)} |"]
    lines += [f"|---{'|---' * len(machines)}|"]
    for number, claim in enumerate(claims.CLAIMS, 1):
        verdicts = [machine.judged(claim).verdict for machine in machines]
        lines.append(f"| {number}. {claim.text} | {' | '.join(verdicts)} |")
    if not any(machine.record["backend"] == "cuda" for machine in machines):
        lines += ["", claims.NO_GPU]
    if machines:
        every = [results for machine in machines for results in machine.results.values()]
        resting = [one for one in every if one.record["experiment"] in serving]
        lines += ["", f"{states(resting)} {LIMITATIONS}"]
    for number, claim in enumerate(claims.CLAIMS, 1):
        lines += ["", f"## {number}. {claim.text}", "", f"**Tested:** {claim.tested}", ""]
        lines += ["| machine | result | verdict | evidence |", "|---|---|---|---|"]
        for machine in machines:
            judged = machine.judged(claim)
            cells = [machine.name, judged.result, judged.verdict, _evidence(machine, claim)]
            lines.append(f"| {' | '.join(cells)} |")
        said = [_which(machines, claim), (notes or {}).get(claim.modelled)]
        if any(said):
            lines += ["", " ".join(filter(None, said))]
    return "\n".join([*lines, "", claims.HOW_TO_RUN, ""])


def _evidence(machine, claim):
    """Links to the results that a verdict rests on."""
    links = []
    for name in claim.experiments:
        if name in machine.results:
            quick = machine.results[name].record["quick"]
            place = Path("..", "results", machine.folder.name, name, PAGE)
            links.append(link(name, place) + " (--quick: tiny sizes)" * quick)
    return ", ".join(links)


def _which(machines, claim):
    """The paragraph on what exceeds the claimed speedup, and what cannot; None for other claims."""
    if claim.direction is None:
        return None
    by_machine = {}
    for machine in machines:
        rows = [row for name in claim.experiments for row in machine.rows.get(name, ())]
        if rows:
            with naming(machine.folder / claim.experiments[0]):
                by_machine[machine.name] = speedups.cases(rows, claim.direction)
    gpus = {machine.name for machine in machines if machine.record["backend"] == "cuda"}
    return speedups.paragraph(claim.direction, by_machine, gpus) if by_machine else None


def around(text: str, begin: str, end: str) -> tuple[str, str]:
    """What stands around a generated part of the README: up to ``begin``, and from ``end`` on.

    Raises:
        ValueError: the text does not hold each of the two lines once, in this order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the README lacks the lines {begin} and {end}, or has one of them twice")
    return text[: text.index(begin)] + begin, text[text.index(end) :]


def readme(machines: list[Machine], experiments: dict, text: str) -> str:
    """The README ``text`` with the comparison with PyTorch rebuilt.

    Args:
        experiments: modules of the experiments, by name.

    Raises:
        BadResults: rows are not those of their experiment.
        ValueError: the text does not hold each of ``BEGIN`` and ``END`` once, in this order.
    """
    before, after = around(text, BEGIN, END)
    lines = []
    for machine in machines:
        if AGAINST in machine.results:
            place = Path("results", machine.folder.name, AGAINST, PAGE)
            with naming(machine.folder / AGAINST):
                summary = experiments[AGAINST].summary(machine.rows[AGAINST])
            text = (
                f"{machine.name}: {summary[0].lower() + summary[1:]} ({link('all figures', place)})"
            )
            text = text.replace(" + ", f"{_KEPT}+ ")  # a line that begins with + would be a list
            text = textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
            lines += [text.replace(_KEPT, " "), ""]
    return before + "\n\n" + "\n".join(lines) + "\n" + after
