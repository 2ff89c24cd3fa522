"""One convolution is timed, and half of it: figures that make no sense are a fault."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from time import perf_counter

from experiments.profiling import calls
from experiments.profiling.operators import Arrays, OperatorCase, prepare

CASE = OperatorCase("convolution.forward", (1, 48, 256, 256), 48, (4, 4), (1, 1), (4, 4))
HALF = OperatorCase("convolution.forward", (1, 48, 134, 256), 48, (4, 4), (1, 1), (4, 4))
"""As many columns, and half as many rows of sums."""
REPEATS = 5
LEAST_RATIO, MOST_RATIO = 1.2, 3.5
"""Bounds on the ratio of times for twice the work: overheads and other work may move it from 2."""


def checks(ops) -> Iterator[tuple[str, object]]:
    """See ``experiments.checking``."""
    yield "timing", partial(_check, ops)


def _check(ops):
    whole, half = (calls.of_case(case) for case in (CASE, HALF))
    measure = _on_device if ops.name == "cuda" else partial(_on_host, ops)
    seconds, of_half = measure(whole), measure(half)
    if seconds is None or of_half is None:
        raise ValueError("not measured: the device was done before the host was")
    return judged(whole.multiply_adds / seconds, seconds / of_half, _peak(ops))


def judged(rate: float, ratio: float, peak: float | None) -> str:
    """What the figures say.

    Args:
        rate: multiply-adds/s.
        ratio: the time over that of half of the work.
        peak: operations/s that the device can do at most, where that is known.

    Raises:
        ValueError: they make no sense.
    """
    said = f"{2e-9 * rate:.4g} GFLOP/s"
    if peak is not None:
        if 2 * rate > peak:
            raise ValueError(f"{said} are more than the device's peak, {1e-9 * peak:.4g}")
        said += f", {2 * rate / peak:.0%} of the peak"
    said += f"; twice the work takes {ratio:.2f} times as long"
    if not LEAST_RATIO <= ratio <= MOST_RATIO:
        raise ValueError(f"{said}; expected {LEAST_RATIO} to {MOST_RATIO}")
    return said


def _peak(ops):
    if ops.name != "cuda":
        return None
    from experiments.profiling.timed import ceilings

    found = ceilings()
    return found and found[0]


def _on_device(call):
    from experiments.profiling import timed

    time = timed.time(call)
    return time and time.median


def _on_host(ops, call):
    run = prepare(ops, call.case, Arrays(0, ops.memory.to_device))
    times = []
    for _ in range(1 + REPEATS):
        started = perf_counter()
        run()
        times.append(perf_counter() - started)
    return min(times)
