"""Which nets exceed the claimed speedup, at which sizes, and which would on larger images."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.inputs.arithmetic import saved
from experiments.inputs.nets import built
from experiments.reporting.derived import (
    CLAIMED_SPEEDUP,
    arithmetic,
    mark_in_text,
    totals_of,
)
from experiments.reporting.numbers import short


@dataclass(frozen=True)
class Case:
    """A net at one size, on one machine, in one direction.

    Attributes:
        net: its name.
        size: labelled rows and columns.
        speedup: the speedup of the dense form over scanning.
        ratio: the part of it that arithmetic saves.
        marks: the marks of the speedup, in a text.
        paced_by_host: whether the host set the pace of scanning on a GPU.
    """

    net: str
    size: int
    speedup: float
    ratio: float
    marks: str
    paced_by_host: bool

    @property
    def passes(self) -> bool:
        """Whether the speedup exceeds the claimed one, and not through a slow host."""
        return self.speedup > CLAIMED_SPEEDUP and not self.paced_by_host

    @property
    def efficiency(self) -> float:
        """What the speedup has beyond arithmetic."""
        return self.speedup / self.ratio

    def marked_speedup(self, digits: int = 4) -> str:
        """The speedup with its marks."""
        return short(self.speedup, digits) + self.marks

    def __str__(self) -> str:
        return f"{self.net} {self.marked_speedup()} at {self.size} x {self.size}"


def cases(rows: list[dict], direction: str) -> list[Case]:
    """All nets at all sizes, from rows of ``compared``."""
    totals = totals_of(rows)
    result = []
    for (net, size, *rest), row in totals.items():
        if rest == [direction, "dense"]:
            scanning = totals[net, size, direction, "scanning"]
            ratio = arithmetic(totals, net, size, direction)
            marked = mark_in_text(scanning), scanning["paced_by_host"]
            result.append(Case(net, size, row["speedup"], ratio, *marked))
    return result


def bests(every: list[Case]) -> list[Case]:
    """Each net's highest speedup."""
    highest = {}
    for case in every:
        if case.net not in highest or case.speedup > highest[case.net].speedup:
            highest[case.net] = case
    return list(highest.values())


def paragraph(direction: str, by_machine: dict[str, list[Case]], gpus: set[str]) -> str:
    """Which nets and sizes pass, which others would, and what GPUs measured.

    Args:
        by_machine: the cases by the machine's name.
        gpus: the names among them that stand for GPUs.

    Raises:
        ValueError: a net is none of the zoo or of the growth family.
    """
    passing = [
        f"{case} ({name})" for name, every in by_machine.items() for case in every if case.passes
    ]
    nets = dict.fromkeys(case.net for every in by_machine.values() for case in every)
    limits = {net: saved(built(net, backend="reference"), None, direction) for net in nets}
    gained, reached = {}, set()
    for case in (case for every in by_machine.values() for case in every):
        gained[case.net] = max(case.efficiency, gained.get(case.net, 0))
        reached |= {case.net} if case.passes else set()
    bounds = {net: f"{net} ({limits[net]:.4g} x {gained[net]:.2f})" for net in nets}
    able = {net for net in nets if limits[net] * gained[net] > CLAIMED_SPEEDUP} | reached
    could = [text for net, text in bounds.items() if net in able - reached]
    others = [text for net, text in bounds.items() if net not in able]
    highest = max(limits, key=limits.get)
    parts = [
        f"**Which nets, at which sizes.** {direction.capitalize()}, over {CLAIMED_SPEEDUP}: "
        f"{'; '.join(passing) or 'none'}.",
        f"Arithmetic alone saves at most {limits[highest]:.4g} times on these nets ({highest}), on "
        "an infinitely large image; the rest is efficiency: the speedup over that ratio.",
        "In brackets: the ratio of multiply-adds on an infinitely large image x the net's highest "
        "efficiency at any size on any machine here.",
        f"By this product {_would(could, reached)}{': ' * bool(others)}{', '.join(others)}.",
    ]
    for name in sorted(gpus & by_machine.keys()):
        best = max(by_machine[name], key=lambda case: case.speedup)
        passed = sum(case.passes for case in by_machine[name])
        parts.append(
            f"Measured on a GPU, {name}: over {CLAIMED_SPEEDUP} in {passed} of "
            f"{len(by_machine[name])} cases, at most {best}."
        )
    if not gpus & by_machine.keys():
        parts.append("No GPU has measured it.")
    return " ".join(parts)


def _would(could, reached):
    """Which nets would exceed the claimed speedup, apart from those that did."""
    exceed = f"could exceed {CLAIMED_SPEEDUP} on a larger image"
    if could:
        return f"{', '.join(could)} {exceed}, and no other net could"
    return f"no {'other ' * bool(reached)}net {exceed}"
