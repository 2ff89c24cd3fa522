"""Networks: dense against patch-by-patch, layer by layer, forward and backward.

Scanning runs on a random sample of pixels, is scaled to all of them and marked as extrapolated; its
batch size is the fastest of ``BATCHES``. Rounds of both forms alternate in one process. The tables
show medians over the rounds (table 1 of the method).
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.nets import prepared, relative_difference
from experiments.photographs import astronaut
from net import Dense, Scan
from net.graph import IMAGE
from net.summary import multiply_adds

TIMED = True
NETS = ("lenet28", "featurenet31", "n4", "plain133")
SIZES, QUICK_SIZES = (128, 256), (16,)
BATCHES, QUICK_BATCHES = (16, 64, 256), (16,)
SAMPLE, QUICK_SAMPLE = 2000, 16
"""Pixels that scanning times at least, unless ``LONGEST`` seconds of work come first."""
ENOUGH, LONGEST = 5.0, 20.0
"""Seconds of work after which a sample of ``SAMPLE`` pixels ends, and after which any does."""
ROUNDS = 5
DIRECTIONS = ("forward", "backward")
TOTAL = "total"


class NotEqual(AssertionError):
    """The forms disagree on the very arrays that are timed: nothing is stored."""


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, size, form, direction and layer; no arrays.

    Raises:
        NotEqual: the forms disagree on the arrays that are timed.
    """
    sizes = QUICK_SIZES if options.quick else SIZES
    jobs = [(name, size) for name in options.nets or NETS for size in sizes]
    rows = []
    with tqdm(jobs, desc="networks", unit="net") as progress:
        for name, size in progress:
            progress.set_postfix_str(f"{name} at {size} x {size}")
            net = prepared(name, seed=options.seed, backend=options.backend)
            rows += _measured(name, net, size, options)
    return rows, {}


def _measured(name, net, size, options):
    image = astronaut(net.channels, tuple(size + p - 1 for p in net.patch), net.dtype)
    rng = np.random.default_rng(options.seed)
    order = np.stack(np.unravel_index(rng.permutation(size * size), (size, size)), axis=1)
    error = rng.standard_normal((net.output.channels, size, size)).astype(net.dtype)
    _check_equal(net, image, order[:64])

    def dense():
        return dense_round(Dense(net), image, error)

    def scan(pixels, batch):
        return scan_round(Scan(net, batch=batch), image, error, pixels)

    dense()
    batch, rate = _fastest_batch(scan, order, QUICK_BATCHES if options.quick else BATCHES)
    least = QUICK_SAMPLE if options.quick else SAMPLE
    number = min(max(least, ENOUGH * rate), LONGEST * rate) / (ROUNDS * batch)
    number = min(len(order), max(1, round(number)) * ROUNDS * batch)
    seconds = {"scanning": [], "dense": []}
    for pixels in np.array_split(order[:number], ROUNDS):
        seconds["dense"].append(dense())
        per_pixel = {key: s / len(pixels) for key, s in scan(pixels, batch).items()}
        seconds["scanning"].append({key: s * len(order) for key, s in per_pixel.items()})
    common = {"net": name, "labelled": size, "timed_pixels": number, "batch": batch}
    counts = _multiply_adds(net, size)
    return [
        common
        | {"form": form, "direction": direction, "layer": layer}
        | {"extrapolated": form == "scanning" and number < len(order)}
        | {"multiply_adds": counts[direction, layer][form]}
        | _spread([times[direction, layer] for times in rounds])
        for form, rounds in seconds.items()
        for direction, layer in rounds[0]
    ]


def _check_equal(net, image, pixels):
    scores = Dense(net).forward(image)[:, pixels[:, 0], pixels[:, 1]].T
    difference = relative_difference(scores, Scan(net).forward(image, pixels))
    if not difference <= 1e-5:
        raise NotEqual(f"dense and patch-by-patch scores differ by {difference:.1e}")


def dense_round(dense, image, error, mask=None):
    """Seconds by (direction, layer) of one pass over the whole image, masked if asked for."""
    ops = dense.net.backend
    x, error = dense.enter(image), ops.memory.to_device(error[None])
    if mask is not None:
        error = ops.masking.apply(error, ops.memory.to_device(mask[None]))
    seconds = _Seconds()
    _, tape = dense.program.forward(x, keep=True, clock=seconds.clock("forward"))
    dense.program.backward(tape, error, clock=seconds.clock("backward"))
    return seconds.with_totals()


def scan_round(scan, image, error, pixels):
    """Seconds by (direction, layer) of scanning ``pixels``, batch by batch."""
    memory = scan.net.backend.memory
    x = memory.to_device(image[None])
    seconds = _Seconds()
    for first in range(0, len(pixels), scan.batch):
        part = pixels[first : first + scan.batch]
        vectors = memory.to_device(error[:, part[:, 0], part[:, 1]].T[:, :, None, None])
        started = time.perf_counter()
        patches = scan.patches(x, part)
        memory.synchronize()
        seconds.times["forward", "cutting patches"] += time.perf_counter() - started
        _, tape = scan.program.forward(patches, keep=True, clock=seconds.clock("forward"))
        scan.program.backward(tape, vectors, clock=seconds.clock("backward"))
    return seconds.with_totals()


class _Seconds:
    """Sums the seconds of each (direction, layer)."""

    def __init__(self):
        self.times = Counter()

    def clock(self, direction):
        """A clock for ``Program.forward`` and ``Program.backward``."""

        def tick(step, seconds):
            self.times[direction, _layer(step)] += seconds

        return tick

    def with_totals(self):
        """The sums, and the total of each direction."""
        totals = Counter()
        for (direction, _), seconds in self.times.items():
            totals[direction, TOTAL] += seconds
        return {**self.times, **totals}


def _fastest_batch(scan, order, batches):
    """The batch size with the most pixels a second, and that number."""
    rates = {}
    for batch in batches:
        pixels = order[:batch]
        scan(pixels, batch)
        seconds = scan(pixels, batch)
        rates[batch] = len(pixels) / sum(seconds[d, TOTAL] for d in DIRECTIONS)
    return max(rates.items(), key=lambda item: item[1])


def _multiply_adds(net, size):
    """Multiply-adds of both forms by (direction, layer).

    Backward, a layer takes its forward count for the gradient by its weights, and once more for the
    gradient by its input, which the image does not need.
    """
    counts = {("forward", "cutting patches"): {"scanning": 0, "dense": 0}}
    totals = {(d, TOTAL): Counter() for d in DIRECTIONS}
    for step in Dense(net).program.steps:
        scanning, dense = multiply_adds(net, step.node, (size, size))
        for direction in DIRECTIONS:
            times = 1 if direction == "forward" or step.inputs == (IMAGE,) else 2
            both = {"scanning": times * scanning, "dense": times * dense}
            counts[direction, _layer(step)] = both
            totals[direction, TOTAL].update(both)
    return counts | totals


def _layer(step):
    return " + ".join(step.layers)


def _spread(seconds):
    low, median, high = np.quantile(seconds, (0.2, 0.5, 0.8))
    return {"seconds": median, "p20": low, "p80": high, "rounds": len(seconds)}


def table(rows: list[dict]) -> str:
    """The Markdown tables: totals of every net, then each net's layers."""
    parts = ["### Totals", "", *_HEADER, *_lines(rows, lambda row: row["layer"] == TOTAL)]
    for name, size in dict.fromkeys((row["net"], row["labelled"]) for row in rows):
        own = [row for row in rows if (row["net"], row["labelled"]) == (name, size)]
        sample = own[0]["timed_pixels"]
        parts += ["", f"### {name}, {size} x {size} labelled pixels", ""]
        parts += [f"Scanning: {sample} pixels timed, {own[0]['batch']} patches a batch.", ""]
        parts += [*_HEADER, *_lines(own, lambda row: True)]
    return "\n".join(parts)


_HEADER = (
    "| net | pixels | layer | direction | patch-by-patch ms | dense ms | speedup "
    "| multiply-adds ratio |",
    "|---|---|---|---|---|---|---|---|",
)


def _lines(rows, wanted):
    """A line for each layer and direction; ``*`` marks an extrapolated time."""
    pairs = {}
    for row in filter(wanted, rows):
        key = row["net"], row["labelled"], row["layer"], row["direction"]
        pairs.setdefault(key, {})[row["form"]] = row
    for (net, size, layer, direction), forms in pairs.items():
        scanning = forms["scanning"]
        mark = "*" if scanning["extrapolated"] else ""
        cells = [
            net,
            f"{size} x {size}",
            layer,
            direction,
            f"{1e3 * scanning['seconds']:.4g}{mark}",
        ]
        if "dense" in forms:
            dense = forms["dense"]
            cells += [f"{1e3 * dense['seconds']:.4g}"]
            cells += [f"{scanning['seconds'] / dense['seconds']:.3g}{mark}"]
            done = dense["multiply_adds"]
            cells += [f"{scanning['multiply_adds'] / done:.3g}" if done else ""]
        else:
            cells += ["", "", ""]
        yield f"| {' | '.join(cells)} |"


def caption(record: dict) -> str:
    """What the tables show."""
    return (
        "Milliseconds to label every pixel (forward) and to get the gradients of all parameters "
        "(backward, after forward), patch by patch and in the dense form, same backend, same "
        "operators, float32. Medians of alternating rounds. `*`: extrapolated from the timed "
        "sample of pixels to all of them. Multiply-adds ratio: what arithmetic alone would save; "
        'a larger speedup is efficiency. The paper\'s abstract claims "over 1500 times", on its '
        "own nets and GPU."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Speedup of every net, forward and backward, beside the ratio of multiply-adds."""
    totals = {
        (r["net"], r["labelled"], r["direction"], r["form"]): r for r in rows if r["layer"] == TOTAL
    }
    cases = list(dict.fromkeys((net, size) for net, size, _, _ in totals))
    drawing = Figure(figsize=(1.5 + 1.0 * len(cases), 4.2), layout="constrained")
    axes = drawing.subplots()
    x, highest = np.arange(len(cases)), 1
    for offset, direction, color in ((-0.2, "forward", "#0072b2"), (0.2, "backward", "#e69f00")):
        speedup = [
            totals[*case, direction, "scanning"]["seconds"]
            / totals[*case, direction, "dense"]["seconds"]
            for case in cases
        ]
        highest = max(highest, *speedup)
        bars = axes.bar(x + offset, speedup, 0.4, label=direction, color=color)
        axes.bar_label(bars, [f"{s:.0f}" for s in speedup], fontsize=8)
    ratio = [
        totals[*case, "forward", "scanning"]["multiply_adds"]
        / totals[*case, "forward", "dense"]["multiply_adds"]
        for case in cases
    ]
    axes.hlines(ratio, x - 0.42, x + 0.42, color="black", label="multiply-adds saved (forward)")
    axes.set_yscale("log")
    axes.set_ylim(1, 3 * max(highest, *ratio))
    axes.set_xticks(x, [f"{net}\n{size} x {size}" for net, size in cases], fontsize=8)
    axes.set_ylabel("times faster than patch-by-patch")
    axes.set_title(f"Every pixel in one pass: {record['cpu']}, backend {record['backend']}")
    axes.legend(fontsize=8, loc="upper left")
    return drawing
