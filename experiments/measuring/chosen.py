"""Passes over the cells that chosen pixels need: their times, with the plan, and their work."""

from __future__ import annotations

import time

import numpy as np

from experiments.inputs.arithmetic import DIRECTIONS
from experiments.measuring.compare import CHECKED, PassTimes, Workload
from experiments.measuring.exactness import NotEqual, relative_difference
from experiments.measuring.timing import timed
from net import Dense, Net, Scan
from net.chosen import Chosen
from net.needed_cells import Need
from net.needed_choice import NeededPasses
from net.nodes import IMAGE
from net.summary import multiply_adds

PLANNING = "planning"
"""What stands in the place of a layer for choosing a pass's way, lists and tables."""


def needed_pass(dense: Dense, image, error, mask) -> PassTimes:
    """Time one pass as ``Trainer`` runs it for a new mask: forward with its plan, then backward;
    in the dense form where that takes less. Layers are not timed, but ``PLANNING`` is."""
    ops, taken, chosen = dense.net.backend, PassTimes(), Chosen(mask.shape, mask)
    passes = NeededPasses(dense.program, dense.border)  # which know no mask yet
    placed = ops.memory.to_device(error[None])

    def forward():
        started = time.perf_counter()
        some = passes.over(chosen)
        form, program = (dense, dense.program) if some is None else (some, some.program)
        taken.layers["forward", PLANNING] += time.perf_counter() - started
        return some, program, program.forward(form.enter(image), keep=True)[1]

    def backward(some, program, tape):
        if some is None:
            masked = ops.masking.apply(placed, ops.memory.to_device(mask[None]))
            return program.backward(tape, masked)
        return program.backward(tape, some.listed(placed))

    passed, (wall, _) = timed(ops, forward)
    taken.add("forward", (wall, None))
    taken.add("backward", (timed(ops, lambda: backward(*passed))[1][0], None))
    return taken


def check_needed(workload: Workload) -> None:
    """Compare a pass over needed cells with scanning, at a few pixels.

    Raises:
        NotEqual: scores are not the same bits, or gradients differ by more than 1e-5.
    """
    net, pixels = workload.net, workload.pixels(CHECKED)
    dense, scan = Dense(net), Scan(net)
    if not np.array_equal(
        dense.forward(workload.image, pixels=pixels).T, scan.forward(workload.image, pixels)
    ):
        raise NotEqual("scores over needed cells are not the same")
    errors = np.ascontiguousarray(workload.error[:, *pixels.T])
    ours = dense.gradients(workload.image, errors, pixels=pixels).parameters
    theirs = scan.gradients(workload.image, np.ascontiguousarray(errors.T), pixels).parameters
    worst = max(relative_difference(ours[name], theirs[name]) for name in theirs)
    if not worst <= 1e-5:
        raise NotEqual(f"gradients over needed cells differ by {worst:.1e}")


def work_of(net: Net, labelled: int, mask) -> dict[tuple[str, str], int]:
    """Multiply-adds by (form, direction) of learning from the pixels of a mask: ``scanning`` them,
    ``dense``, and over the cells ``needed``."""
    pixels, size = np.argwhere(mask), (labelled, labelled)
    counts = Need(net, pixels).counts
    work = dict.fromkeys(
        ((form, direction) for form in ("scanning", "dense", "needed") for direction in DIRECTIONS),
        0,
    )
    for node in net.nodes.values():
        scanning, dense = multiply_adds(net, node, size)
        forms = {"scanning": scanning * len(pixels) // labelled**2, "dense": dense}
        forms["needed"] = counts[node.name] * node.multiply_adds
        for form, count in forms.items():
            work[form, "forward"] += count
            # By the weights, and by the input, which is not wanted of the image
            work[form, "backward"] += count * (1 if node.inputs == (IMAGE,) else 2)
    return work
