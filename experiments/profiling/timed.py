"""The source ``timed``: device time of operators, by CUDA events; needs a device."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from experiments.profiling.calls import Call
from experiments.profiling.devices import LIMITS
from experiments.profiling.operators import Arrays, prepare
from kernels import get_backend
from kernels.device import launching
from kernels.device.api import cuda
from kernels.device.timing import on_device

WARM_UPS, REPEATS = 3, 20


@dataclass(frozen=True)
class Time:
    """Seconds of a call of an operator, all its launches together."""

    median: float
    p20: float
    p80: float
    repeats: int


def time(call: Call, seed: int = 0) -> Time | None:
    """Measure the device time of a call's operator on random arrays of its shapes.

    An NVTX range named after the layer surrounds the calls where the package ``nvtx`` is installed.

    Returns:
        None where it could not be measured: the device was done before the host was.
    """
    ops = get_backend("cuda")
    run = prepare(ops, call.case, Arrays(seed, ops.memory.to_device))
    name = " ".join(filter(None, (call.layer, call.direction, call.operator)))
    with _range(name):
        (seconds,) = interleaved([run], WARM_UPS, REPEATS)
    if seconds is None:
        return None
    low, median, high = np.quantile(seconds, (0.2, 0.5, 0.8))
    return Time(float(median), float(low), float(high), REPEATS)


def interleaved(runs: list, warm_ups: int, repeats: int) -> list[list[float] | None]:
    """Device seconds of the launches of each function, round by round; every round times each once.

    What they allocate is allocated before, by the first of ``warm_ups`` calls; then only their
    launches are repeated.

    Returns:
        for each function its times; None where one of them could not be measured.
    """
    launches, host = [], []
    for run in runs:
        with launching.noted() as noted:
            run()
        launches.append(noted)
        for _ in range(warm_ups - 1):
            cuda.synchronize()
            started = perf_counter()
            _launch(noted)
            taken = perf_counter() - started
        host.append(taken)
    times = [[] for _ in runs]
    for _ in range(repeats):
        for seconds, noted, taken in zip(times, launches, host):
            if None not in seconds:
                seconds.append(on_device(partial(_launch, noted), 2 * taken)[1])
    return [None if None in seconds else seconds for seconds in times]


def _launch(noted):
    for again in noted:
        again()


def _range(name):
    try:
        import nvtx
    except ImportError:
        return contextlib.nullcontext()
    return nvtx.annotate(name)


def ceilings() -> tuple[float, float] | None:
    """(float32 operations/s, bytes/s) of the current device at its highest clocks.

    None where its compute capability is not in ``LIMITS``: the number of its lanes is not known.
    """
    device = cuda.get_current_device()
    limits = LIMITS.get(device.compute_capability)
    if limits is None:
        return None
    peak = 2 * limits.lanes * device.MULTIPROCESSOR_COUNT * device.CLOCK_RATE * 1e3
    # Two transfers in each clock of the memory, on a bus as many bits wide
    bandwidth = 2 * device.MEMORY_CLOCK_RATE * 1e3 * device.GLOBAL_MEMORY_BUS_WIDTH / 8
    return peak, bandwidth


def nsight_commands(call: Call) -> list[str]:
    """The Nsight Compute command line for each launch of a call, after the warm-ups."""
    commands = []
    names = [launch.function.__name__ for launch in call.launches]
    for number, name in enumerate(names):
        before = WARM_UPS * names.count(name) + names[:number].count(name)
        commands.append(
            f"ncu --set full --kernel-name regex:{name} --launch-skip {before} --launch-count 1 "
            f"{Path('.venv/bin/python')} -m experiments profile {call.case.to_arguments()} "
            "--sources timed"
        )
    return commands
