"""The sparse max pooling alone, forward and backward."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numba
import numpy as np

from experiments.measuring import sweep
from experiments.measuring.ceilings import WORDS, copying
from experiments.measuring.exactness import NotEqual
from kernels import get_backend

TIMED = True
COLUMNS = sweep.COLUMNS
UNIT, CEILING = "GB/s", "gbytes"
LARGE = 512
"""Rows and columns of outputs whose 48 maps, 50 MB, lie beyond the caches. There the host copies
the ceiling's array in the same rounds."""
BESIDE = "beside a copy"
"""The axis of all windows at all distances at that size."""
AIMS = {2: (0.7, 0.6), 3: (0.5, 0.35)} | dict.fromkeys((4, 5, 6, 7, 8), (0.4, 0.3))
"""Bytes that pooling moves, of those that a copy moves in the same time, at every distance: at
least so many, forward without the chosen cells and with them, by the window's rows."""


def run(options) -> tuple[list[dict], dict]:
    """One row for each axis, setting and operation; no arrays.

    Raises:
        NotEqual: an operation is wrong on the arrays that are timed.
    """
    places = sweep.points(options.quick)
    if options.backend == "cpu" and not options.quick:
        large = replace(sweep.BASE, image=LARGE)
        windows = product(AIMS, sweep.AXES["d"])
        places += [(BESIDE, replace(large, kernel=kernel, d=d)) for kernel, d in windows]
    return sweep.swept("pooling", _measured, options, places), {}


def _measured(point, rng, ops, longest):
    kernel, size = (point.kernel, point.kernel), (point.size, point.size)
    x = rng.standard_normal((1, point.channels, *size)).astype(np.float32)
    error = rng.standard_normal((1, point.channels, point.image, point.image)).astype(np.float32)
    on_device, errors = ops.memory.to_device(x), ops.memory.to_device(error)
    pool = ops.max_pooling
    y, argmax = pool.forward(on_device, kernel, stride=1, dilation=point.d)
    moves = {"stride": 1, "dilation": point.d}
    jobs = {
        "forward": lambda: pool.forward(on_device, kernel, **moves),
        "forward without cells": lambda: pool.forward(on_device, kernel, **moves, argmax=False),
        "backward": lambda: pool.backward(errors, argmax, size, kernel, stride=1, dilation=point.d),
    }
    to_host = ops.memory.to_host
    _check(x, error, to_host(y), to_host(jobs["backward"]()), point)
    maps = x.nbytes + error.nbytes  # the map, its maxima or errors
    moved = dict.fromkeys(jobs, maps + argmax.nbytes) | {"forward without cells": maps}
    if ops.name != "cpu" or point.image < LARGE:
        return sweep.rounds(ops, jobs, longest), moved
    with ThreadPoolExecutor(threads := numba.get_num_threads()) as workers:
        source, target = np.ones(WORDS, x.dtype), np.zeros(WORDS, x.dtype)
        moved["copy"] = source.nbytes + target.nbytes
        jobs["copy"] = copying(workers, threads, source, target)
        return sweep.rounds(ops, jobs, longest), moved


def _check(x, error, y, gradient, point):
    """Compare the last maxima with the reference, bit for bit; <e, y> = <dx, x>."""
    part = x[:, :, -(point.size - point.image + 3) :, -(point.size - point.image + 3) :]
    expected, _ = get_backend("reference").max_pooling.forward(
        part.astype(float), point.kernel, stride=1, dilation=point.d
    )
    sums = [
        float(np.vdot(a.astype(float), b.astype(float))) for a, b in ((error, y), (gradient, x))
    ]
    scale = np.linalg.norm(error.astype(float)) * np.linalg.norm(y.astype(float))
    wrong = abs(sums[0] - sums[1]) / scale
    if not (np.array_equal(y[:, :, -3:, -3:], expected) and wrong <= 1e-5):
        raise NotEqual(f"max pooling at {point} is wrong, the gradient by {wrong:.1e}")


def table(rows: list[dict]) -> str:
    """The aims, where they were measured, and the Markdown table."""
    shares, large = _shares(rows), f"{LARGE} x {LARGE} outputs"
    if not shares:
        return sweep.table(rows, UNIT, CEILING)
    lines = [
        f"Bytes moved of those that a copy moves in the same rounds, {large} of 48 channels, least "
        "to most over the distances:",
        "",
        "| cells | without the chosen cells, aim | reached | with them, aim | reached |",
        "|---" * 5 + "|",
    ]
    for kernel, aims in AIMS.items():
        cells = [f"{kernel} x {kernel}"]
        for operation, aim in zip(("forward without cells", "forward"), aims):
            reached = [
                share for (k, _, o), share in shares.items() if (k, o) == (kernel, operation)
            ]
            cells += [f"{aim}", f"{min(reached):.2f} to {max(reached):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", sweep.table(rows, UNIT, CEILING)])


def _shares(rows: list[dict]) -> dict[tuple[int, int, str], float]:
    """Bytes moved of those that a copy moves in the same time, by window, distance and operation,
    of maps beyond the caches."""
    rates, copies = {}, {}
    for row in rows:
        if row["axis"] == BESIDE:
            rate, place = row["work"] / row["seconds"], (row["kernel"], row["d"])
            if row["operation"] == "copy":
                copies[place] = rate
            else:
                rates[*place, row["operation"]] = rate
    return {key: rate / copies[key[:2]] for key, rate in rates.items()}


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "The d-regularly sparse max pooling and its gradient, one axis at a time from a base "
        "point, in GB/s and as a share of what a large copy reaches on this machine. The distance "
        "d of the window's cells should cost nothing: the line over d should be flat.\n\n"
        "`image` is the output's rows and columns. Bytes are those that must be moved once: the "
        "map, its maxima (or their errors) and the chosen cells, which a forward pass alone does "
        "not ask for. float32; the results on the timed arrays were checked against the reference "
        "and against one another. Shares of the ceiling are of a copy that was timed once, before; "
        "those beside a copy are of one in the same rounds, as memory may be twice as fast at one "
        "time as at another."
    )


def figure(rows: list[dict], record: dict, arrays: dict):
    """GB/s along each axis."""
    title = f"Sparse max pooling: {record['gpu'] or record['cpu']}"
    return sweep.figure(rows, UNIT, CEILING, title)
