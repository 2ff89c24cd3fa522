"""Quantities derived from stored rows that tables, figures and verdicts share."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from experiments.inputs.arithmetic import DIRECTIONS
from experiments.measuring.compare import TOTAL
from experiments.measuring.timing import has_device_times, mark, star

CLAIMED_SPEEDUP = 1500
"""The abstract of the paper claims a speedup above this, forward and backward."""
SHORT_PLAN = 0.5e-3
"""Seconds that a plan of needed cells may take, however short its pass is."""
BUSY = 0.8
"""The share of scanning's time for which its device must be at work; below, the host sets the pace.

On an H100, passes above this share differed between rounds by at most 7% (p20 to p80), passes below
it by up to 35%; and a faster host would take more than a fifth off the speedup.
"""
PACED_BY_HOST = (
    " `‡`: the host set the pace of scanning, whose device was at work for less than "
    f"{BUSY:.0%} of the time, or waited so that its time is not known: a faster host would lower "
    "the speedup, which counts as no more than the claimed one."
)


def mark_of_scanning(scanning: dict) -> str:
    """The marks of scanning's time in a table, and of a speedup over it: ``timing.MARKS``,
    ``PACED_BY_HOST``; ``scanning`` is a row of ``totals_of``."""
    return mark(scanning) + "‡" * scanning["paced_by_host"]


def mark_in_text(scanning: dict) -> str:
    """The same, but for how often it was repeated."""
    return star(scanning["extrapolated"]) + "‡" * scanning["paced_by_host"]


def totals_of(rows: list[dict]) -> dict:
    """Rows of totals by (net, labelled, direction, form), with ``paced_by_host``: whether a GPU was
    at work for less than ``BUSY`` of the time, or waited so that its time is not known, where that
    of scanning was measured at all."""
    rows = [row for row in rows if row["layer"] == TOTAL]
    measured = has_device_times(row for row in rows if row["form"] == "scanning")
    return {
        (r["net"], r["labelled"], r["direction"], r["form"]): r
        | {"paced_by_host": measured and (r["device_seconds"] or 0) < BUSY * r["seconds"]}
        for r in rows
    }


def arithmetic(totals: dict, net, labelled, direction) -> float:
    """Multiply-adds of scanning over those of the dense form."""
    scanning, dense = (totals[net, labelled, direction, f] for f in ("scanning", "dense"))
    return scanning["multiply_adds"] / dense["multiply_adds"]


def largest(totals: dict) -> dict[str, int]:
    """The largest size at which each net ran."""
    sizes = {}
    for net, size, *_ in totals:
        sizes[net] = max(size, sizes.get(net, 0))
    return sizes


def by_image(rows: list[dict]) -> dict:
    """For each net that ran on all sizes: {direction: [(size, speedup, arithmetic, the speedup's
    marks in a text) ...]}."""
    return _series(rows, fixed=0, along=1, along_of=lambda key: key[1])


def by_patch(rows: list[dict]) -> dict:
    """At the size at which all nets ran: {direction: [(patch, ...) ...]}, else as ``by_image``."""
    patch_of = {row["net"]: row["patch"] for row in rows}
    return _series(rows, fixed=1, along=0, along_of=lambda key: patch_of[key[0]])


def _series(rows, fixed, along, along_of):
    """For each value of one part of the key (net, labelled), by number: a series along the other
    part, if it is complete."""
    totals = totals_of(rows)
    counts = {}
    for key in totals:
        counts.setdefault(key[fixed], set()).add(key[along])
    series = {}
    for value, others in counts.items():
        if len(others) == max(map(len, counts.values())) > 1:
            series[value] = {
                direction: sorted(
                    (
                        *(along_of(key), row["speedup"], arithmetic(totals, *key[:3])),
                        mark_in_text(totals[(*key[:3], "scanning")]),
                    )
                    for key, row in totals.items()
                    if key[fixed] == value and key[2:] == (direction, "dense")
                )
                for direction in DIRECTIONS
            }
    return series


def crossing(rows: list[dict], net: str, kind: str) -> tuple[float, bool]:
    """The number of pixels from which the dense form is faster, at the largest size, and whether it
    is extrapolated.

    Times of scanning are interpolated linearly; beyond the largest number of pixels, scanning is
    taken to grow in proportion. 1: the dense form is faster even for one pixel.
    """
    chosen = [r for r in rows if r["net"] == net and r["kind"] == kind]
    size = max(r["labelled"] for r in chosen)
    chosen = [r for r in chosen if r["labelled"] == size]
    scanning = sorted((r["pixels"], r["seconds"]) for r in chosen if r["form"] == "scanning")
    extrapolated = {r["pixels"] for r in chosen if r["extrapolated"]}
    flat = float(np.median([r["seconds"] for r in chosen if r["form"] == "dense"]))
    if scanning[0][1] >= flat:
        return 1.0, False
    for (a, low), (b, high) in pairwise(scanning):
        if low < flat <= high:
            return float(a + (b - a) * (flat - low) / (high - low)), b in extrapolated
    return float(scanning[-1][0] * flat / scanning[-1][1]), True


def excess(rows: list[dict], net: str, kind: str) -> tuple[float, dict] | None:
    """The largest time of a pass over needed cells over that of the faster of the two other methods
    for as many pixels, and its row; None where one of the three was not measured."""
    seconds = {
        (r["labelled"], r["pixels"], r["form"]): r["seconds"]
        for r in rows
        if (r["net"], r["kind"]) == (net, kind) and r["form"] != "needed"
    }
    ratios = []
    for row in rows:
        if (row["net"], row["kind"], row["form"]) == (net, kind, "needed"):
            case = row["labelled"], row["pixels"]
            others = [seconds.get((*case, form)) for form in ("scanning", "dense")]
            if None not in others:
                ratios.append((row["seconds"] / min(others), row))
    return max(ratios, key=lambda pair: pair[0], default=None)


def largest_plan(rows: list[dict], net: str) -> tuple[float, dict] | None:
    """The largest share of a pass over needed cells, forward and backward, that its plan takes, and
    its row, among the plans of more than ``SHORT_PLAN`` seconds; None if there is none. Rows that
    were stored before plans were timed have none."""
    shares = [
        (row["plan_seconds"] / row["seconds"], row)
        for row in rows
        if (row["net"], row["form"], row["kind"]) == (net, "needed", "forward + backward")
        and (row["plan_seconds"] or 0) > SHORT_PLAN
    ]
    return max(shares, key=lambda pair: pair[0], default=None)


def steadiness(rows: list[dict], net: str) -> float:
    """Slowest over fastest dense backward pass over numbers of pixels of an image, relative to its
    round; the largest such ratio of all sizes."""
    dense = [r for r in rows if (r["net"], r["form"], r["kind"]) == (net, "dense", "backward")]
    shares = {}
    for row in dense:
        shares.setdefault(row["labelled"], []).append(row["of_round"])
    return max(max(of_size) / min(of_size) for of_size in shares.values())
