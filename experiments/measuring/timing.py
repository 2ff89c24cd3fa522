"""How times are taken: interleaved rounds, medians with their spread, wall and device clocks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable

import numpy as np

from kernels import Backend

ROUNDS = 5
"""Least number of rounds, unless they take longer than ``LONGEST``."""
LONGEST = 60.0
"""Seconds for all rounds of one job; no round begins that would not end within them."""
QUICKLY, FEWEST = 2.0, 3
"""With ``--quick``: seconds for all rounds of a job, and the rounds that run in any case."""
ENOUGH, MOST = 0.5, 30
"""Rounds go on for ``ENOUGH`` seconds, but not beyond ``MOST`` rounds."""


TIMES = {
    **dict.fromkeys(("seconds", "seconds_p20", "seconds_p80"), float),
    **{"repeats": int, "device_seconds": float | None},
}
"""The columns of ``spread_of_times``, and their kinds."""


def interleaved(
    jobs: dict[str, Callable], longest: float = LONGEST, at_least: int = ROUNDS, min_rounds: int = 1
) -> dict[str, list]:
    """The results of each job, round by round; every round runs each job once.

    Whatever slows the machine for longer than a round cancels in the ratio of two jobs within it.
    Each round has an order of its own, drawn by a seeded rule: a job finds in the caches what the
    one before has left there, which may halve the time of a short one.

    Args:
        jobs: by name; called before, so that they are warm.
        longest: seconds that all rounds may take.
        at_least: number of rounds, unless they take longer.
        min_rounds: number of rounds that run however long they take.
    """
    given, orders = {name: [] for name in jobs}, random.Random(0)
    started, rounds = time.perf_counter(), 0
    while True:
        for name in orders.sample(list(jobs), len(jobs)):
            given[name].append(jobs[name]())
        rounds += 1
        elapsed = time.perf_counter() - started
        if rounds >= min_rounds and elapsed * (rounds + 1) / rounds > longest:
            return given
        if rounds >= at_least and (elapsed >= ENOUGH or rounds >= MOST):
            return given


def spread(values, name: str = "seconds") -> dict:
    """``name`` (median), ``name_p20``, ``name_p80`` and, for seconds, ``repeats``."""
    low, median, high = np.quantile(values, (0.2, 0.5, 0.8))
    quantiles = {name: median, f"{name}_p20": low, f"{name}_p80": high}
    return quantiles | ({"repeats": len(values)} if name == "seconds" else {})


def timed(ops: Backend, call: Callable, again: Callable | None = None):
    """The result of ``call()``, and its (wall, device) seconds.

    Args:
        again: does the same once more, for the device's clock: on a GPU its launches are queued
            before the first of them starts. None leaves that out.

    Returns:
        (result, (wall, device)); device seconds are None on the host, and where the device may have
        waited for the host.
    """
    ops.memory.synchronize()
    started = time.perf_counter()
    result = call()
    ops.memory.synchronize()
    wall = time.perf_counter() - started
    device = device_seconds(ops, again, wall)[1] if again else None
    return result, (wall, device)


def device_seconds(ops: Backend, call: Callable, wall: float) -> tuple[object, float | None]:
    """(result, device seconds) of a call that took ``wall`` seconds before; None on the host."""
    if ops.name != "cuda":
        return None, None
    from kernels.device.timing import on_device

    return on_device(call, wall)


def spread_of_times(times: list[tuple[float, float | None]], scale: float = 1) -> dict:
    """The spread of wall seconds, and ``device_seconds`` (their median, None on the host)."""
    wall, device = zip(*times)
    row = spread(scale * np.array(wall))
    return row | {"device_seconds": None if None in device else scale * float(np.median(device))}


def has_device_times(rows: Iterable[dict]) -> bool:
    """Whether some of the rows hold times of a GPU's own clock."""
    return any(row["device_seconds"] is not None for row in rows)


def mark(row: dict) -> str:
    """The marks of a row in a table; ``MARKS`` explains them."""
    few = row.get("repeats", ROUNDS) < ROUNDS
    return star(row.get("extrapolated")) + ("†" if few else "")


def star(extrapolated: bool | None) -> str:
    """The mark of a time that may be extrapolated, and of what follows from it."""
    return "*" if extrapolated else ""


MARKS = (
    "`*`: extrapolated from a timed sample of pixels to all of them. `†`: fewer than 5 repeats "
    "fitted into the time given."
)
