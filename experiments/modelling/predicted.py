"""The model's time for a net's passes on a device: launches one after the other, behind the host.

The host hands launches over at its own pace, and the device works them off: it waits where none is
there yet. Scanning hands over batch after batch without waiting, and waits once at the end. So

    time = the longest part of each launch (``roofline.PARTS``), added up
         + LAUNCH_SECONDS for each launch
         + what the device waits for the host
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from experiments.modelling.counted import DENSE, Pass
from experiments.profiling import calls, facts, roofline
from experiments.profiling.devices import Device
from experiments.profiling.roofline import LAUNCH_SECONDS, PARTS
from experiments.profiling.static import Code
from net import planning
from net.program import Program

TERMS = (*PARTS, "launch", "host")
"""The terms of the time of a pass."""


@dataclass(frozen=True)
class Predicted:
    """The model's time for all pixels of an image.

    Attributes:
        terms: seconds by ``TERMS``, which add up to the time.
        launches: their number.
    """

    terms: dict[str, float]
    launches: int

    @property
    def seconds(self) -> float:
        """The time."""
        return sum(self.terms.values())


def counted_bytes(every: list[Pass], cases: list[list], lines: dict) -> list[list[float]]:
    """For each pass, for each launch of its calls: the bytes of its sectors, as in ``facts``.

    Args:
        every: the passes.
        cases: for each pass, for each of its calls, the case whose sectors were counted
            (``counted.traced_cases``).
        lines: the traced lines of these cases, by case.
    """
    short_calls = {case: calls.of_case(case) for case in set(itertools.chain(*cases))}
    return [
        [
            facts.counted_bytes(call, number, short_calls[case], lines[case])
            for call, case in zip(one.calls, of_pass, strict=True)
            for number in range(len(call.launches))
        ]
        for one, of_pass in zip(every, cases, strict=True)
    ]


def launches_of(one: Pass, codes: list[Code], l2_bytes: list[float], device: Device) -> list:
    """A ``roofline.Prediction`` for each launch of a pass."""
    launches = [(call, launch) for call in one.calls for launch in call.launches]
    return [
        roofline.predict(call, launch, code, device, counted)
        for (call, launch), code, counted in zip(launches, codes, l2_bytes, strict=True)
    ]


def repeated(predictions: list, times: int, host_seconds: float) -> Predicted:
    """A pass that is queued ``times`` times in a row.

    Args:
        predictions: the predictions for its launches.
        host_seconds: the host's seconds for each launch.
    """
    terms = dict.fromkeys(TERMS, 0.0)
    issued = done = 0.0
    for prediction in predictions:
        issued += host_seconds
        terms["host"] += max(0.0, issued - done)
        done = max(issued, done) + prediction.seconds
        terms[prediction.bound] += times * (prediction.seconds - LAUNCH_SECONDS)
        terms["launch"] += times * LAUNCH_SECONDS
    busy = sum(prediction.seconds for prediction in predictions)
    if times > 1:  # the slower of both sets the pace
        terms["host"] += (times - 1) * max(0.0, issued - busy)
    return Predicted(terms, times * len(predictions))


def memory_of(net, size: int, one: Pass) -> int:
    """Bytes of the device that a pass takes at most, for ``size`` x ``size`` labelled pixels."""
    where = Program(net, one.form), "valid", (size, size)
    if one.form == DENSE:
        plan = planning.gradients_bytes if one.backward else planning.forward_bytes
        return plan(*where)
    pixels = size * size
    return planning.scan_bytes(*where, pixels, one.batch, learning=one.backward)


def batches(pixels: int, one: Pass) -> int:
    """How often a pass runs."""
    return 1 if one.form == DENSE else math.ceil(pixels / one.batch)
