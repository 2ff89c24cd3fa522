"""Methods: the dense form against other exact methods, forward and backward, at every pixel.

The others are max-pooling fragments and zero-filled kernels, on the same operators, and PyTorch's
own dilated layers, in both memory formats. All are timed from host arrays to host arrays.
"""

from __future__ import annotations

from functools import partial
from math import prod

from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.inputs.nets import QUICK, affordable, built, prepared
from experiments.measuring import runners
from experiments.measuring.compare import Workload
from experiments.measuring.exactness import NotEqual, relative_difference
from experiments.measuring.peak import PASSES, PEAK, peak_memory
from experiments.measuring.timing import (
    FEWEST,
    LONGEST,
    MARKS,
    QUICKLY,
    TIMES,
    interleaved,
    mark,
    spread,
    spread_of_times,
    timed,
)
from experiments.reporting.bars import ratio_bars
from experiments.reporting.numbers import short
from net import Scan
from net.conversion import dense_window
from net.zoo import ZOO

TIMED = True
SIZE, QUICK_SIZE, SMALL = 128, 16, 32
"""Labelled rows and columns; ``SMALL`` for zero-filled kernels, where a pass takes minutes."""
MOST_WEIGHTS = 10**8
"""Of a zero-filled kernel: of ten times as many, float64 weights, their packed copy and gradients
take more memory than many machines have."""
OTHERS = (runners.FRAGMENTS, *runners.TORCH, runners.ZERO_FILLED)
CHECKED = 48
LIMITS = {"scores": 1e-4, "gradients": 5e-2}
"""Largest relative differences of PyTorch's float32 results. Where two cells of a window, or a
ReLU's input and 0, tie within rounding, two methods may propagate an error to different cells: so
the limit of the gradients is wide, and ``EXACT`` bounds them in float64. Scores of our own
operators are the same bits."""
EXACT, EXACT_SIZE = 1e-9, 6
"""Largest relative difference in float64, on an image of so many labelled rows and columns."""
COLORS = ("#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7")


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, method (column ``way``) and pass; no arrays.

    Raises:
        NotEqual: a method gives other results on the arrays that are timed.
    """
    nets = options.nets or (QUICK if options.quick else ZOO)
    jobs = [(name, other) for name in nets for other in OTHERS]
    rows = []
    with tqdm(jobs, desc="methods", unit="method") as progress:
        for name, other in progress:
            progress.set_postfix_str(f"{name}, {other}")
            size = QUICK_SIZE if options.quick else _size(name, other, options.backend)
            skipped = _why_skipped(name, other, options.backend)
            case = (name, other, size, skipped)
            rows += options.cache.measured(
                dict(zip(("net", "way", "size", "skipped"), case)),
                lambda case=case: _measured(*case, options),
            )
    return rows, {}


def _size(name, other, backend):
    (size,) = affordable(name, (SIZE,), backend)
    return min(size, SMALL) if other == runners.ZERO_FILLED else size


def _why_skipped(name, other, backend):
    """Why a method is left out, as a sentence; None if it is not."""
    if other != runners.ZERO_FILLED:
        return runners.why_unavailable(other, backend)
    largest = max(
        node.output.channels * node.sources[0].channels * prod(window.footprint)
        for node in built(name, backend=backend).nodes.values()
        if node.layer.has_weights
        for window in [dense_window(node.window, node.sources[0].spacing)]
    )
    if largest <= MOST_WEIGHTS:
        return None
    return f"its largest kernel would have {largest:,} weights, more than {MOST_WEIGHTS:,}"


def _measured(name, other, size, skipped, options):
    """The rows of another method, timed in the same rounds as the dense form; empty ones where it
    is ``skipped``, for the reason that this says."""
    row = {"net": name, "labelled": size, "way": other}
    if skipped:
        empty = dict.fromkeys(_MEASURED)
        return [row | {"pass": p, "skipped": skipped} | empty for p in PASSES]
    net = prepared(name, seed=options.seed, backend=options.backend)
    workload = Workload(net, size, options.seed)
    workload.check_equal()
    runs = {"dense": runners.runner(runners.DENSE, net), "other": runners.runner(other, net)}
    exactness = _exactness(workload, runs, other)
    calls = {
        "forward": lambda runner: runner.forward(workload.image),
        "forward + backward": lambda runner: runner.gradients(workload.image, workload.error),
    }

    def clocked(call, runner):
        return timed(net.backend, partial(call, runner), again=partial(call, runner))[1]

    jobs = {
        (key, p): partial(clocked, call, runner)
        for p, call in calls.items()
        for key, runner in runs.items()
    }
    rounds = interleaved(jobs, QUICKLY if options.quick else LONGEST, min_rounds=FEWEST)
    job = {"net": name, "backend": options.backend, "seed": options.seed, "labelled": size}
    peaks = peak_memory(job | {"runner": other})
    dense_peaks = options.cache.measured(job, lambda: peak_memory(job | {"runner": runners.DENSE}))
    rows = []
    for p in PASSES:
        ratios = [o[0] / d[0] for o, d in zip(rounds["other", p], rounds["dense", p])]
        dense = spread_of_times(rounds["dense", p])
        rows.append(
            row
            | {"pass": p, "skipped": None}
            | spread_of_times(rounds["other", p])
            | {f"dense_{key}": dense[key] for key in ("seconds", "device_seconds")}
            | spread(ratios, "ratio")
            | peaks[p]
            | {"dense_peak_bytes": dense_peaks[p]["peak_bytes"]}
            | exactness
        )
    return rows


_MEASURED = {
    **TIMES,
    **dict.fromkeys(("dense_seconds", "dense_device_seconds"), float),
    **dict.fromkeys(("ratio", "ratio_p20", "ratio_p80"), float),
    **{**PEAK, "dense_peak_bytes": int},
    **dict.fromkeys(("scores_equal_bits", "scores_difference", "gradients_difference"), float),
    "float64_difference": float,
}
COLUMNS = {
    **{"net": str, "labelled": int, "way": str, "pass": str, "skipped": str | None},
    **{name: kind | None for name, kind in _MEASURED.items()},
}
"""What was measured is empty where a method was skipped."""


def _exactness(workload, runs, other):
    """Compare scores with scanning, gradients with the dense form, and both again in float64."""
    pixels = workload.pixels(CHECKED)
    scores = runs["other"].forward(workload.image)[:, pixels[:, 0], pixels[:, 1]].T
    by_patch = Scan(workload.net).forward(workload.image, pixels)
    exactness = {
        "scores_equal_bits": float((scores == by_patch).mean()),
        "scores_difference": relative_difference(scores, by_patch),
        "gradients_difference": _gradients_difference(workload, runs["other"], runs["dense"]),
        "float64_difference": None,
    }
    fine = Workload(workload.net.to(dtype="float64"), EXACT_SIZE, seed=1)
    exact, oracle = runners.runner(other, fine.net), runners.runner(runners.DENSE, fine.net)
    scores = relative_difference(exact.forward(fine.image), oracle.forward(fine.image))
    exactness["float64_difference"] = max(scores, _gradients_difference(fine, exact, oracle))
    limits = {f"{what}_difference": limit for what, limit in LIMITS.items()}
    for what, limit in (limits | {"float64_difference": EXACT}).items():
        if not exactness[what] <= limit:
            raise NotEqual(
                f"{other}: {what} is {exactness[what]:.1e}; expected at most {limit:.0e}"
            )
    if other not in runners.TORCH and exactness["scores_equal_bits"] < 1:
        raise NotEqual(f"{other}: scores are not the same bits as patch by patch")
    return exactness


def _gradients_difference(workload, runner, oracle):
    gradients, expected = (w.gradients(workload.image, workload.error) for w in (runner, oracle))
    return max(relative_difference(gradients[name], expected[name]) for name in expected)


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    lines = [
        "| net | labelled pixels | method | pass | ms (p20 to p80) | dense form ms "
        "| times as long as the dense form (p20 to p80) | peak MB | dense form peak MB "
        "| scores the same bits as patch by patch | largest difference: scores | gradients "
        "| in float64 |",
        "|---" * 13 + "|",
    ]
    for row in rows:
        cells = [row["net"], f"{row['labelled']} x {row['labelled']}", row["way"], row["pass"]]
        if row["skipped"]:
            cells += [f"skipped: {row['skipped']}", *[""] * 8]
        else:
            low, high = (short(1e3 * row[f"seconds_{q}"], 4) for q in ("p20", "p80"))
            ratio = [row[f"ratio{q}"] for q in ("", "_p20", "_p80")]
            peaks = [row["peak_bytes"], row["dense_peak_bytes"]]
            cells += [
                f"{short(1e3 * row['seconds'], 4)}{mark(row)} ({low} to {high})",
                f"{short(1e3 * row['dense_seconds'], 4)}{mark(row)}",
                "{:.3g} ({:.3g} to {:.3g})".format(*ratio),
                *("" if peak is None else short(peak / 1e6) for peak in peaks),
                f"{100 * row['scores_equal_bits']:.3g}%",
                f"{row['scores_difference']:.1e}",
                f"{row['gradients_difference']:.1e}",
                f"{row['float64_difference']:.1e}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", MARKS])


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "Time, memory and exactness of other exact methods of labelling every pixel, each beside "
        "the dense form: max-pooling fragments, PyTorch's own dilated layers and zero-filled "
        "kernels. Above 1 in the figure, the dense form is the faster one.\n\n"
        "Fragments (Giusti et al. 2013, arXiv:1302.1700; Masci et al. 2013, arXiv:1302.1690) and "
        "zero-filled kernels (the naive dense form) run on the same operators; PyTorch runs "
        "`conv2d(dilation=d)` and `max_pool2d(stride=1, dilation=d)` with the same weights, in "
        "both memory formats. From "
        "host arrays to host arrays, interleaved with the dense form; medians. All are compared "
        "on the timed arrays, and in float64, before they are timed. float32 gradients may differ "
        "by more than rounding where two cells of a window, or a ReLU's input and 0, tie within "
        "rounding. Zero-filled kernels run on a smaller image: at the size of the others a single "
        "pass takes minutes. Peak memory in a process of its own, beyond what it held before."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure | None:
    """Each method's time over that of the dense form, for both passes; None if all were skipped."""
    measured = [row for row in rows if not row["skipped"]]
    if not measured:
        return None
    drawing = Figure(figsize=(13, 5), layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    for axes, p in zip(panels, PASSES):
        ratios = {}
        for row in measured:
            if row["pass"] == p:
                ratios.setdefault(row["way"], {})[row["net"]] = row["ratio"]
        ratio_bars(axes, ratios, COLORS)
        axes.set_title(p, fontsize=10)
    panels[0].set_ylabel("time over that of the dense form (times)")
    drawing.suptitle(f"Other exact methods: {record['gpu'] or record['cpu']}")
    named = panels[0].get_legend_handles_labels()
    drawing.legend(*named, loc="outside lower center", ncols=len(COLORS), fontsize=8)
    return drawing
