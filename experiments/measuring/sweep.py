"""Sweeps of a single operator: from a base point, one axis at a time is varied."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numba
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.measuring.ceilings import ceilings
from experiments.measuring.timing import (
    LONGEST,
    TIMES,
    has_device_times,
    interleaved,
    mark,
    spread_of_times,
    timed,
)
from kernels import Backend, get_backend

AXES = {
    "image": (64, 128, 256, 512, 1024),
    "kernel": (2, 3, 4, 5, 6, 7, 8),
    "d": (1, 2, 4, 8, 16),
    "channels": (1, 3, 16, 48, 100, 200),
}
QUICK_AXES = {"image": (16, 32), "kernel": (2, 3), "d": (1, 2), "channels": (1, 4)}
UNITS = {
    "image": "image rows and columns (pixels)",
    "kernel": "kernel rows and columns (entries)",
    "d": "distance d of the entries (pixels)",
    "channels": "channels in and out",
}
COLUMNS = {
    **dict.fromkeys(("axis", "operation", "method"), str),
    **dict.fromkeys(("image", "kernel", "d", "channels", "work"), int),
    **{"gflops": float | None, "gbytes": float, **TIMES},
}
"""The columns of ``swept``, and their kinds."""
COLORS = ("#0072b2", "#e69f00", "#009e73")
MARKERS = ("o-", "s--", "^-.")


@dataclass(frozen=True)
class Point:
    """One setting; the output is ``image`` x ``image``."""

    image: int = 256
    kernel: int = 5
    d: int = 2
    channels: int = 48

    @property
    def size(self) -> int:
        """Rows and columns of the input."""
        return self.image + (self.kernel - 1) * self.d


BASE, QUICK_BASE = Point(), Point(image=16, kernel=3, d=2, channels=4)


def points(quick: bool) -> list[tuple[str, Point]]:
    """(axis, setting) of the whole sweep; the base point belongs to every axis."""
    base, axes = (QUICK_BASE, QUICK_AXES) if quick else (BASE, AXES)
    return [(axis, replace(base, **{axis: v})) for axis, values in axes.items() for v in values]


def swept(name: str, measure, options, places: list[tuple[str, Point]]) -> list[dict]:
    """Rows of ``measure(point, rng, ops, longest)`` for every (axis, point) of ``places``, each
    with the ceilings.

    ``measure`` returns the (wall, device) seconds of every round by operation, and the work of each
    operation: multiplications and additions, or bytes.
    """
    ops = get_backend(options.backend)
    threads = numba.get_num_threads()
    highest = options.cache.measured(
        {"ceilings": threads}, lambda: ceilings(ops.name, threads, options.quick)
    )
    longest, rows = (2.0 if options.quick else LONGEST), []
    with tqdm(places, desc=name, unit="point") as progress:
        for axis, point in progress:
            parameters = vars(point)
            progress.set_postfix_str(", ".join(f"{k} {v}" for k, v in parameters.items()))

            def measured(point=point):
                times, work = measure(point, np.random.default_rng(options.seed), ops, longest)
                return [
                    vars(point)
                    | {"operation": operation, "work": work[operation]}
                    | spread_of_times(values)
                    for operation, values in times.items()
                ]

            measurements = options.cache.measured(parameters, measured)
            rows += [{"axis": axis} | row | highest for row in measurements]
    return rows


def rounds(ops: Backend, jobs: dict, longest: float) -> dict:
    """(wall, device) seconds of every operation, in interleaved rounds."""
    clocked = {name: lambda job=job: timed(ops, job, again=job)[1] for name, job in jobs.items()}
    return interleaved(clocked, longest)


def rates(rows: list[dict]) -> list[float]:
    """1e9 multiplications and additions, or bytes, a second. Where some rows hold a GPU's own
    times, all are by its clock: NaN where it waited, so that its time is not known."""
    on_gpu = has_device_times(rows)
    seconds = [row["device_seconds"] if on_gpu else row["seconds"] for row in rows]
    return [math.nan if s is None else 1e-9 * row["work"] / s for row, s in zip(rows, seconds)]


def table(rows: list[dict], unit: str, ceiling: str) -> str:
    """The Markdown table of a sweep; ``ceiling`` names the column of the machine's maximum."""
    highest = rows[0][ceiling]
    known = "not measured" if highest is None else f"{highest:.1f} {unit}"
    lines = [f"Ceiling of this machine: {known} ({rows[0]['method']}).", ""]
    lines += [
        "| axis | image | kernel | d | channels | operation | ms (p20 to p80) | device ms "
        f"| repeats | {unit} | share of the ceiling |",
        "|---" * 11 + "|",
    ]
    for row, rate in zip(rows, rates(rows)):
        low, high = (1e3 * row[f"seconds_{q}"] for q in ("p20", "p80"))
        device, measured = row["device_seconds"], not math.isnan(rate)
        cells = [
            row["axis"],
            *(row[key] for key in ("image", "kernel", "d", "channels", "operation")),
            f"{1e3 * row['seconds']:.4g}{mark(row)} ({low:.4g} to {high:.4g})",
            "" if device is None else f"{1e3 * device:.4g}",
            row["repeats"],
            f"{rate:.1f}" if measured else "not measured",
            f"{100 * rate / highest:.0f}%" if measured and highest else "",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def figure(rows: list[dict], unit: str, ceiling: str, title: str) -> Figure:
    """The rate along each axis, and the ceiling."""
    drawing = Figure(figsize=(12, 3.6), layout="constrained")
    operations = dict.fromkeys(row["operation"] for row in rows)
    measured = list(zip(rows, rates(rows)))
    for axes, axis in zip(drawing.subplots(1, 4, sharey=True), UNITS):
        for operation, color, marker in zip(operations, COLORS, MARKERS):
            of_axis = (r for r in measured if r[0]["axis"] == axis)
            x, y = zip(*((r[axis], rate) for r, rate in of_axis if r["operation"] == operation))
            axes.plot(x, y, marker, color=color, label=operation, markersize=4)
        if rows[0][ceiling] is not None:
            axes.axhline(rows[0][ceiling], color="black", ls=":", label="ceiling of this machine")
        if axis in ("image", "d"):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel(UNITS[axis], fontsize=8)
        axes.set_ylim(bottom=0)
    drawing.get_axes()[0].set_ylabel(unit)
    drawing.suptitle(title)
    handles, labels = drawing.get_axes()[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right upper", fontsize=7)
    return drawing
