"""Sampled pixels: time and memory of learning from n pixels, by three methods.

Patch by patch, the cost grows with the number of pixels. The paper's masked dense pass costs the
same for one pixel as for all. A pass over the cells that the pixels need costs at most what either
of them does: where it is taken, no number of pixels is left for which another method is better.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.inputs.nets import QUICK, affordable, prepared
from experiments.inputs.strokes import DRAWN, chosen_pixels
from experiments.measuring import runners
from experiments.measuring.chosen import PLANNING, check_needed, needed_pass, work_of
from experiments.measuring.compare import Workload, dense_pass, fastest_batch, scan_pass
from experiments.measuring.peak import PASSES, PEAK, masked_peaks, peak_memory
from experiments.measuring.timing import (
    FEWEST,
    LONGEST,
    MARKS,
    QUICKLY,
    ROUNDS,
    TIMES,
    interleaved,
    mark,
    spread_of_times,
    star,
)
from experiments.reporting.derived import SHORT_PLAN, crossing, excess, largest_plan, steadiness
from experiments.reporting.numbers import counted, short
from net import Dense, Scan
from net.zoo import ZOO

TIMED = True
SIZES, QUICK_SIZES = (128, 256), (16,)
"""Labelled rows and columns."""
NUMBERS, QUICK_NUMBERS = (1, 8, 64, 200, 512, 4096, 32768), (1, 16)
"""Of pixels; the last one is all."""
WORK = 5.0
"""Seconds of scanning in all rounds; what would take longer is extrapolated."""
FORMS = ("scanning", "dense", "needed")
KINDS = ("backward", "forward + backward")
COLUMNS = {
    **dict.fromkeys(("net", "form", "kind"), str),
    **{"drawn": str | None, "multiply_adds": int | None},
    **dict.fromkeys(("labelled", "pixels", "sample", "batch"), int),
    **{"extrapolated": bool, "of_round": float | None, **TIMES, **PEAK},
    "plan_seconds": float | None,
}
WAYS = {
    ("scanning", "random"): ("patch by patch", "#e69f00", "o--"),
    ("dense", "random"): ("every cell (the paper's method)", "#0072b2", "-"),
    ("needed", "random"): ("needed cells, random pixels", "#009e73", "o-"),
    ("needed", "scribbles"): ("needed cells, scribbles", "#cc79a7", "s-"),
}
"""Name, color and style of a line."""


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, size, form, way of drawing, number of pixels and kind; no arrays.

    Column ``of_round``: a dense pass's time over the mean of all dense passes of the same round;
    ``plan_seconds``: the part of a pass over needed cells in which it chooses its way, and makes
    lists and tables.

    Raises:
        NotEqual: the forms disagree on the arrays that are timed.
    """
    forms = getattr(options, "forms", None) or FORMS
    rows = []
    nets = options.nets or (QUICK if options.quick else ZOO)
    cases = [
        (name, size)
        for name in nets
        for size in (QUICK_SIZES if options.quick else affordable(name, SIZES, options.backend))
    ]
    with tqdm(cases, desc="sampled", unit="case") as progress:
        for name, size in progress:
            progress.set_postfix_str(f"{name} {size}")
            some = QUICK_NUMBERS if options.quick else NUMBERS
            numbers = (*(number for number in some if number < size**2), size**2)
            parameters = {"net": name, "size": size, "numbers": numbers, "forms": tuple(forms)}
            rows += options.cache.measured(
                parameters,
                lambda name=name, size=size, numbers=numbers: _Case(
                    name, size, numbers, forms, options
                ).rows(),
            )
    return rows, {}


class _Case:
    """A net at one size: its passes, by (form, how pixels are drawn, how many)."""

    def __init__(self, name, size, numbers, forms, options):
        self.name, self.size, self.numbers = name, size, numbers
        self.forms, self.options = forms, options
        self.net = prepared(name, seed=options.seed, backend=options.backend)
        self.workload = Workload(self.net, size, options.seed)
        self.masks = {
            (drawn, number): self.workload.mask(self._pixels(drawn, number))
            for drawn in DRAWN
            for number in numbers
        }

    def _pixels(self, drawn, number):
        return chosen_pixels(drawn, (self.size, self.size), number, self.options.seed)

    def rows(self) -> list[dict]:
        self.workload.check_equal()
        check_needed(self.workload)
        passes = [
            (form, drawn, number)
            for form, drawn in WAYS
            if form in self.forms
            for number in self.numbers
        ]
        timed, batches = self._timed_scans() if "scanning" in self.forms else ([], {})
        jobs = {key: self._job(*key, batches) for key in passes if key[0] != "scanning"}
        for number in timed:
            jobs["scanning", "random", number] = self._job("scanning", "random", number, batches)
        rounds = interleaved(jobs, QUICKLY if self.options.quick else LONGEST, min_rounds=FEWEST)
        peaks = self._peaks(batches)
        rows = []
        for form, drawn, number in passes:
            scanning = form == "scanning"
            sample = number if not scanning or number in timed else timed[-1]
            batch = batches[sample] if scanning else 1
            work = work_of(self.net, self.size, self.masks[drawn, number])
            row = {"net": self.name, "labelled": self.size, "pixels": number, "form": form}
            row |= {"drawn": drawn, "sample": sample, "batch": batch}
            row |= {"extrapolated": sample != number}
            row |= peaks[form, drawn, batch if scanning else number]
            for kind in KINDS:
                times = [_time(taken, kind) for taken in rounds[form, drawn, sample]]
                row["multiply_adds"] = sum(work[form, part] for part in kind.split(" + "))
                of_round = self._of_round(rounds, number, kind) if form == "dense" else None
                spread = spread_of_times(times, number / sample)
                plans = [t.layers["forward", PLANNING] for t in rounds[form, drawn, sample]]
                plan = {"plan_seconds": float(np.median(plans)) if form == "needed" else None}
                rows.append(row | {"kind": kind} | spread | {"of_round": of_round} | plan)
        return rows

    def _timed_scans(self):
        """(numbers of pixels that are scanned, batch of each)."""
        quick, numbers = self.options.quick, self.numbers
        best, rates = fastest_batch(self.workload, quick)
        most = max(1, int((0.5 if quick else WORK) * rates[best] / ROUNDS))
        timed = [n for n in numbers if n <= most]
        if most > timed[-1] and len(timed) < len(numbers):
            timed.append(most)
        return timed, {number: min(best, number) for number in timed}

    def _job(self, form, drawn, number, batches):
        net, image, error = self.net, self.workload.image, self.workload.error
        if form == "scanning":
            scan, pixels = Scan(net, batch=batches[number]), self._pixels(drawn, number)
            return lambda: scan_pass(scan, image, error, pixels)
        mask = self.masks[drawn, number]
        if form == "dense":
            return lambda: dense_pass(Dense(net), image, error, mask)
        dense = Dense(net)
        return lambda: needed_pass(dense, image, error, mask)

    def _of_round(self, rounds, number, kind):
        every = np.array(
            [[_time(t, kind)[0] for t in rounds["dense", "random", n]] for n in self.numbers]
        )
        return np.median(every[self.numbers.index(number)] / every.mean(axis=0))

    def _peaks(self, batches):
        """Peak memory by (form, drawn, batch of scanning or number of pixels)."""
        job = {"net": self.name, "backend": self.options.backend, "seed": self.options.seed}
        job |= {"labelled": self.size}
        peaks = {}
        for batch in dict.fromkeys(batches.values()):
            scanning = job | {"runner": runners.SCANNING, "batch": batch}
            peaks["scanning", "random", batch] = peak_memory(scanning)[PASSES[1]]
        if "dense" in self.forms:
            cases = [("random", number) for number in self.numbers]
            whole = masked_peaks(job | {"runner": runners.EVERYWHERE}, cases)
            peaks |= {("dense", *case): of_case[PASSES[1]] for case, of_case in whole.items()}
        if "needed" in self.forms:
            some = masked_peaks(job | {"runner": runners.NEEDED}, list(self.masks))
            peaks |= {("needed", *case): of_case[PASSES[1]] for case, of_case in some.items()}
        return peaks


def _time(taken, kind):
    """(wall, device) seconds of one pass."""
    wall, device = zip(*(taken.totals[direction] for direction in kind.split(" + ")))
    return sum(wall), None if None in device else sum(device)


def table(rows: list[dict]) -> str:
    """The Markdown tables."""
    lines = [
        "| net | the paper's method is slower than scanning below about, backward "
        "| forward + backward | its backward pass, slowest over fastest number of pixels "
        "| needed cells over the faster of both, at worst "
        "| their plan: largest share of a pass |",
        "|---" * 6 + "|",
    ]
    for net in dict.fromkeys(r["net"] for r in rows):
        cells = [_crossing(rows, net, kind) for kind in KINDS]
        cells += [f"{steadiness(rows, net):.2f}" if _has(rows, net, "dense") else ""]
        cells += [_excess(rows, net), _plan(rows, net)]
        lines.append(f"| {net} | {' | '.join(cells)} |")
    lines += ["", _HEADER, "|---" * 15 + "|"]
    cases = {}
    for r in rows:
        case = cases.setdefault((r["net"], r["labelled"], r["pixels"]), {})
        case[r["form"], r["drawn"] or "random", r["kind"]] = r
    for (net, size, pixels), case in cases.items():
        cells = [_milliseconds(case.get((*way, kind))) for kind in KINDS for way in WAYS]
        cells += [_megabytes(case.get((*way, KINDS[1]))) for way in WAYS]
        lines.append(f"| {net} | {size} | {pixels} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", MARKS])


_NAMES = ("patch by patch", "dense", "needed, random", "needed, scribbles")
_HEADER = (
    "| net | rows and columns | pixels | "
    + " | ".join(f"{kind} ms, {name}" for kind in KINDS for name in _NAMES)
    + " | "
    + " | ".join(f"peak MB, {name}" for name in _NAMES)
    + " |"
)


def _has(rows, net, form):
    return any(r["net"] == net and r["form"] == form for r in rows)


def _crossing(rows, net, kind):
    if not (_has(rows, net, "scanning") and _has(rows, net, "dense")):
        return ""
    number, extrapolated = crossing(rows, net, kind)
    return f"{number:.0f}{star(extrapolated)} pixels"


def _excess(rows, net):
    largest = excess(rows, net, KINDS[1])
    if largest is None:
        return "not measured"
    ratio, row = largest
    return f"{ratio:.2f} ({counted(row['pixels'], 'pixel')} of {row['labelled']}, {row['drawn']})"


def _plan(rows, net):
    largest = largest_plan(rows, net)
    if all(r["plan_seconds"] is None for r in rows if r["net"] == net):
        return "not measured"
    if largest is None:
        return f"none takes more than {1e3 * SHORT_PLAN} ms"
    share, row = largest
    where = f"{counted(row['pixels'], 'pixel')} of {row['labelled']}, {row['drawn']}"
    return f"{share:.1%}, {_milliseconds(row | {'seconds': row['plan_seconds']})} ms ({where})"


def _milliseconds(row):
    return "" if row is None else f"{short(1e3 * row['seconds'], 4)}{mark(row)}"


def _megabytes(row):
    return "" if row is None or row["peak_bytes"] is None else short(row["peak_bytes"] / 1e6)


def caption(record: dict) -> str:
    """What the table shows."""
    sizes = " and ".join(str(size) for size in (QUICK_SIZES if record["quick"] else SIZES))
    return (
        f"Time and memory of learning from n pixels of {sizes} rows and columns, or fewer where a "
        "pass would take too long: patch by patch; in the dense form with a masked error map, the "
        "paper's method; and over the cells that the pixels need. The paper's method is constant, "
        "and beaten by scanning below a crossing point. Over needed cells there is none where "
        "these take at most the time of the faster of both, or as near to it as two equal times "
        "are measured. A plan chooses the way of a pass, and makes lists and tables; its aim is 5% "
        f"of the pass, or {1e3 * SHORT_PLAN} ms.\n\n"
        "The gradients of all parameters; backward alone, and with the forward pass that it needs. "
        "Pixels lie at random, or in scribbles: strokes drawn by a seeded rule. A pass over needed "
        "cells plans anew each time, and goes to the dense form where that takes less. Rounds of "
        "all methods alternate; medians. Scanning runs in batches of the fastest size, or all n at "
        "once where n is smaller. Peak memory: of a pass forward and backward (of one batch; of "
        "the dense form with its mask), in a process for each method. The paper's abstract claims "
        "a cost that does not depend on the number of sampled patches: `--forms scanning dense` "
        "measures that alone."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Time and memory of a pass against the number of pixels, for each net at its largest size."""
    nets = list(dict.fromkeys(r["net"] for r in rows))
    across = min(4, len(nets))
    down = ceil(len(nets) / across)
    drawing = Figure(figsize=(3.2 * across + 0.5, 4.4 * down + 1.2), layout="constrained")
    ratios = (3, 2) * down
    panels = drawing.subplots(2 * down, across, squeeze=False, height_ratios=ratios)
    for i in range(len(nets), down * across):
        for panel in panels[2 * (i // across) :][:2]:
            panel[i % across].set_axis_off()
    for i, net in enumerate(nets):
        row, column = divmod(i, across)
        times, memory = panels[2 * row][column], panels[2 * row + 1][column]
        of_net = [r for r in rows if r["net"] == net and r["kind"] == KINDS[1]]
        size = max(r["labelled"] for r in of_net)
        _draw_net(times, memory, [r for r in of_net if r["labelled"] == size])
        times.set_title(f"{net}, {size} x {size}", fontsize=10)
        if column == 0:
            times.set_ylabel("forward + backward (ms)")
            memory.set_ylabel("peak memory (MB)")
        if i + across >= len(nets):
            memory.set_xlabel("pixels learned from (pixels)")
    drawing.suptitle(f"Learning from some pixels: {record['gpu'] or record['cpu']}")
    handles, labels = panels[0][0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=1 + (across > 1), fontsize=8)
    return drawing


def _draw_net(times, memory, rows):
    dense = [r for r in rows if r["form"] == "dense" and r["multiply_adds"]]
    pace = np.median([r["seconds"] / r["multiply_adds"] for r in dense]) if dense else None
    for (form, drawn), (label, color, style) in WAYS.items():
        chosen = [r for r in rows if (r["form"], r["drawn"] or "random") == (form, drawn)]
        chosen.sort(key=lambda r: r["pixels"])
        if not chosen:
            continue
        numbers = [r["pixels"] for r in chosen]
        look = {"color": color, "markersize": 3, "linewidth": 1.2}
        times.plot(numbers, [1e3 * r["seconds"] for r in chosen], style, label=label, **look)
        if form == "needed" and pace:
            counted = [1e3 * pace * r["multiply_adds"] for r in chosen]
            label = "their multiply-adds, at the pace of the paper's method"
            label = label if drawn == "random" else None
            times.plot(numbers, counted, ":", color=color, linewidth=1, label=label)
        measured = [(r["pixels"], r["peak_bytes"] / 1e6) for r in chosen if r["peak_bytes"]]
        if measured:
            memory.plot(*zip(*measured), style, **look)
    for axes in (times, memory):
        axes.set_xscale("log", base=4)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.tick_params(which="both", labelsize=7)
