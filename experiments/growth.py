"""Growth: speedup against the size of the image, and against the size of the patch.

The nets are a family made by one rule (``nets.family``), so that only the patch differs.
"""

from __future__ import annotations

from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.inputs.nets import FAMILY
from experiments.measuring.compare import COLUMNS as COLUMNS
from experiments.measuring.compare import compared
from experiments.measuring.timing import MARKS, mark
from experiments.reporting.derived import (
    CLAIMED_SPEEDUP,
    PACED_BY_HOST,
    arithmetic,
    by_image,
    by_patch,
    mark_of_scanning,
    totals_of,
)
from experiments.reporting.numbers import short

TIMED = True
PATCHES, QUICK_PATCHES = (16, 32, 48, 64, 96, 128, 160), (16, 32)
COMMON, QUICK_COMMON = 256, 16
"""Labelled rows and columns at which all patch sizes are compared."""
SIZES, QUICK_SIZES = (64, 128, 256, 512, 1024), (16, 24)
SWEPT, QUICK_SWEPT = (32, 96, 160), (16,)
"""Patch sizes of the nets that run on images of all sizes."""
COLORS = ("#0072b2", "#e69f00", "#009e73")
STYLES = {"forward": "o-", "backward": "s--"}


def run(options) -> tuple[list[dict], dict]:
    """One row for each patch, size, form and direction (totals of ``compared``); no arrays.

    Raises:
        NotEqual: the forms disagree on the arrays that are timed.
    """
    patches, swept = (QUICK_PATCHES, QUICK_SWEPT) if options.quick else (PATCHES, SWEPT)
    common, sizes = (QUICK_COMMON, QUICK_SIZES) if options.quick else (COMMON, SIZES)
    rows = []
    with tqdm(patches, desc="growth", unit="net") as progress:
        for patch in progress:
            progress.set_postfix_str(f"patch {patch}")
            at = sizes if patch in swept else (common,)
            parameters = {"patch": patch, "sizes": at}
            rows += options.cache.measured(
                parameters, lambda patch=patch, at=at: _measured(patch, at, options)
            )
    return rows, {}


def _measured(patch, sizes, options):
    rows = compared(f"{FAMILY}{patch}", sizes, options, memory=False)
    return [row for row in rows if row["layer"] == "total"]


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    totals = totals_of(rows)
    lines = [
        "| patch | labelled pixels | direction | patch-by-patch ms | dense ms "
        "| speedup (p20 to p80) | of it arithmetic | of it efficiency | batch |",
        "|---" * 9 + "|",
    ]
    for net, size, direction in dict.fromkeys(key[:3] for key in totals):
        scanning, dense = (totals[net, size, direction, f] for f in ("scanning", "dense"))
        ratio = arithmetic(totals, net, size, direction)
        low, middle, high = (dense[f"speedup{q}"] for q in ("_p20", "", "_p80"))
        lines.append(
            f"| {dense['patch']} | {size} x {size} | {direction} "
            f"| {short(1e3 * scanning['seconds'], 4)}{mark_of_scanning(scanning)} "
            f"| {short(1e3 * dense['seconds'], 4)}{mark(dense)} "
            f"| {short(middle)}{mark_of_scanning(scanning)} ({short(low)} to {short(high)}) "
            f"| {ratio:.3g} x | {middle / ratio:.2f} x | {scanning['batch']} |"
        )
    return "\n".join([*lines, "", MARKS + PACED_BY_HOST])


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "Speedup of the dense form over patch-by-patch scanning against the size of the image, and "
        "against the size of the patch, for a family of nets made by one rule. The lines without "
        "markers are the ratios of multiply-adds: what arithmetic alone would give.\n\n"
        "The rule: until at most 8 x 8 cells are left, 24 kernels of 5 x 5 (4 x 4 where the rest "
        "is odd), ReLU, max 2; then fully connected, 64 and 8. Rounds of both forms alternate; "
        "medians. The paper's abstract claims that the speedup grows with both sizes."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Speedup against both sizes, both axes logarithmic."""
    drawing = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    patch_of = {row["net"]: row["patch"] for row in rows}
    for (net, series), color in zip(by_image(rows).items(), COLORS):
        _draw(left, series, color, f"patch {patch_of[net]}, ")
    ((size, series),) = by_patch(rows).items()
    _draw(right, series, "#000000", f"{size} x {size} pixels, ")
    left.set_xlabel("labelled rows and columns (pixels)")
    right.set_xlabel("patch rows and columns (pixels)")
    left.set_ylabel("speedup over patch-by-patch (times)")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    left.set_ylim(top=6 * left.get_ylim()[1])  # room for the text, on both
    _state_best(left, rows)
    for axes in (left, right):
        label = f"the paper's claim: over {CLAIMED_SPEEDUP}" if axes is right else None
        axes.axhline(CLAIMED_SPEEDUP, color="#cc79a7", ls="--", lw=1, label=label)
    drawing.suptitle(f"Growth of the speedup: {record['gpu'] or record['cpu']}")
    handles = [
        line for line in (*left.get_lines(), *right.get_lines()) if line.get_label()[0] != "_"
    ]
    drawing.legend(handles=handles, loc="outside right upper", fontsize=8)
    return drawing


def _state_best(axes, rows):
    """Write the highest speedup beside its point, and what of it is arithmetic."""
    totals = totals_of(rows)
    dense = {key[:3]: row for key, row in totals.items() if key[3] == "dense"}
    best = _, size, direction = max(dense, key=lambda key: dense[key]["speedup"])
    speedup, ratio = dense[best]["speedup"], arithmetic(totals, *best)
    guessed = ", scanning extrapolated" if totals[(*best, "scanning")]["extrapolated"] else ""
    axes.annotate(
        f"best: {short(speedup, 4)} times {direction}, patch {dense[best]['patch']},\n"
        f"{size} x {size} pixels{guessed};\narithmetic alone: {ratio:.3g} times",
        (size, speedup),
        (0.03, 0.97),
        textcoords="axes fraction",
        verticalalignment="top",
        fontsize=9,
        arrowprops={"arrowstyle": "-", "lw": 0.8, "color": "#555555"},
    )


def _draw(axes, series, color, label):
    for direction, points in series.items():
        x, speedup, ratio, _ = zip(*points)
        text = label + direction
        axes.plot(x, speedup, STYLES[direction], color=color, label=text, markersize=4)
        if direction == "forward":
            axes.plot(x, ratio, ":", color=color, lw=2, label=label + "multiply-adds saved")
