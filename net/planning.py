"""What memory a pass of the dense form takes, told before it runs.

The pass is gone through with sizes instead of maps: what each step makes, what it keeps for the
backward pass, and when each map is dropped (``net.program``, ``net.steps``). Workspaces of single
operators are left out, but for the bounded partial sums of the weight gradient.
"""

from __future__ import annotations

from math import isqrt, prod

import numpy as np

from kernels.checks import Pair
from kernels.convolution import PARTIAL_BYTES, PARTIAL_SUMS
from kernels.max_pooling import argmax_dtype
from kernels.memory.gaps import Gaps
from net.graph import IMAGE, Net
from net.program import Program
from net.steps import (
    ActivationStep,
    AddStep,
    BatchNormStep,
    ConvolutionStep,
    DropoutStep,
    MaxPoolStep,
    SoftmaxStep,
)


class _Ledger:
    """Where buffers lie that live until their last owner, placed as the host's memory places them.

    Attributes:
        most: bytes of addresses that were needed.
    """

    def __init__(self):
        self.owners: dict[tuple, int] = {}
        self.places: dict[tuple, Pair] = {}
        self.gaps = Gaps(2**63)

    @property
    def most(self):
        return self.gaps.used

    def make(self, buffer, size):
        self.places[buffer], self.owners[buffer] = self.gaps.take(size), 1

    def own(self, buffer):
        self.owners[buffer] += 1

    def drop(self, buffer):
        self.owners[buffer] -= 1
        if not self.owners[buffer]:
            self.gaps.give_back(*self.places[buffer])

    def pass_by(self, size):
        """Take ``size`` for a moment."""
        self.gaps.give_back(*self.gaps.take(size))


def peak_bytes(net: Net, labelled: Pair, *, backward: bool) -> int:
    """What a pass of the dense form over ``labelled`` pixels takes: the most that lives at one
    time, and the gaps between.

    Args:
        labelled: rows and columns of the scores.
        backward: the forward pass keeps maps, and the backward pass follows.
    """
    program, ledger = Program(net, "dense"), _Ledger()
    itemsize = 8 if net.dtype == "float64" else 4

    def size_of(name):
        if name == IMAGE:
            return net.channels * itemsize * _cells(net, labelled, (1, 1))
        node = net.nodes[name]
        return node.output.channels * itemsize * _cells(net, labelled, node.output.extent)

    buffers = {IMAGE: (IMAGE,)}
    ledger.make((IMAGE,), size_of(IMAGE))
    kept = {}
    for step in program.steps if backward else program.forward_steps:
        out, inputs = (step.output,), [buffers[name] for name in step.inputs]
        if isinstance(step, DropoutStep):  # which is off here
            out = inputs[0]
            ledger.own(out)
        else:
            ledger.make(out, size_of(step.output))
        buffers[step.output], mine = out, []
        if isinstance(step, MaxPoolStep):
            argmax = (step.output, "argmax")
            cells = size_of(step.output) // itemsize
            ledger.make(argmax, cells * np.dtype(argmax_dtype(step.window)).itemsize)
            mine.append(argmax)
        if isinstance(step, ConvolutionStep | BatchNormStep):
            ledger.own(inputs[0])
            mine.append(inputs[0])
        if _keeps_output(step):
            ledger.own(out)
            mine.append(out)
        if not backward:
            while mine:
                ledger.drop(mine.pop())
        kept[step.output] = mine
        for name in step.drops:
            ledger.drop(buffers[name])
    if backward:
        _go_back(net, program, ledger, kept, size_of)
    return ledger.most


def _go_back(net, program, ledger, kept, size_of):
    errors = {}

    def arrive(name, buffer, size):
        if name in errors:  # another branch's error is added to the first: a map for the sum
            ledger.make(buffer, size)
            ledger.drop(buffer)
        else:
            ledger.make(buffer, size)
            errors[name] = buffer

    last = program.steps[-1]
    arrive(last.output, ("error", last.output), size_of(last.output))
    for step in reversed(program.steps):
        error = errors.pop(step.output, None)
        if error is None:
            continue
        if _keeps_output(step) and not isinstance(step, BatchNormStep | SoftmaxStep):
            if step is last:
                ledger.pass_by(size_of(step.output))
            else:
                ledger.drop(error)  # goes on in the place of the kept output
                error = kept[step.output][-1]
                ledger.own(error)
        if isinstance(step, ConvolutionStep):
            weights = prod(net.parameters[f"{step.node.name}.weights"].shape)
            itemsize = 8 if net.dtype == "float64" else 4
            ledger.pass_by(min(PARTIAL_SUMS * weights * itemsize, PARTIAL_BYTES))
        for name in step.inputs:
            if not program.learns[name]:
                continue
            if isinstance(step, BatchNormStep) and step.overwrites:
                errors[name] = kept[step.output][0]
                ledger.own(errors[name])
            elif name not in errors and isinstance(step, ActivationStep | DropoutStep | AddStep):
                errors[name] = error
                ledger.own(error)
            else:
                arrive(name, ("error", name, step.output), size_of(name))
        ledger.drop(error)
        for buffer in kept[step.output]:
            ledger.drop(buffer)


def _keeps_output(step) -> bool:
    """Whether the backward pass reads what the step gave."""
    match step:
        case ConvolutionStep() | BatchNormStep() | ActivationStep():
            return bool(step.activation) and not step.pooled
        case MaxPoolStep():
            return bool(step.activation)
    return isinstance(step, SoftmaxStep)


def _cells(net, labelled, extent):
    return prod(n + r - own for n, r, own in zip(labelled, net.receptive_field, extent))


def fitting_side(net: Net, available: int, *, backward: bool) -> int:
    """Rows and columns of the largest square of labelled pixels whose pass takes ``available``
    bytes at most; 0 if none."""
    low, high = 0, isqrt(available) + 1
    while high - low > 1:
        side = (low + high) // 2
        fits = peak_bytes(net, (side, side), backward=backward) <= available
        low, high = (side, high) if fits else (low, side)
    return low
