"""A model of the time that a launch takes on a named device. It is a model, not a measurement.

    time = max(instructions, share of peak, instruction cache, L2 cache, memory) + LAUNCH_SECONDS

* instructions: multiply-adds of whole tiles, including those that their tails waste. A
  multiprocessor issues the main loop's instructions at its issue rate and multiply-adds at that of
  its lanes, whichever takes longer. The multiprocessor with most blocks decides. It needs
  ``LATENCY_HIDING_WARPS`` resident warps to hide latencies; with fewer it slows down in proportion.
* share of peak: the same multiply-adds at the share of the device's peak that large matrix products
  were measured to reach on its architecture (``devices.Reached``): what the mix of instructions
  does not show, such as register banks, dual issue and power.
* instruction cache: a main loop beyond ``FIRST_CACHE`` is fetched anew in each of its turns, by
  each partition for itself; beyond ``SECOND_CACHE`` it comes from the L2 cache, of whose rate each
  multiprocessor gets its share. Warps of one block are taken to share what is fetched, and blocks
  not to.
* L2 cache: the sectors that warps request, counted on the simulator for a few blocks and scaled: in
  main loops with the multiply-adds, elsewhere with the threads. No L1 cache is assumed. Left out
  where nothing was traced.
* memory: every array of the launch moves once, as a whole (compulsory bytes); the caches are cold.

The host's part is in ``experiments.modelling``. Not modelled: bank conflicts, latencies of
dependent loads, clocks below the highest, other work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from experiments.profiling.calls import Call
from experiments.profiling.counter import Line
from experiments.profiling.devices import DEVICES, Device
from experiments.profiling.static import Code
from kernels.device import launching
from kernels.device.limits import LATENCY_HIDING_WARPS

LAUNCH_SECONDS = 2e-6
FIRST_CACHE, SECOND_CACHE, PARTITIONS = 16 * 1024, 32 * 1024, 4
"""Bytes of the instruction cache of a partition and of a multiprocessor, as Huerta, Shoushtary and
Gonzalez give them for Turing (Analyzing and Improving Hardware Modeling of Accel-Sim, 2023,
arXiv:2401.10082) and as they are assumed elsewhere; and partitions, which are served in turn."""
LINE_BYTES = 128
"""Bytes that one partition is served in a clock: a line, assumed."""
MULTIPLYING = (
    *("convolution_forward", "convolution_gradient_input", "convolution_gradient_weights"),
    "matrix_product",
)
"""The kernels that multiply, tile by tile."""
MULTIPLY_ADDS_A_BYTE = DEVICES["H100"].peak / 2 / DEVICES["H100"].bandwidth
"""Multiply-adds that take an H100 as long as a byte of its memory."""
ASSUMPTIONS = (
    "MODEL, not measured. A launch takes the longest of its parts, as docs/profiling.md lists "
    "them, plus 2 microseconds. Clocks are the highest published ones. A device marked * is one "
    "that the installed compiler does not target: code for the nearest target stands in."
)
PARTS = ("instructions", "share of peak", "instruction cache", "L2", "memory")


@dataclass(frozen=True)
class Prediction:
    """The model's time for one launch, in seconds, and its parts."""

    seconds: float
    instructions: float
    reached: float
    fetched: float
    l2: float
    memory: float

    @property
    def parts(self) -> dict[str, float]:
        """By name, as in ``PARTS``; the launch takes as long as the longest."""
        times = self.instructions, self.reached, self.fetched, self.l2, self.memory
        return dict(zip(PARTS, times))

    @property
    def bound(self) -> str:
        """The part that takes longest."""
        return max(self.parts, key=self.parts.get)


def predict(
    call: Call, launch: launching.Launch, code: Code, device: Device, l2_bytes: float
) -> Prediction:
    """The time of one launch of a call on ``device``, given the bytes from its L2 cache."""
    parts = (
        _instruction_seconds(call, launch, code, device),
        *_multiplying_seconds(call, launch, code, device),
        l2_bytes / device.l2_bandwidth,
        compulsory_bytes(launch) / device.bandwidth,
    )
    return Prediction(max(parts) + LAUNCH_SECONDS, *parts)


def compulsory_bytes(launch: launching.Launch) -> int:
    """Bytes of the launch's arrays, each once."""
    arrays = (a for a in launch.arguments if isinstance(a, np.ndarray))
    return sum({a.__array_interface__["data"][0]: a.nbytes for a in arrays}.values())


def executed_multiply_adds(call: Call, launch: launching.Launch) -> int:
    """Multiply-adds of a launch with those that the tails of its tiles waste; 0 without tiles."""
    if launch.function.__name__ not in MULTIPLYING:
        return 0
    case = call.case
    (n, c, *size), (_, k, *output) = case.shape, case.output
    taps = c * math.prod(case.kernel)
    match case.operator, launch.function.__name__:
        case "convolution.forward", "matrix_product":
            rows, columns, steps = k, n, taps
        case "convolution.forward", _:
            rows, columns, steps = k, n * math.prod(output), taps
        case "convolution.gradient_input", "matrix_product":
            rows, columns, steps = n, taps, k
        case "convolution.gradient_input", "convolution_gradient_input":
            part = launch.arguments[-1]  # the pixels with one remainder by the stride
            rows, columns, steps = c, n * math.prod(part.size), k * math.prod(part.taps)
        case "convolution.gradient_input", _:
            rows, columns, steps = c, n * math.prod(size), k * math.prod(case.kernel)
        case _:  # the gradient by the weights, whose pixels may be shared among several launches
            alike = sum(one.function is launch.function for one in call.launches)
            rows, columns, steps = k, taps, n * math.prod(output) / alike
    height, width = call.tile.height, call.tile.width
    return round(-(-rows // height) * height * -(-columns // width) * width * steps)


def idle_shares(
    calls: list[Call], multiprocessors: int
) -> list[tuple[Call, launching.Launch, float]]:
    """Each launch of a pass, with the share of the pass's time that multiprocessors idle while the
    one with most of the launch's blocks works.

    A launch takes as long as its multiply-adds or, where it has none, as its bytes, evenly over its
    blocks; waiting for the host takes no time.
    """
    launches, taken = [], 0.0
    for call in calls:
        for launch in call.launches:
            work = executed_multiply_adds(call, launch)
            work = work or MULTIPLY_ADDS_A_BYTE * compulsory_bytes(launch)
            blocks = math.prod(launch.blocks)
            of_fullest = work / blocks * math.ceil(blocks / multiprocessors)
            launches.append((call, launch, of_fullest * multiprocessors - work))
            taken += of_fullest * multiprocessors
    return [(call, launch, idle / taken) for call, launch, idle in launches]


def _instruction_seconds(call, launch, code, device):
    sums = executed_multiply_adds(call, launch)
    loop, limits = code.machine_code.main_loop, device.limits
    blocks = math.prod(launch.blocks)
    if not sums or not loop["multiply-add"]:
        # Each thread is taken to execute all instructions once
        instructions = code.machine_code.instructions.total() * math.ceil(launch.threads / 32)
        clocks_of_block = instructions / limits.issues
    else:
        of_loop = max(loop.total() / limits.issues, 32 * loop["multiply-add"] / limits.lanes)
        clocks_of_block = sums / blocks / 32 / loop["multiply-add"] * of_loop
    of_fullest = math.ceil(blocks / device.multiprocessors)
    resident = min(of_fullest, code.resident_blocks(limits)) * math.ceil(launch.threads / 32)
    slowed = max(1.0, LATENCY_HIDING_WARPS / resident)
    return of_fullest * clocks_of_block * slowed / device.clock


def _multiplying_seconds(call, launch, code, device):
    """(at the share of peak that others reach, for fetching a main loop's code)"""
    sums, loop = executed_multiply_adds(call, launch), code.machine_code.main_loop
    if not sums or not loop["multiply-add"]:
        return 0.0, 0.0
    blocks = math.prod(launch.blocks)
    of_fullest = math.ceil(blocks / device.multiprocessors)
    reached = of_fullest * sums / blocks / device.limits.lanes / device.reached.share
    turns = sums / blocks / launch.threads / loop["multiply-add"]
    clocks = turns * _fetching_clocks(code.machine_code.loop_bytes, device)
    return reached / device.clock, of_fullest * clocks / device.clock


def _fetching_clocks(size, device):
    """Clocks of a multiprocessor for the code of one turn of a main loop of ``size`` bytes."""
    if size <= FIRST_CACHE:
        return 0.0
    if size <= SECOND_CACHE:
        return PARTITIONS * size / LINE_BYTES
    return size * device.multiprocessors / device.l2_bytes_per_clock


def traced_bytes(lines: list[Line], loops: float, rest: float) -> float:
    """Bytes of the sectors of a whole launch, scaled from its traced lines.

    Args:
        loops, rest: the launch's multiply-adds, and its threads, over those of the traced one.
    """
    moved = 0.0
    for line in lines:
        if line.memory == "global":
            moved += line.moved / line.share * (loops if line.main_loop else rest)
    return moved
