"""The source ``traced``: runs launches on the simulator and counts their memory accesses.

This takes processes of its own: for blocks of real size, ``kernels.device.api.SMALL_BLOCKS`` is set
before any operator is imported. No device is needed, and nothing is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from experiments.profiling.counter import Line, count
from experiments.profiling.operators import Arrays, OperatorCase
from experiments.profiling.tracer import ROOT, TracedArray, Tracer

if TYPE_CHECKING:
    from experiments.profiling.calls import Call

MOST_THREADS, MOST_WAITING_THREADS = 2048, 64
"""Threads of a launch that are traced where they are independent, and where they wait for each
other: whole blocks, spread over the grid, but at least one."""

CASES_OF_A_PROCESS = 8
"""At least, where there are several: a process takes seconds to start."""

FEW_STEPS, FEW_PIXELS = 24, 96
"""Steps of a main loop that are enough to know it: see ``shortened``."""


def shortened(call: Call) -> OperatorCase:
    """The case of a call, with fewer steps in its convolution's main loop, and the same tile.

    All of them would take the simulator too long, and every slice of steps accesses memory like the
    one before. The steps of the gradient by weights are pixels: its maps lose rows.
    """
    return replace(_with_fewer_steps(call.case), tile=call.tile)


def _with_fewer_steps(case):
    n, c, h, w = case.shape
    if case.kernel == (h, w):  # a fully connected layer
        match case.operator:
            case "convolution.forward":
                return replace(case, shape=(n, min(c, -(-FEW_STEPS // (h * w))), h, w))
            case "convolution.gradient_input":
                return replace(case, filters=min(case.filters, FEW_STEPS))
            case "convolution.gradient_weights":
                return replace(case, shape=(min(n, FEW_STEPS), c, h, w))
        return case
    kernel = tuple(min(k, 3) for k in case.kernel)
    match case.operator:
        case "convolution.forward":
            channels = min(c, -(-FEW_STEPS // (kernel[0] * kernel[1])))
            return replace(case, shape=(n, channels, h, w), kernel=kernel)
        case "convolution.gradient_input":
            kernel = tuple(min(k, 2) for k in case.kernel)
            return replace(case, filters=min(case.filters, 8), kernel=kernel)
        case "convolution.gradient_weights":
            rows = min(case.output[2], -(-FEW_PIXELS // case.output[3]))
            n = min(n, -(-FEW_PIXELS // (rows * case.output[3])))
            h = (case.kernel[0] - 1) * case.dilation[0] + 1 + (rows - 1) * case.stride[0]
            return replace(case, shape=(n, min(c, 16), h, w))
    return case


def trace(cases: list[OperatorCase], *, whole: bool = False, seed: int = 0) -> Iterator[list[Line]]:
    """Yield the lines of each case's launches, counted in processes of their own.

    Args:
        whole: trace all blocks, however many.
        seed: the seed of the arrays' random numbers.

    Raises:
        RuntimeError: a process failed; the message ends with its standard error.
    """
    count = min(os.cpu_count(), -(-len(cases) // CASES_OF_A_PROCESS))
    with ExitStack() as stack:
        parts = [cases[first::count] for first in range(count)]
        answers = [stack.enter_context(_simulating(part, whole, seed)) for part in parts]
        for number in range(len(cases)):
            yield next(answers[number % count])


@contextmanager
def _simulating(cases, whole, seed):
    """A process that counts, and the lines of each case as it answers; it ends with the caller."""
    task = {"cases": [case.to_json() for case in cases], "whole": whole, "seed": seed}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "experiments.profiling.simulation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        ) as process,
    ):
        process.stdin.write(json.dumps(task))
        process.stdin.close()
        try:
            yield _answers(process, errors)
        finally:
            process.kill()


def _answers(process, errors):
    for answer in process.stdout:
        yield [Line(**line) for line in json.loads(answer)]
    if process.wait():
        errors.seek(0)
        raise RuntimeError(f"the simulator failed: {errors.read().strip()[-2000:]}")


def _main() -> None:
    from kernels.device import api

    api.SMALL_BLOCKS = False
    task = json.load(sys.stdin)
    for case in task["cases"]:
        lines = _case_lines(OperatorCase.of_json(case), task["whole"], task["seed"])
        print(json.dumps([asdict(line) for line in lines]), flush=True)


def _case_lines(case: OperatorCase, whole: bool, seed: int) -> list[Line]:
    from experiments.profiling import calls
    from kernels.device.simulator import simulate

    call = calls.of_case(case, Arrays(seed))
    widths = {array.__array_interface__["data"][0]: array.shape[-1] for array in call.maps}
    lines = []
    for number, launch in enumerate(call.launches):
        lines += launch_lines(launch, case.operator, number, widths, whole)
        if launch.independent and number + 1 < len(call.launches):
            # Later launches may read indices that this one computes
            every = range(launch.blocks[0])
            simulate(launch, every, lambda function, arguments: function(*arguments))
    return lines


def launch_lines(launch, operator: str, number: int, widths: dict, whole: bool) -> list[Line]:
    """The lines of one launch; only in a process that simulates.

    Args:
        launch: a ``launching.Launch``.
        operator, number: the operator, and the launch's number among the operator's launches.
        widths: the widths of the feature maps among its arrays, by their addresses.
        whole: trace all blocks.
    """
    from kernels.device.simulator import simulate

    every = int(np.prod(launch.blocks))
    most = MOST_THREADS if launch.independent else MOST_WAITING_THREADS
    chosen = every if whole else min(every, max(1, most // launch.threads))
    blocks = [(2 * i + 1) * every // (2 * chosen) for i in range(chosen)]
    tracer = Tracer(launch.function)
    arguments = tuple(
        TracedArray(tracer, value, name, widths.get(value.__array_interface__["data"][0]))
        if isinstance(value, np.ndarray)
        else value
        for name, value in zip(launch.function.__code__.co_varnames, launch.arguments)
    )
    simulate(
        launch._replace(arguments=arguments),
        blocks,
        tracer.run,
        lambda array: TracedArray(tracer, array, None),
    )
    return count(tracer, operator, number, launch.function.__name__, chosen / every)


if __name__ == "__main__":
    _main()
