"""Networks: dense against patch-by-patch, layer by layer, forward and backward.

Scanning runs on a random sample of pixels, is scaled to all of them and marked as extrapolated; its
batch size is the fastest of ``compare.batches``.
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from tqdm import tqdm

from experiments.inputs.arithmetic import DIRECTIONS
from experiments.inputs.nets import FAMILY, QUICK, affordable
from experiments.measuring.compare import COLUMNS as COLUMNS
from experiments.measuring.compare import compared
from experiments.measuring.timing import MARKS, has_device_times, mark
from experiments.reporting.derived import (
    CLAIMED_SPEEDUP,
    PACED_BY_HOST,
    arithmetic,
    mark_of_scanning,
    totals_of,
)
from experiments.reporting.numbers import short
from net.zoo import ZOO

TIMED = True
SIZES, QUICK_SIZES = (128, 256, 512), (16,)
LARGER = {"authors133": (1024,)}
"""Sizes at which a net runs besides, towards the limit of its arithmetic."""
MOST = 4e11
"""Multiply-adds of a dense pass forward on a host: ``greentea102`` stops at 128."""
COLORS = ("#0072b2", "#e69f00")
WIDEST = 0.3
"""Of bars, whose nets are 1 apart: two beside each other have room for their figures."""
EXTRAPOLATED = "///"
"""Hatching of bars whose scanning was extrapolated."""
BESIDE = ("growth",)
"""Experiments whose rows the figure shows besides."""


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, size, form, direction and layer (see ``compared``); no arrays.

    Raises:
        NotEqual: the forms disagree on the arrays that are timed.
    """
    rows = []
    nets = options.nets or (QUICK if options.quick else ZOO)
    with tqdm(nets, desc="networks", unit="net") as progress:
        for name in progress:
            progress.set_postfix_str(name)
            sizes = QUICK_SIZES if options.quick else sizes_of(name, options.backend)
            parameters = {"net": name, "sizes": sizes}
            rows += options.cache.measured(
                parameters,
                lambda name=name, sizes=sizes: compared(name, sizes, options, memory=True),
            )
    return rows, {}


def sizes_of(name: str, backend: str) -> tuple[int, ...]:
    """Labelled rows and columns at which a net of the zoo runs."""
    return affordable(name, (*SIZES, *LARGER.get(name, ())), backend, MOST)


def table(rows: list[dict]) -> str:
    """The Markdown tables: totals of every net, then each net's layers."""
    lines = ["### Totals", "", *_totals(rows), "", MARKS + PACED_BY_HOST]
    for name, size in dict.fromkeys((row["net"], row["labelled"]) for row in rows):
        chosen = [row for row in rows if (row["net"], row["labelled"]) == (name, size)]
        first = chosen[0]
        lines += ["", f"### {name}, {size} x {size} labelled pixels", ""]
        lines += [
            f"Scanning: {first['timed_pixels']} pixels timed, {first['batch']} patches per batch "
            "(the fastest batch size).",
            "",
        ]
        lines += _layers(chosen)
    return "\n".join(lines)


def _totals(rows):
    """A line for each net, size and direction."""
    totals = totals_of(rows)
    on_gpu = has_device_times(totals.values())
    yield (
        "| net | labelled pixels | direction | patch-by-patch ms | dense ms (p20 to p80) "
        "| dense device ms | speedup (p20 to p80) | the paper's claim | of it arithmetic "
        "| of it efficiency | multiply-adds, patch by patch | dense "
        "| batch | peak MB, patch by patch | peak MB, dense |"
    )
    yield "|---" * 15 + "|"
    for net, size, direction in dict.fromkeys(key[:3] for key in totals):
        scanning, dense = (totals[net, size, direction, f] for f in ("scanning", "dense"))
        ratio = arithmetic(totals, net, size, direction)
        low, middle, high = (dense[f"speedup{q}"] for q in ("_p20", "", "_p80"))
        quick, slow = (_milliseconds(dense[f"seconds{q}"]) for q in ("_p20", "_p80"))
        device = dense["device_seconds"]
        cells = [
            net,
            f"{size} x {size}",
            direction,
            f"{_milliseconds(scanning['seconds'])}{mark_of_scanning(scanning)}",
            f"{_milliseconds(dense['seconds'])}{mark(dense)} ({quick} to {slow})",
            _milliseconds(device) if device else "not measured" * on_gpu,
            f"{short(middle)}{mark_of_scanning(scanning)} ({short(low)} to {short(high)})",
            f"over {CLAIMED_SPEEDUP}",
            f"{ratio:.3g} x",
            f"{middle / ratio:.2f} x",
            f"{scanning['multiply_adds']:.3g}",
            f"{dense['multiply_adds']:.3g}",
            str(scanning["batch"]),
            *(_megabytes(row["peak_bytes"]) for row in (scanning, dense)),
        ]
        yield f"| {' | '.join(cells)} |"


def _layers(rows):
    """A line for each layer and direction of one net and size."""
    yield (
        "| layer | direction | patch-by-patch ms | dense ms | speedup | of it arithmetic "
        "| multiply-adds, patch by patch | dense |"
    )
    yield "|---" * 8 + "|"
    pairs = {}
    for row in rows:
        pairs.setdefault((row["layer"], row["direction"]), {})[row["form"]] = row
    for (layer, direction), forms in pairs.items():
        scanning, dense = forms["scanning"], forms.get("dense")
        cells = [layer, direction, f"{_milliseconds(scanning['seconds'])}{mark(scanning)}"]
        if dense is None:
            cells += [""] * 5
        else:
            done, ours = scanning["multiply_adds"], dense["multiply_adds"]
            cells += [f"{_milliseconds(dense['seconds'])}{mark(dense)}"]
            cells += [f"{short(dense['speedup'])}{mark(scanning)}"]
            cells += [f"{done / ours:.3g} x", f"{done:.3g}", f"{ours:.3g}"] if ours else [""] * 3
        yield f"| {' | '.join(cells)} |"


def _milliseconds(seconds):
    return short(1e3 * seconds, 4)


def _megabytes(size):
    return "" if size is None else short(size / 1e6)


def caption(record: dict) -> str:
    """What the tables show."""
    return (
        "Time to label every pixel (forward) and to get the gradients of all parameters (backward, "
        "after forward), patch by patch and in the dense form: same backend, same operators, "
        "float32, nets of the zoo. The speedup is split into the arithmetic that the dense "
        "form saves (the ratio of multiply-adds) and the efficiency that it gains.\n\n"
        'The paper\'s abstract claims "over 1500 times", on its own nets and GPU: the claim stands '
        "beside each figure. Rounds of scanning and of the dense form alternate; medians, with the "
        "20th and 80th percentile. Both forms gave the same bits on the timed arrays. Peak memory: "
        "one pass forward and backward (one batch of patches for scanning), in a process of its "
        "own, beyond what the process held before. In the figure, the growth family's fastest net "
        "stands beside the zoo, where it was measured."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Speedup of every net and size, forward and backward, beside the ratio of multiply-adds.

    Of the growth family, whose rows come besides, the net with the highest speedup is shown.
    """
    totals = _with_one_of_the_family(totals_of(rows))
    nets, sizes = (list(dict.fromkeys(key[i] for key in totals)) for i in (0, 1))
    nets.sort(key=lambda net: net.startswith(FAMILY))
    sizes.sort()
    drawing = Figure(figsize=(13, 5.6), layout="constrained")
    axes = drawing.subplots()
    shades = dict(zip(sizes, np.linspace(0.35, 1.0, len(sizes)) if len(sizes) > 1 else [1.0]))
    for x, net in enumerate(nets):
        bars = [(d, size) for d in DIRECTIONS for size in _sizes(totals, net)]
        width = min(0.86 / len(bars), WIDEST)
        for i, (direction, size) in enumerate(bars):
            place = x + (i + 0.5 - len(bars) / 2) * width
            highest = size == _sizes(totals, net)[-1]
            _bar(axes, totals, (net, size, direction), place, width, shades[size], highest)
    axes.axhline(CLAIMED_SPEEDUP, color="#cc79a7", ls="--")
    axes.set_yscale("log")
    axes.set_ylim(bottom=1)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(nets)), [_named(net) for net in nets])
    axes.margins(x=0.01)
    axes.set_ylabel("speedup over patch-by-patch (times)")
    axes.set_title(
        f"Every pixel in one pass, against patch by patch: {record['gpu'] or record['cpu']}"
    )
    drawing.legend(handles=_legend(shades, totals), ncols=4, loc="outside lower center", fontsize=9)
    return drawing


def _with_one_of_the_family(totals):
    """The totals, and of the growth family those of its fastest net, at sizes such as the zoo's."""
    zoo = {key: row for key, row in totals.items() if not key[0].startswith(FAMILY)}
    smallest = min((key[1] for key in zoo), default=0)
    family = {key: row for key, row in totals.items() if key not in zoo and key[1] >= smallest}
    speedups = {key: row["speedup"] for key, row in family.items() if row["speedup"]}
    best = max(speedups, key=speedups.get)[0] if speedups else None
    return zoo | {key: row for key, row in family.items() if key[0] == best}


def _sizes(totals, net):
    return sorted({key[1] for key in totals if key[0] == net})


def _named(net):
    return f"{net}\n(growth)" if net.startswith(FAMILY) else net


def _bar(axes, totals, case, place, width, shade, with_figure):
    """A bar with its spread, perhaps its figure, and the ratio of multiply-adds across it."""
    row, scanning = (totals[(*case, form)] for form in ("dense", "scanning"))
    speedup = row["speedup"]
    errors = [[speedup - row["speedup_p20"]], [row["speedup_p80"] - speedup]]
    color = COLORS[DIRECTIONS.index(case[2])]
    axes.bar(
        *(place, speedup, 0.92 * width),
        yerr=np.maximum(errors, 0),
        error_kw={"lw": 0.8, "ecolor": "#555555"},
        facecolor=to_rgba(color, shade),
        edgecolor="white",
        linewidth=0,
        hatch=EXTRAPOLATED if scanning["extrapolated"] else None,
    )
    if with_figure:
        above = max(row["speedup_p80"], speedup)
        blank = {"facecolor": "white", "linewidth": 0, "pad": 0.5}
        axes.text(place, 1.06 * above, short(speedup), ha="center", fontsize=8, bbox=blank)
    ends = place - width / 2, place + width / 2
    axes.hlines(arithmetic(totals, *case), *ends, color="black", lw=1.5)


def _legend(shades, totals):
    """Handles: directions, sizes, and what the marks mean."""
    grey = "#444444"
    handles = [Patch(facecolor=color, label=name) for name, color in zip(DIRECTIONS, COLORS)]
    handles += [
        Patch(facecolor=to_rgba(grey, shade), label=f"{size} x {size} labelled pixels")
        for size, shade in shades.items()
    ]
    if any(row["extrapolated"] for row in totals.values()):
        text = "scanning extrapolated from timed pixels"
        handles.append(
            Patch(facecolor=grey, edgecolor="white", linewidth=0, hatch=EXTRAPOLATED, label=text)
        )
    handles.append(Line2D([], [], color="black", lw=1.5, label="multiply-adds saved"))
    claimed = f"the paper's claim: over {CLAIMED_SPEEDUP}"
    return [*handles, Line2D([], [], color="#cc79a7", ls="--", label=claimed)]
