"""Sampled pixels: time of one backward pass against the number of pixels that it learns from.

The dense pass masks its error map and costs the same for one pixel as for all; patch by patch the
cost grows with the pixels. The crossing point, below which scanning is the cheaper one, follows
(table 5 of the method). Rounds of both alternate in one process.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.nets import prepared
from experiments.networks import DIRECTIONS, TOTAL, dense_round, scan_round
from experiments.photographs import astronaut
from net import Dense, Scan

TIMED = True
NETS = ("lenet28", "n4")
SIZE, QUICK_SIZE = 128, 16
PIXELS, QUICK_PIXELS = (1, 4, 16, 64, 256, 1024, 4096), (1, 16)
ROUNDS = 5
BATCH = 64
ENOUGH = 4
"""Scanning is not taken to more pixels once it needs this many times as long as the dense pass."""
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, number of pixels, form and direction; no arrays."""
    size = QUICK_SIZE if options.quick else SIZE
    numbers = QUICK_PIXELS if options.quick else PIXELS
    rows = []
    for name in tqdm(options.nets or NETS, desc="sampled", unit="net"):
        net = prepared(name, seed=options.seed, backend=options.backend)
        rows += _measured(name, net, size, numbers, np.random.default_rng(options.seed))
    return rows, {}


def _measured(name, net, size, numbers, rng):
    image = astronaut(net.channels, tuple(size + p - 1 for p in net.patch), net.dtype)
    order = np.stack(np.unravel_index(rng.permutation(size * size), (size, size)), axis=1)
    error = rng.standard_normal((net.output.channels, size, size)).astype(net.dtype)
    dense, scan = Dense(net), Scan(net, batch=BATCH)

    def both(number):
        pixels = order[:number]
        mask = np.zeros((size, size), bool)
        mask[pixels[:, 0], pixels[:, 1]] = True
        return {
            "dense": dense_round(dense, image, error, mask),
            "scanning": scan_round(scan, image, error, pixels),
        }

    worth = []
    for number in numbers:
        worth.append(number)
        scanning, whole = (
            sum(times[d, TOTAL] for d in DIRECTIONS) for times in reversed(both(number).values())
        )
        if scanning > ENOUGH * whole:
            break
    seconds = {}
    for _ in range(ROUNDS):
        for number in worth:
            for form, times in both(number).items():
                for direction in DIRECTIONS:
                    key = number, form, direction
                    seconds.setdefault(key, []).append(times[direction, TOTAL])
    rows = []
    for (number, form, direction), values in seconds.items():
        low, median, high = np.quantile(values, (0.2, 0.5, 0.8))
        row = {"net": name, "labelled": size, "pixels": number, "form": form}
        row |= {"direction": direction, "seconds": median, "p20": low, "p80": high}
        rows.append(row | {"rounds": len(values)})
    return rows


def crossing(rows: list[dict], net: str) -> tuple[float, bool]:
    """Pixels from which a dense backward pass is the faster, and whether that is extrapolated.

    Between two measured numbers the times are joined by a line; beyond the last, scanning is taken
    to grow in proportion.
    """
    own = [r for r in rows if r["net"] == net and r["direction"] == "backward"]
    scanning = [(r["pixels"], r["seconds"]) for r in own if r["form"] == "scanning"]
    flat = float(np.median([r["seconds"] for r in own if r["form"] == "dense"]))
    numbers, times = np.array(sorted(scanning)).T
    if times[0] >= flat:
        return 1.0, False
    for (a, low), (b, high) in zip(zip(numbers, times), zip(numbers[1:], times[1:])):
        if low < flat <= high:
            return float(a + (b - a) * (flat - low) / (high - low)), False
    return float(numbers[-1] * flat / times[-1]), True


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    lines = [
        "| net | pixels | patch-by-patch backward ms | dense backward ms "
        "| patch-by-patch forward + backward ms | dense forward + backward ms |",
        "|---|---|---|---|---|---|",
    ]
    times = {(r["net"], r["pixels"], r["form"], r["direction"]): r["seconds"] for r in rows}
    for net, pixels in dict.fromkeys((r["net"], r["pixels"]) for r in rows):
        forms = [
            {d: 1e3 * times[net, pixels, form, d] for d in DIRECTIONS}
            for form in ("scanning", "dense")
        ]
        backward = " | ".join(f"{form['backward']:.4g}" for form in forms)
        both = " | ".join(f"{sum(form.values()):.4g}" for form in forms)
        lines.append(f"| {net} | {pixels} | {backward} | {both} |")
    lines.append("")
    for net in dict.fromkeys(r["net"] for r in rows):
        number, extrapolated = crossing(rows, net)
        lines.append(
            f"* {net}: scanning's backward pass is the cheaper one below about {number:.0f} pixels"
            + (" (extrapolated beyond the last measurement)." if extrapolated else ".")
        )
    return "\n".join(lines)


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "One backward pass for the gradients of all parameters, learning from n sampled pixels of "
        f"{SIZE} x {SIZE}, patch by patch and in the dense form with a masked error map. The "
        "paper's abstract claims a cost that does not depend on the number of sampled patches."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Backward time against the number of sampled pixels."""
    drawing = Figure(figsize=(6, 4), layout="constrained")
    axes = drawing.subplots()
    for net, color in zip(dict.fromkeys(r["net"] for r in rows), COLORS):
        for form, style in (("scanning", "o--"), ("dense", "s-")):
            own = [r for r in rows if r["net"] == net and r["form"] == form]
            points = sorted((r["pixels"], 1e3 * r["seconds"]) for r in own if _backward(r))
            label = f"{net}, {'patch by patch' if form == 'scanning' else 'dense'}"
            axes.plot(*zip(*points), style, color=color, label=label, markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("sampled pixels of one image")
    axes.set_ylabel("backward pass, ms")
    axes.set_title(f"Learning from sampled pixels: backend {record['backend']}")
    axes.legend(fontsize=8)
    return drawing


def _backward(row):
    return row["direction"] == "backward"
