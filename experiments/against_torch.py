"""Against PyTorch: time and memory of the same work on the host, dense and patch by patch.

PyTorch runs in both of its memory formats, and through ``torch.compile`` where that works.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.measuring import torch_layers
from experiments.measuring.beside_torch import (
    BUSY,
    FORMS,
    LONGEST,
    OURS,
    PASSES,
    THREADS,
    dense,
    scanning,
    sizes,
    threads,
)
from experiments.measuring.compare import BATCHES, BATCHES_ON_GPU
from experiments.measuring.peak import PEAK
from experiments.measuring.timing import ROUNDS, mark
from experiments.reporting.bars import ratio_bars
from experiments.reporting.numbers import short
from net.zoo import ZOO

TIMED = True
QUICK_NETS = ("lenet28", "strided67")
COLUMNS = {
    **dict.fromkeys(("net", "form", "pass", "way"), str),
    **{"labelled": int | None, "batch": int | None, "repeats": int},
    **dict.fromkeys(("seconds", "seconds_p20", "seconds_p80"), float),
    **dict.fromkeys(("ratio", "ratio_p20", "ratio_p80"), float),
    **PEAK,
}
COLORS = ("#0072b2", "#e69f00", "#009e73")
TARGETS = {
    ("dense", "forward"): {"contiguous": (2.0, None), "best": (1.0, "1.25")},
    ("dense", "forward + backward"): {
        "contiguous": (2.2, None),
        "best": (1.15, "1.4, with AVX2 1.8"),
    },
    ("patch by patch", "forward"): {"best": (1.0, None)},
    ("patch by patch", "forward + backward"): {"best": (1.0, None)},
}
"""The speed that we aim at, over PyTorch's: (at least on every net, in the geometric mean)."""
MEMORY_TARGET = 0.75
"""Largest share of the peak memory of PyTorch's better format, on every net."""
SCALING_TARGET = 1.8
"""Speed on two threads over that on one, forward + backward."""


def unavailable(backend: str) -> str | None:
    """Why this experiment cannot run here, as a sentence; None if it can."""
    return torch_layers.why_unavailable(backend)


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, form, size, pass and method (column ``way``); no arrays.

    Raises:
        NotEqual: PyTorch gives other scores on the arrays that are timed.
    """
    nets = options.nets or (QUICK_NETS if options.quick else ZOO)
    jobs = [(net, "dense", size) for net in nets for size in sizes(net, options)]
    jobs += [(net, form, 0) for net in nets for form in ("patch by patch", THREADS)]
    jobs.sort(key=lambda job: list(nets).index(job[0]))
    rows = []
    with tqdm(jobs, desc="against PyTorch", unit="comparison") as progress:
        for name, form, size in progress:
            progress.set_postfix_str(f"{name}, {form} {size or ''}")
            parameters = {"net": name, "form": form, "size": size}
            measure = {"dense": dense, THREADS: threads}.get(form, scanning)
            rows += options.cache.measured(
                parameters,
                lambda measure=measure, name=name, size=size: measure(name, size, options),
            )
    return rows, {}


def _opponents_of(rows, net, form, size, p):
    """PyTorch's rows in one comparison: {"contiguous": NCHW, "best": the fastest of all}; none
    where that pass was not compared."""
    place = {"net": net, "form": form, "labelled": size, "pass": p}
    theirs = [r for r in rows if r["way"] != OURS and place.items() <= r.items()]
    if not theirs:
        return {}
    contiguous = next(r for r in theirs if r["way"] == "PyTorch contiguous")
    return {"contiguous": contiguous, "best": min(theirs, key=lambda r: r["seconds"])}


def verdicts(rows: list[dict]) -> list[str]:
    """A sentence on each target: what was reached, and which nets miss it."""
    said = []
    for (form, p), targets in TARGETS.items():
        for opponent, (each, mean) in targets.items():
            ratios = _ratios(rows, form, p, opponent)
            missed = [f"{place} {r:.2f}" for place, r in ratios.items() if r < each]
            text = f"{form}, {p}, against {opponent}: geometric mean {_mean(ratios):.2f}"
            text += f" (aim {mean})" if mean else ""
            text += f"; at least {each} on every net" if not missed else f"; below {each} on "
            said.append(text + ", ".join(missed))
    shares = {f"{net} {size}": share for (net, size), share in _memory_shares(rows).items()}
    over = [f"{place} {share:.2f}" for place, share in shares.items() if share > MEMORY_TARGET]
    if shares:
        text = f"peak memory, forward + backward: at most {max(shares.values()):.2f} of PyTorch's"
        said.append(text + (f"; above {MEMORY_TARGET} on {', '.join(over)}" if over else ""))
    return said + _scaling(rows)


def _ratios(rows, form, p, opponent):
    """PyTorch's time over ours by net and size."""
    ratios = {}
    for row in rows:
        if (row["form"], row["pass"], row["way"]) == (form, p, OURS):
            net, size = row["net"], row["labelled"]
            theirs = _opponents_of(rows, net, form, size, p)[opponent]
            ratios[f"{net} {size or ''}".strip()] = theirs["ratio"]
    return ratios


def _mean(ratios):
    return float(np.exp(np.mean(np.log(list(ratios.values())))))


def _memory_shares(rows):
    """Our peak memory over that of PyTorch's better format, forward + backward, by net and size."""
    peaks = {}
    for row in rows:
        if row["peak_bytes"] and row["pass"] == PASSES[1]:
            peaks.setdefault((row["net"], row["labelled"]), {})[row["way"]] = row["peak_bytes"]
    return {place: by_way.pop(OURS) / min(by_way.values()) for place, by_way in peaks.items()}


def _scaling(rows):
    ratios = {way: {} for way in ("1 thread", BUSY)}
    for row in rows:
        if row["form"] == THREADS and row["way"] in ratios:
            ratios[row["way"]][row["net"]] = row["ratio"]
    single, beside = ratios.values()
    if not single:
        return []
    slow = [f"{net} {ratio:.2f}" for net, ratio in single.items() if ratio < SCALING_TARGET]
    text = f"all threads against one: {min(single.values()):.2f} to {max(single.values()):.2f} "
    text += f"times as fast (aim {SCALING_TARGET})" + (f"; below on {', '.join(slow)}" * bool(slow))
    slowest = max(beside.values())
    return [text, f"beside a busy process on one core: at most {slowest:.2f} times as long"]


def table(rows: list[dict]) -> str:
    """The targets' verdicts and the Markdown table."""
    lines = [f"* {sentence}." for sentence in verdicts(rows)]
    lines += ["", "PyTorch's time over ours:", "", *_by_net(rows)]
    lines += [
        "",
        "| net | form | labelled pixels | pass | method | batch | ms (p20 to p80) "
        "| times as long as ours on all threads (p20 to p80) | peak MB |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        marks, peak = mark(row), row["peak_bytes"]
        low, high = (short(1e3 * row[f"seconds_{q}"], 4) for q in ("p20", "p80"))
        ratio = [row[f"ratio{q}"] for q in ("", "_p20", "_p80")]
        size = f"{row['labelled']} x {row['labelled']}" if row["labelled"] else "one patch"
        cells = [row["net"], row["form"], size, row["pass"], row["way"], str(row["batch"] or "")]
        cells += [
            f"{short(1e3 * row['seconds'], 4)}{marks} ({low} to {high})",
            "{:.3g} ({:.3g} to {:.3g})".format(*ratio),
            "" if peak is None else short(peak / 1e6),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    few = f"`†`: fewer than {ROUNDS} rounds fitted into {LONGEST:.0f} seconds."
    return "\n".join([*lines, "", few])


def summary(rows: list[dict]) -> str:
    """What became of it, in two sentences or, where memory was measured, three."""
    sentences = []
    for form in FORMS:
        parts = []
        for p in PASSES:
            ratios = _ratios(rows, form, p, "best")
            low, high = min(ratios.values()), max(ratios.values())
            parts.append(f"{_mean(ratios):.2f} times as long {p} ({low:.2f} to {high:.2f})")
        sentences.append(f"{form.capitalize()}, PyTorch's best method takes {' and '.join(parts)}.")
    shares = _memory_shares(rows).values()
    if shares:
        low, high = min(shares), max(shares)
        text = f"Our peak memory, forward + backward, is {low:.0%} to {high:.0%} of PyTorch's."
        sentences.append(text)
    return " ".join(sentences)


def _by_net(rows):
    """The lines of a Markdown table of PyTorch's time over ours, one for each net and size."""
    lines = [
        "| net | labelled pixels | forward: NCHW | forward: best | forward + backward: NCHW "
        "| forward + backward: best | our share of PyTorch's peak memory |",
        "|---" * 7 + "|",
    ]
    shares = _memory_shares(rows)
    places = dict.fromkeys((r["net"], r["form"], r["labelled"]) for r in rows)
    for net, form, size in places:
        if form not in FORMS:
            continue
        cells = [net, f"{size} x {size}" if size else "one by one, as patches"]
        for p in PASSES:
            theirs = _opponents_of(rows, net, form, size, p).values()
            marks = "†" if any(r["repeats"] < ROUNDS for r in theirs) else ""
            cells += [f"{r['ratio']:.2f}{marks}" for r in theirs] or ["", ""]
        share = shares.get((net, size))
        cells.append(f"{share:.0%}" if share else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "The same work by this project and by PyTorch, on the same machine with the same number "
        "of threads: times of the dense form and of scanning, and peak memory. Above 1 in the "
        "figure, which shows each net at its largest size, this project is the faster one.\n\n"
        "Same weights, same arrays; scores are compared first. Interleaved rounds in one process, "
        "medians and ratios within each round. PyTorch runs `conv2d(dilation=d)` and "
        "`max_pool2d(stride=1, dilation=d)`, contiguous (NCHW) and channels_last, the dense form "
        "also compiled where that runs; its activations work in place. Patch by patch, both sides "
        f"run batches of {', '.join(map(str, BATCHES))} patches, on a GPU of up to "
        f"{max(BATCHES_ON_GPU)} where memory allows, and count with their best. Peak "
        "memory is that of a process of its own, beyond what it held before the pass. The rows by "
        "threads are this project alone; a fair scheduler gives two threads beside one busy "
        "process two thirds of two cores: 1.5 times as long. With AVX2, sizes beyond a net's "
        "smallest run forward alone: there PyTorch's pass backward in NCHW takes minutes."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """PyTorch's time over ours for every net, in both of its formats and compiled."""
    drawing = Figure(figsize=(13, 7.5), layout="constrained")
    panels = drawing.subplots(2, 2, sharey="row").ravel()
    for axes, (form, p) in zip(panels, product(FORMS, PASSES)):
        chosen = [r for r in rows if (r["form"], r["pass"]) == (form, p) and r["way"] != OURS]
        ratios = {}
        for row in chosen:  # of a net, the largest size is the last
            ratios.setdefault(row["way"], {})[row["net"]] = row["ratio"]
        ratio_bars(axes, ratios, COLORS)
        axes.set_title(f"{form}, {p}", fontsize=10)
        axes.set_ylabel("PyTorch's time over ours (times)", fontsize=8)
    named = panels[0].get_legend_handles_labels()
    drawing.legend(*named, loc="outside lower center", ncols=len(COLORS), fontsize=9)
    machine = record["gpu"] or record["cpu"]
    drawing.suptitle(f"Against PyTorch; above 1 this project is faster: {machine}")
    return drawing
