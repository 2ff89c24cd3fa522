"""Sampled pixels: time and memory of learning from n pixels, patch by patch and dense.

The dense pass masks its error map and costs the same for one pixel as for all; the cost of scanning
grows with the number of pixels. So there is a crossing point, below which scanning is cheaper.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.inputs.nets import prepared
from experiments.measuring import runners
from experiments.measuring.compare import Workload, dense_pass, fastest_batch, scan_pass
from experiments.measuring.peak import PEAK, peak_memory
from experiments.measuring.timing import MARKS, ROUNDS, TIMES, interleaved, mark, spread_of_times
from experiments.reporting.derived import crossing, steadiness
from net import Dense, Scan
from net.zoo import ZOO

TIMED = True
SIZE, QUICK_SIZE = 128, 16
PIXELS, QUICK_PIXELS = (1, 4, 16, 64, 256, 1024, 4096, 16384), (1, 16, 256)
WORK = 20.0
"""Seconds of scanning in all rounds; what would take longer is extrapolated."""
KINDS = ("backward", "forward + backward")
COLUMNS = {
    **dict.fromkeys(("net", "form", "kind"), str),
    **dict.fromkeys(("labelled", "pixels", "sample", "batch"), int),
    **{"extrapolated": bool, "of_round": float | None, **TIMES, **PEAK},
}
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, number of pixels, form and kind; no arrays.

    Column ``of_round``: a dense pass's time over the mean of all dense passes of the same round.

    Raises:
        NotEqual: the forms disagree on the arrays that are timed.
    """
    size = QUICK_SIZE if options.quick else SIZE
    numbers = QUICK_PIXELS if options.quick else PIXELS
    rows = []
    with tqdm(options.nets or ZOO, desc="sampled", unit="net") as progress:
        for name in progress:
            progress.set_postfix_str(name)
            parameters = {"net": name, "size": size, "numbers": numbers}
            rows += options.cache.measured(
                parameters, lambda name=name: _measured(name, size, numbers, options)
            )
    return rows, {}


def _measured(name, size, numbers, options):
    net = prepared(name, seed=options.seed, backend=options.backend)
    workload = Workload(net, size, options.seed)
    workload.check_equal()
    best, rates = fastest_batch(workload, options.quick)
    most = max(numbers[0], int((0.5 if options.quick else WORK) * rates[best] / ROUNDS))
    timed = [n for n in numbers if n <= most] or [numbers[0]]
    if most > timed[-1] and len(timed) < len(numbers):
        timed.append(most)
    order = workload.pixels(numbers[-1])
    batches = {number: min(best, number) for number in timed}
    jobs = {}
    for number in numbers:
        mask = workload.mask(order[:number])
        jobs["dense", number] = lambda mask=mask: dense_pass(
            Dense(net), workload.image, workload.error, mask
        )
    for number, batch in batches.items():
        pixels, scan = order[:number], Scan(net, batch=batch)
        jobs["scanning", number] = lambda scan=scan, pixels=pixels: scan_pass(
            scan, workload.image, workload.error, pixels
        )
    rounds = interleaved(jobs, 5.0 if options.quick else 60.0 * len(jobs))
    job = {"net": name, "backend": options.backend, "seed": options.seed, "labelled": size}
    whole = peak_memory(job | {"runner": runners.DENSE})[KINDS[1]]
    peaks = {
        batch: peak_memory(job | {"runner": runners.SCANNING, "batch": batch})[KINDS[1]]
        for batch in dict.fromkeys(batches.values())
    }
    rows = []
    for number in numbers:
        sample = number if number in timed else timed[-1]
        common = {"net": name, "labelled": size, "pixels": number}
        scanned = {"form": "scanning", "sample": sample, "batch": batches[sample]}
        scanned |= {"extrapolated": sample != number} | peaks[batches[sample]]
        masked = {"form": "dense", "sample": number, "batch": 1, "extrapolated": False} | whole
        for kind in KINDS:
            scan_times = [_time(taken, kind) for taken in rounds["scanning", sample]]
            times = spread_of_times(scan_times, number / sample)
            rows.append(common | scanned | {"kind": kind} | times | {"of_round": None})
            every = np.array([[_time(t, kind)[0] for t in rounds["dense", n]] for n in numbers])
            of_round = np.median(every[numbers.index(number)] / every.mean(axis=0))
            times = spread_of_times([_time(taken, kind) for taken in rounds["dense", number]])
            rows.append(common | masked | {"kind": kind} | times | {"of_round": of_round})
    return rows


def _time(taken, kind):
    """(wall, device) seconds of one pass."""
    wall, device = zip(*(taken.totals[direction] for direction in kind.split(" + ")))
    return sum(wall), None if None in device else sum(device)


def table(rows: list[dict]) -> str:
    """The Markdown tables."""
    lines = [
        "| net | scanning is the cheaper way below about, backward | forward + backward "
        "| dense backward, slowest over fastest number of pixels |",
        "|---|---|---|---|",
    ]
    for net in dict.fromkeys(r["net"] for r in rows):
        cells = []
        for kind in KINDS:
            number, extrapolated = crossing(rows, net, kind)
            cells.append(f"{number:.0f}{'*' if extrapolated else ''} pixels")
        lines.append(f"| {net} | {' | '.join(cells)} | {steadiness(rows, net):.2f} |")
    lines += ["", _HEADER, "|---" * 10 + "|"]
    times = {(r["net"], r["pixels"], r["form"], r["kind"]): r for r in rows}
    for net, pixels in dict.fromkeys((r["net"], r["pixels"]) for r in rows):
        forms = [[times[net, pixels, f, kind] for f in ("scanning", "dense")] for kind in KINDS]
        cells = [f"{1e3 * r['seconds']:.4g}{mark(r)}" for pair in forms for r in pair]
        peaks = [r["peak_bytes"] for r in forms[0]]
        cells += ["" if peak is None else f"{peak / 1e6:.3g}" for peak in peaks]
        scanning = forms[0][0]
        cells += [str(scanning["sample"] if scanning["extrapolated"] else ""), scanning["batch"]]
        lines.append(f"| {net} | {pixels} | {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", MARKS])


_HEADER = (
    "| net | pixels | patch-by-patch backward ms | dense backward ms "
    "| patch-by-patch forward + backward ms | dense forward + backward ms "
    "| peak MB, patch by patch | peak MB, dense | extrapolated from | batch |"
)


def caption(record: dict) -> str:
    """What the table shows."""
    size = QUICK_SIZE if record["quick"] else SIZE
    return (
        f"Time and memory of learning from n sampled pixels of {size} x {size}, patch by patch and "
        "in the dense form with a masked error map. Below the crossing point patch-by-patch is the "
        "cheaper way to train.\n\n"
        "The gradients of all parameters; backward alone, and with the forward pass that it needs. "
        "Rounds of both alternate; medians. Scanning runs in batches of the fastest size, or all n "
        "at once where n is smaller. Peak memory: of a pass forward and backward (of one batch), "
        "in a process of its own. The paper's abstract claims a cost that does not depend on the "
        "number of sampled patches."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Backward time against the number of sampled pixels."""
    drawing = Figure(figsize=(8, 4.6), layout="constrained")
    axes = drawing.subplots()
    for net, color in zip(dict.fromkeys(r["net"] for r in rows), COLORS):
        for form, style in (("scanning", "o--"), ("dense", "-")):
            chosen = [r for r in rows if (r["net"], r["form"], r["kind"]) == (net, form, KINDS[0])]
            points = sorted((r["pixels"], 1e3 * r["seconds"]) for r in chosen)
            label = f"{net}, {'patch by patch' if form == 'scanning' else 'dense'}"
            axes.plot(*zip(*points), style, color=color, label=label, markersize=4)
    axes.set_xscale("log", base=4)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("sampled pixels of one image (pixels)")
    axes.set_ylabel("backward pass (ms)")
    axes.set_title(f"Learning from sampled pixels: {record['gpu'] or record['cpu']}")
    drawing.legend(loc="outside right upper", fontsize=7)
    return drawing
