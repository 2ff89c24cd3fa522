"""The dense form against patch-by-patch scanning: one net, some image sizes, interleaved rounds.

A patch costs the same in every image. So scanning runs on pixels sampled from the largest image, in
rounds that alternate with the dense passes of all sizes, and its time is scaled to each size.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

from experiments.inputs.arithmetic import DIRECTIONS, times
from experiments.inputs.nets import prepared
from experiments.inputs.photographs import astronaut
from experiments.measuring.exactness import NotEqual, relative_difference
from experiments.measuring.peak import PEAK, peak_memory
from experiments.measuring.timing import (
    FEWEST,
    LONGEST,
    QUICKLY,
    ROUNDS,
    TIMES,
    device_seconds,
    interleaved,
    spread,
    spread_of_times,
    timed,
)
from net import Dense, Net, Scan
from net.summary import multiply_adds

BATCHES, QUICK_BATCHES, BATCHES_ON_GPU = (16, 64, 256), (16,), (16, 64, 256, 1024, 4096, 16384)
"""Patches that run together; on a GPU as many of these as memory allows."""
SAMPLE, LONGEST_SAMPLE, SHORTEST_SAMPLE = 2000, 20.0, 5.0
"""Scanning is timed on at least ``SAMPLE`` pixels, or on as many as take ``LONGEST_SAMPLE``
seconds; and on at least as many as take ``SHORTEST_SAMPLE`` seconds."""
CHECKED = 48
"""Pixels at which both forms are compared before they are timed."""
TOTAL = "total"
COLUMNS = {
    **dict.fromkeys(("net", "form", "direction", "layer"), str),
    **dict.fromkeys(("patch", "labelled", "timed_pixels", "batch", "multiply_adds"), int),
    **{"extrapolated": bool, **TIMES},
    **dict.fromkeys(("speedup", "speedup_p20", "speedup_p80"), float | None),
    **PEAK,
}
"""The columns of ``compared``, and their kinds."""
CUTTING = "cutting patches"


@dataclass
class PassTimes:
    """Times of one pass: (wall, device) seconds by direction, wall seconds by (direction, layer).

    To time layers one by one, a GPU must finish each before the next is launched; there, totals
    come from a second pass, and device seconds from a third one, which is queued as a whole.
    """

    totals: dict = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, (0.0, 0.0)))
    layers: Counter = field(default_factory=Counter)

    def add(self, direction, times):
        """Add (wall, device) seconds; device seconds stay None on the host."""
        wall, device = self.totals[direction]
        known = None not in (device, times[1])
        self.totals[direction] = wall + times[0], device + times[1] if known else None

    def run(self, program, x, error, device: bool):
        """One pass forward and backward; the scores and the gradients.

        Args:
            device: whether to take device seconds, too.
        """
        ops = program.net.backend
        if ops.name == "cuda":
            self.run_layers(program, x, error)
            clocks = (None, None)
        else:
            clocks = (self._clock("forward"), self._clock("backward"))
        (scores, tape), forward = timed(ops, lambda: program.forward(x, keep=True, clock=clocks[0]))
        (gradients, _), back = timed(ops, lambda: program.backward(tape, error, clock=clocks[1]))
        if device:
            on_device = _on_device(program, lambda: x, error, forward[0], back[0])
            forward, back = zip((forward[0], back[0]), on_device)
        self.add("forward", forward)
        self.add("backward", back)
        return scores, gradients

    def run_layers(self, program, x, error):
        """Time the layers alone, of one pass forward and backward."""
        _, tape = program.forward(x, keep=True, clock=self._clock("forward"))
        program.backward(tape, error, clock=self._clock("backward"))

    def _clock(self, direction):
        def tick(step, seconds):
            self.layers[direction, layer_name(step)] += seconds

        return tick


def _on_device(program, entered, error, *walls):
    """Device seconds of a pass forward, with what ``entered`` launches before it, and backward; as
    ``device_seconds``.

    Args:
        entered: makes the program's input.
        walls: seconds that the host takes at most to queue a pass forward, and one backward.
    """
    ops = program.net.backend
    made, forward = device_seconds(ops, lambda: program.forward(entered(), keep=True), walls[0])
    _, backward = device_seconds(ops, lambda: program.backward(made[1], error), walls[1])
    return forward, backward


def dense_pass(dense: Dense, image, error, mask=None) -> PassTimes:
    """Time one pass over the whole image, its error map masked if there is a mask."""
    ops, taken = dense.net.backend, PassTimes()
    x, error = dense.enter(image), ops.memory.to_device(error[None])
    if mask is not None:
        error = ops.masking.apply(error, ops.memory.to_device(mask[None]))
    taken.run(dense.program, x, error, device=True)
    return taken


def scan_pass(scan: Scan, image, error, pixels) -> PassTimes:
    """Time scanning ``pixels``.

    On the host batch by batch. On a GPU that would time the host, which may need longer to launch
    than the device to compute: there, whole scans are queued, and backward is what a scan forward
    and backward takes longer than one forward. Device seconds are those of the first batch, scaled
    to all pixels.
    """
    ops, taken = scan.net.backend, PassTimes()
    x = ops.memory.to_device(image[None])
    every = np.ascontiguousarray(error[:, pixels[:, 0], pixels[:, 1]].T)
    for part in scan.batches(pixels):
        vectors = ops.memory.to_device(every[part, :, None, None])
        patches, times = timed(ops, lambda part=part: scan.patches(x, pixels[part]))
        taken.layers["forward", CUTTING] += times[0]
        if ops.name == "cuda":
            taken.run_layers(scan.program, patches, vectors)
        else:
            taken.add("forward", times)
            taken.run(scan.program, patches, vectors, device=False)
    if ops.name == "cuda":
        forward = timed(ops, lambda: scan.forward(x[0], pixels))[1][0]
        both = timed(ops, lambda: scan.gradients(x[0], every, pixels))[1][0]
        parts = scan.batches(pixels)
        first = pixels[parts[0]]
        corners = [
            ops.memory.to_device(np.ascontiguousarray(first[:, axis], np.int32)) for axis in (0, 1)
        ]
        on_device = _on_device(
            scan.program,
            lambda: ops.patches.extract(x, *corners, scan.net.patch),
            ops.memory.to_device(every[parts[0], :, None, None]),
            *(forward / len(parts), (both - forward) / len(parts)),
        )
        scale = len(pixels) / len(first)
        for direction, wall, device in zip(DIRECTIONS, (forward, both - forward), on_device):
            taken.add(direction, (wall, None if device is None else scale * device))
    return taken


def layer_name(step) -> str:
    """The layers that a step computes."""
    return " + ".join(step.layers)


class Workload:
    """A net, a photograph with ``labelled`` x ``labelled`` pixels to label, and an error map."""

    def __init__(self, net: Net, labelled: int, seed: int):
        self.net, self.labelled = net, labelled
        self.image = astronaut(net.channels, tuple(labelled + p - 1 for p in net.patch), net.dtype)
        self.rng = np.random.default_rng(seed)
        shape = (net.output.channels, labelled, labelled)
        self.error = self.rng.standard_normal(shape).astype(net.dtype)

    def pixels(self, number: int) -> np.ndarray:
        """``number`` different pixels (y, x), or all of them, drawn at random."""
        every = self.labelled**2
        chosen = self.rng.choice(every, min(number, every), replace=False)
        return np.stack(np.unravel_index(chosen, (self.labelled, self.labelled)), axis=1)

    def mask(self, pixels: np.ndarray) -> np.ndarray:
        """True at ``pixels``."""
        mask = np.zeros((self.labelled, self.labelled), bool)
        mask[pixels[:, 0], pixels[:, 1]] = True
        return mask

    def check_equal(self) -> None:
        """Compare both forms on these arrays, at a few pixels; warms up the dense form, too.

        Raises:
            NotEqual: scores are not the same bits, or gradients differ by more than 1e-5.
        """
        net, pixels = self.net, self.pixels(CHECKED)
        at = (slice(None), pixels[:, 0], pixels[:, 1])
        dense, scan = Dense(net), Scan(net)
        if not np.array_equal(dense.forward(self.image)[at].T, scan.forward(self.image, pixels)):
            raise NotEqual(f"scores of {self.labelled} x {self.labelled} pixels are not the same")
        masked = self.error, self.mask(pixels)
        ours = dense.gradients(self.image, *masked, everywhere=True).parameters
        vectors = np.ascontiguousarray(self.error[at].T)
        theirs = scan.gradients(self.image, vectors, pixels).parameters
        worst = max(relative_difference(ours[name], theirs[name]) for name in theirs)
        if not worst <= 1e-5:
            raise NotEqual(f"gradients of {self.labelled} x {self.labelled} differ by {worst:.1e}")


def batches(workload: Workload, quick: bool = False) -> tuple[int, ...]:
    """The batch sizes that scanning is tried with; on a GPU up to all of the image's, as far as
    memory allows."""
    if workload.net.backend.name != "cuda" or quick:
        return QUICK_BATCHES if quick else BATCHES
    size = workload.labelled, workload.labelled
    fitting = [n for n in BATCHES_ON_GPU if n <= workload.labelled**2]
    for batch in fitting[1:]:
        try:
            Scan(workload.net, batch=batch).check_memory(size, batch, learning=True)
        except MemoryError:
            return tuple(n for n in fitting if n < batch)
    return tuple(fitting) or QUICK_BATCHES


def fastest_batch(workload: Workload, quick: bool = False) -> tuple[int, dict[int, float]]:
    """The batch size that scans most pixels a second, and pixels a second by batch size."""
    tried = batches(workload, quick)
    pixels = workload.pixels(max(tried))
    seconds = dict.fromkeys(tried, math.inf)
    scans = {batch: Scan(workload.net, batch=batch) for batch in tried}
    for _ in range(2):
        for batch, scan in scans.items():
            taken = scan_pass(scan, workload.image, workload.error, pixels[:batch])
            seconds[batch] = min(seconds[batch], sum(wall for wall, _ in taken.totals.values()))
    rates = {batch: len(pixels[:batch]) / s for batch, s in seconds.items()}
    return max(rates, key=rates.get), rates


def compared(name: str, sizes: tuple[int, ...], options, memory: bool) -> list[dict]:
    """Measure one net: a row for each size, form, direction and layer.

    Columns: ``net, labelled, form, direction, layer; extrapolated, timed_pixels, batch;
    multiply_adds; seconds`` with ``seconds_p20, seconds_p80, repeats; device_seconds``; for the
    dense form ``speedup`` with its quantiles, from ratios within each round; for totals
    ``peak_bytes, peak_method`` of a pass forward and backward, if ``memory``.

    Raises:
        NotEqual: the forms disagree on the arrays that are timed.
    """
    net = prepared(name, seed=options.seed, backend=options.backend)
    workloads = {size: Workload(net, size, options.seed) for size in sizes}
    for workload in workloads.values():
        workload.check_equal()
    largest = workloads[max(sizes)]
    batch, rates = fastest_batch(largest, options.quick)
    sample = _sample(largest, batch, rates[batch], options.quick)
    parts = cycle(np.array_split(sample, ROUNDS))

    def scan():
        pixels = next(parts)
        taken = scan_pass(Scan(net, batch=batch), largest.image, largest.error, pixels)
        scale = 1 / len(pixels)
        for direction, (wall, device) in taken.totals.items():
            taken.totals[direction] = wall * scale, None if device is None else device * scale
        taken.layers = {key: seconds * scale for key, seconds in taken.layers.items()}
        return taken

    jobs = {
        size: lambda workload=workload: dense_pass(Dense(net), workload.image, workload.error)
        for size, workload in workloads.items()
    }
    longest = QUICKLY if options.quick else LONGEST * (1 + len(sizes))
    rounds = interleaved(jobs | {"scan": scan}, longest, min_rounds=FEWEST if options.quick else 1)
    timed_pixels = len(sample) * min(ROUNDS, len(rounds["scan"])) // ROUNDS
    peaks = _peaks(name, sizes, batch, options) if memory else {}
    rows = []
    for size in sizes:
        counts = _multiply_adds(net, size)
        for form in ("scanning", "dense"):
            scale = size * size if form == "scanning" else 1
            passes = rounds["scan" if form == "scanning" else size]
            common = {"net": name, "patch": net.patch[0], "labelled": size, "form": form}
            for direction, layer in (*passes[0].layers, *((d, TOTAL) for d in DIRECTIONS)):
                row = common | {"direction": direction, "layer": layer}
                row["extrapolated"] = form == "scanning" and timed_pixels != size * size
                row |= {"timed_pixels": timed_pixels, "batch": batch}
                row["multiply_adds"] = counts[direction, layer][form]
                if layer == TOTAL:
                    row |= spread_of_times([p.totals[direction] for p in passes], scale)
                else:
                    row |= spread([scale * p.layers[direction, layer] for p in passes])
                    row["device_seconds"] = None
                speedups = _speedups(rounds["scan"], rounds[size], size, direction, layer)
                row |= spread(speedups, "speedup") if form == "dense" else _NO_SPEEDUP
                row |= (peaks.get((form, size)) if layer == TOTAL else None) or _NO_PEAK
                rows.append(row)
    return rows


_NO_SPEEDUP = {"speedup": None, "speedup_p20": None, "speedup_p80": None}
_NO_PEAK = {"peak_bytes": None, "peak_method": None}


def _speedups(scans, passes, size, direction, layer):
    if layer == TOTAL:
        pairs = [(s.totals[direction][0], d.totals[direction][0]) for s, d in zip(scans, passes)]
    else:
        key = direction, layer
        pairs = [(s.layers[key], d.layers.get(key, math.nan)) for s, d in zip(scans, passes)]
    return [size * size * scanning / dense for scanning, dense in pairs]


def _sample(workload, batch, rate, quick):
    """Pixels for all rounds: whole batches in each round, if the image has enough pixels."""
    enough = max(SAMPLE, SHORTEST_SAMPLE * rate)
    number = 2 * batch if quick else min(enough, LONGEST_SAMPLE * rate)
    return workload.pixels(math.ceil(number / (ROUNDS * batch)) * ROUNDS * batch)


def _peaks(name, sizes, batch, options):
    """Peak memory of a pass by (form, size); scanning takes that of a batch at any size."""
    job = {"net": name, "backend": options.backend, "seed": options.seed}
    at = {"runner": "patch by patch", "labelled": max(sizes), "batch": batch}
    scanning = peak_memory(job | at)["forward + backward"]
    peaks = {("scanning", size): scanning for size in sizes}
    for size in sizes:
        dense = peak_memory(job | {"runner": "dense", "labelled": size})
        peaks["dense", size] = dense["forward + backward"]
    return peaks


def _multiply_adds(net, size):
    """Multiply-adds of both forms by (direction, layer)."""
    counts = {("forward", CUTTING): {"scanning": 0, "dense": 0}}
    totals = {(d, TOTAL): Counter() for d in DIRECTIONS}
    for step in Dense(net).program.steps:
        scanning, dense = multiply_adds(net, step.node, (size, size))
        for direction in DIRECTIONS:
            often = times(step.node, direction)
            both = {"scanning": often * scanning, "dense": often * dense}
            counts[direction, layer_name(step)] = both
            totals[direction, TOTAL].update(both)
    return counts | totals
