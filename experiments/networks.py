"""Networks: dense against patch-by-patch, layer by layer, forward and backward.

Scanning runs on a random sample of pixels, is scaled to all of them and marked as extrapolated; its
batch size is the fastest of ``compare.batches``.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.inputs.nets import QUICK
from experiments.measuring.compare import COLUMNS as COLUMNS
from experiments.measuring.compare import DIRECTIONS, compared
from experiments.measuring.timing import MARKS, mark
from experiments.reporting.derived import CLAIMED_SPEEDUP, arithmetic, totals_of
from net.zoo import ZOO

TIMED = True
SIZES, QUICK_SIZES = (128, 256, 512), (16,)
COLORS = ("#0072b2", "#e69f00")
SHADES = (0.45, 0.7, 1.0)


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, size, form, direction and layer (see ``compared``); no arrays.

    Raises:
        NotEqual: the forms disagree on the arrays that are timed.
    """
    sizes = QUICK_SIZES if options.quick else SIZES
    rows = []
    nets = options.nets or (QUICK if options.quick else ZOO)
    with tqdm(nets, desc="networks", unit="net") as progress:
        for name in progress:
            progress.set_postfix_str(name)
            parameters = {"net": name, "sizes": sizes}
            rows += options.cache.measured(
                parameters, lambda name=name: compared(name, sizes, options, memory=True)
            )
    return rows, {}


def table(rows: list[dict]) -> str:
    """The Markdown tables: totals of every net, then each net's layers."""
    lines = ["### Totals", "", *_totals(rows), "", MARKS]
    for name, size in dict.fromkeys((row["net"], row["labelled"]) for row in rows):
        chosen = [row for row in rows if (row["net"], row["labelled"]) == (name, size)]
        first = chosen[0]
        lines += ["", f"### {name}, {size} x {size} labelled pixels", ""]
        lines += [
            f"Scanning: {first['timed_pixels']} pixels timed, {first['batch']} patches a batch "
            "(the fastest batch size).",
            "",
        ]
        lines += _layers(chosen)
    return "\n".join(lines)


def _totals(rows):
    """A line for each net, size and direction."""
    totals = totals_of(rows)
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
        quick, slow = (1e3 * dense[f"seconds{q}"] for q in ("_p20", "_p80"))
        device = dense["device_seconds"]
        cells = [
            net,
            f"{size} x {size}",
            direction,
            f"{1e3 * scanning['seconds']:.4g}{mark(scanning)}",
            f"{1e3 * dense['seconds']:.4g}{mark(dense)} ({quick:.4g} to {slow:.4g})",
            "" if device is None else f"{1e3 * device:.4g}",
            f"{middle:.3g}{mark(scanning)} ({low:.3g} to {high:.3g})",
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
        cells = [layer, direction, f"{1e3 * scanning['seconds']:.4g}{mark(scanning)}"]
        if dense is None:
            cells += [""] * 5
        else:
            done, ours = scanning["multiply_adds"], dense["multiply_adds"]
            cells += [f"{1e3 * dense['seconds']:.4g}{mark(dense)}"]
            cells += [f"{dense['speedup']:.3g}{mark(scanning)}"]
            cells += [f"{done / ours:.3g} x", f"{done:.3g}", f"{ours:.3g}"] if ours else [""] * 3
        yield f"| {' | '.join(cells)} |"


def _megabytes(size):
    return "" if size is None else f"{size / 1e6:.3g}"


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
        "own, beyond what the process held before."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Speedup of every net and size, forward and backward, beside the ratio of multiply-adds."""
    totals = totals_of(rows)
    nets, sizes = (list(dict.fromkeys(key[i] for key in totals)) for i in (0, 1))
    drawing = Figure(figsize=(2 + 1.5 * len(nets), 4.4), layout="constrained")
    axes = drawing.subplots()
    width = 0.8 / (len(DIRECTIONS) * len(sizes))
    x = np.arange(len(nets))
    for i, (direction, color) in enumerate(zip(DIRECTIONS, COLORS)):
        for j, (size, shade) in enumerate(zip(sizes, SHADES)):
            place = x - 0.4 + (i * len(sizes) + j + 0.5) * width
            chosen = [totals[net, size, direction, "dense"] for net in nets]
            speedup = [row["speedup"] for row in chosen]
            errors = [
                [s - row["speedup_p20"] for s, row in zip(speedup, chosen)],
                [row["speedup_p80"] - s for s, row in zip(speedup, chosen)],
            ]
            axes.bar(
                *(place, speedup, 0.9 * width),
                yerr=np.maximum(errors, 0),
                error_kw={"lw": 0.8, "ecolor": "#555555"},
                color=color,
                alpha=shade,
                label=f"{direction}, {size} x {size}",
            )
            ratio = [arithmetic(totals, net, size, direction) for net in nets]
            label = "multiply-adds saved" if i == j == 0 else None
            ends = place - width / 2, place + width / 2
            axes.hlines(ratio, *ends, color="black", lw=1.5, label=label)
    axes.axhline(CLAIMED_SPEEDUP, color="#cc79a7", ls="--", label="the paper's claim: over 1500")
    axes.set_yscale("log")
    axes.set_ylim(1, 6000)
    axes.set_xticks(x, nets)
    axes.set_xlabel("network")
    axes.set_ylabel("speedup over patch-by-patch (times)")
    axes.set_title(f"Every pixel in one pass: {record['gpu'] or record['cpu']}")
    axes.legend(fontsize=7, ncols=2, loc="upper left")
    return drawing
