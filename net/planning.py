"""The memory that a pass takes, told before it runs.

A ``Plan`` goes through a ``Program`` as running it does, with blocks of memory in place of maps:
each step says what it makes, what it saves for backward and what its operators work in. Blocks are
placed as the host's memory places arrays, so that fragmentation counts as well.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt, prod
from typing import NamedTuple

import numba
import numpy as np

from kernels.checks import Pair
from net.graph import IMAGE
from net.layers import Softmax
from net.ledger import Block, Ledger
from net.passes import Shape, Sizes
from net.program import Program
from net.steps import Step


class _Done(NamedTuple):
    """A step that was planned forward: its blocks, and those that it saves for backward."""

    step: Step
    sizes: Sizes
    source: Block
    output: Block
    saved: list[Block]


class Plan:
    """One pass of a program; its methods follow those of ``Program`` line by line.

    Args:
        program: what runs.

    Attributes:
        ledger: where further blocks of the pass are made, too.
    """

    def __init__(self, program: Program):
        self.program, self.ledger = program, Ledger()
        self.itemsize = np.dtype(program.net.dtype).itemsize
        self.threads = numba.get_num_threads()
        self._done: list[_Done] = []

    def make(self, shape: tuple[int, ...]) -> Block:
        """A block for numbers of the net's dtype."""
        return self.ledger.make(prod(shape) * self.itemsize)

    def replace(self, block: Block, shape: tuple[int, ...]) -> Block:
        """A block for numbers of ``shape`` that are worked out from ``block``, which then goes."""
        made = self.make(shape)
        self.ledger.drop(block)
        return made

    def forward(self, x: Block, shape: Shape, *, keep: bool = False) -> Block:
        """The output for the block ``x`` of an input of ``shape``; ``x`` loses its owner."""
        program, ledger = self.program, self.ledger
        blocks, shapes = {IMAGE: x}, {IMAGE: shape}
        for step in program.steps if keep else program.forward_steps:
            sizes = self._sizes(step, shapes)
            shapes[step.output] = sizes.output
            workspaces = step.workspaces(sizes)
            copies = [ledger.make(nbytes) for nbytes in workspaces.copies]
            source = blocks[step.inputs[0]]
            output = ledger.hold(source) if step.passes_input else self.make(sizes.output)
            argmax = prod(sizes.output) * step.argmax_itemsize
            saved = [ledger.make(argmax)] if argmax else []
            ledger.work_in(workspaces.forward, self.threads)
            for block in copies:
                ledger.drop(block)
            if keep:
                saved += [ledger.hold(source)] if step.saves_input else []
                saved += [ledger.hold(output)] if step.saves_output else []
                self._done.append(_Done(step, sizes, source, output, saved))
            else:
                for block in saved:
                    ledger.drop(block)
            blocks[step.output] = output
            for name in step.drops:
                ledger.drop(blocks.pop(name))
        return output

    def backward(self, error: Block, *, image: bool = False) -> Block | None:
        """The gradient by the input or None; ``error`` loses its owner. The parameters' gradients
        stay."""
        errors = {self.program.steps[-1].output: error}
        while self._done:
            done = self._done.pop()
            if done.step.output in errors:
                error = self._differentiated(done, errors.pop(done.step.output))
                wanted = [self.program.learns[name] or image for name in done.step.inputs]
                blocks = self._input_errors(done, error, wanted)
                self.ledger.drop(error)
            else:
                wanted, blocks = [], []
            for block in done.saved:
                self.ledger.drop(block)
            for name, want, shape, block in zip(
                done.step.inputs, wanted, done.sizes.inputs, blocks
            ):
                if want and name in errors:
                    total = self.make(shape)
                    self.ledger.drop(errors[name])
                    self.ledger.drop(block)
                    errors[name] = total
                elif want:
                    errors[name] = block
                else:
                    self.ledger.drop(block)
        return errors.get(IMAGE)

    def _differentiated(self, done, error):
        if done.step.differentiates is None:
            return error
        last = done.step.output == self.program.steps[-1].output
        taken = self.make(done.sizes.output) if last else self.ledger.hold(done.output)
        self.ledger.drop(error)
        return taken

    def _input_errors(self, done, error, wanted):
        """A block for each input's error, after those of the gradients by the parameters."""
        step, sizes, blocks = done.step, done.sizes, []
        for shape in step.node.parameters.values():
            self.make(shape)
        workspaces = step.workspaces(sizes)
        self.ledger.work_in(workspaces.gradients, self.threads)
        for shape, want in zip(sizes.inputs, wanted):
            if step.skips_unwanted and not want:
                return [self.ledger.make(0)]
            if step.overwrites_input:
                blocks.append(self.ledger.hold(done.source))
            elif step.passes_error:
                blocks.append(self.ledger.hold(error))
            else:
                size = sizes.output[2:] if step.pads_errors else shape[2:]
                blocks.append(self.make((*shape[:2], *size)))
        self.ledger.work_in(workspaces.errors, self.threads)
        if step.pads_errors:
            for i, shape in enumerate(sizes.inputs):
                if shape[2:] != sizes.output[2:]:
                    blocks[i] = self.replace(blocks[i], shape)
        return blocks

    def _sizes(self, step, shapes):
        inputs = tuple(shapes[name] for name in step.inputs)
        size = step.output_size([shape[2:] for shape in inputs])
        output = (inputs[0][0], step.node.output.channels, *size)
        return Sizes(inputs, output, self.itemsize)


def forward_bytes(program: Program, border: str, labelled: Pair) -> int:
    """What ``Dense.forward`` takes for ``labelled`` rows and columns of pixels at most.

    Args:
        program: a net's dense form.
        border: of the images.
        labelled: rows and columns of the scores.
    """
    plan = Plan(program)
    plan.forward(*_framed(plan, border, labelled))
    return plan.ledger.peak


def predict_bytes(program: Program, border: str, labelled: Pair, tile: Pair) -> int:
    """What ``Dense.predict`` takes in parts of ``tile`` at most; other arguments as
    ``forward_bytes``."""
    plan, net = Plan(program), program.net
    tile = tuple(map(min, tile, labelled))
    x = plan.ledger.make(0)
    if border != "valid":
        x = plan.replace(x, _input_shape(net, labelled, net.patch))
    shape = _input_shape(net, tile, net.receptive_field)
    cropped = tile != tuple(labelled) or net.patch != net.receptive_field
    plan.forward(plan.make(shape) if cropped else plan.ledger.hold(x), shape)
    if not isinstance(net.layers[-1], Softmax):
        plan.make((net.output.channels, *tile))
    probabilities = prod(labelled) * net.output.channels * plan.itemsize
    classes = prod(labelled) * np.dtype(np.int64).itemsize
    return probabilities + max(plan.ledger.peak, classes)


def gradients_bytes(
    program: Program, border: str, labelled: Pair, *, masked: bool = True, image: bool = False
) -> int:
    """What ``Dense.gradients`` takes at most; other arguments as ``forward_bytes``.

    Args:
        masked: the pass makes an error map of its own.
        image: also the gradient by the image.
    """
    plan, net = Plan(program), program.net
    plan.ledger.drop(plan.forward(*_framed(plan, border, labelled), keep=True))
    error = plan.make((net.output.channels, *labelled) if masked else (0,))
    by_image = plan.backward(error, image=image)
    if image and net.patch != net.receptive_field:
        by_image = plan.replace(by_image, _input_shape(net, labelled, net.patch))
    if image and border != "valid":
        plan.replace(by_image, (net.channels, *labelled))
    return plan.ledger.peak


def _framed(plan, border, labelled):
    """(block, shape) of what the program reads; a block of 0 bytes where that is the caller's."""
    x, net = plan.ledger.make(0), plan.program.net
    if border != "valid":
        x = plan.replace(x, _input_shape(net, labelled, net.patch))
    shape = _input_shape(net, labelled, net.receptive_field)
    return plan.replace(x, shape) if net.patch != net.receptive_field else x, shape


def _input_shape(net, labelled, field):
    """Of an image of which each of ``labelled`` pixels sees a ``field`` of rows and columns."""
    return (1, net.channels, *(n + f - 1 for n, f in zip(labelled, field)))


def fitting_side(peak_bytes: Callable[[Pair], int], available: int) -> int:
    """The largest n for which ``peak_bytes((n, n))`` is at most ``available``; 0 if none."""
    low, high = 0, isqrt(available) + 1
    while high - low > 1:
        side = (low + high) // 2
        low, high = (side, high) if peak_bytes((side, side)) <= available else (low, side)
    return low
