"""The memory of one pass, step by step.

A ``MemoryPlan`` goes through a ``Program`` as running it does, with blocks of memory in place of
maps: each step says what it makes, what it saves for backward and what its operators work in.
Blocks are placed as the host's memory places arrays, so that fragmentation counts as well.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numba
import numpy as np

from net.images import DEVICE_BACKENDS
from net.ledger import UNINDEXABLE, Block, Ledger
from net.nodes import IMAGE
from net.passes import Shape, StepSizes, Workspaces
from net.program import Program
from net.steps import Step


class _Done(NamedTuple):
    """A step that was planned forward: its blocks, and those that it saves for backward."""

    step: Step
    sizes: StepSizes
    source: Block
    output: Block
    saved: list[Block]
    workspaces: Workspaces


class MemoryPlan:
    """One pass of a program; its methods follow those of ``Program`` line by line.

    Args:
        program: the program that runs.
        learning: whether dropout makes maps of its own.
        threads: number of threads that work at once; None is Numba's now.

    Attributes:
        ledger: the ledger in which further blocks of the pass are made, too.
    """

    def __init__(self, program: Program, *, learning: bool = False, threads: int | None = None):
        self.program, self.learning, self.ledger = program, learning, Ledger()
        self.itemsize = np.dtype(program.net.dtype).itemsize
        self.most_elements = program.net.backend.memory.MOST_ELEMENTS
        self.threads = threads or numba.get_num_threads()
        self.on_device = program.net.backend.name in DEVICE_BACKENDS
        self._done: list[_Done] = []

    def make(self, shape: tuple[int, ...]) -> Block:
        """A block for numbers of the net's dtype."""
        numbers = prod(shape)
        fits = numbers <= self.most_elements
        return self.ledger.make(numbers * self.itemsize if fits else UNINDEXABLE)

    def replace(self, block: Block, shape: tuple[int, ...]) -> Block:
        """A block for numbers of ``shape`` that are computed from ``block``, which is dropped
        then."""
        made = self.make(shape)
        self.ledger.drop(block)
        return made

    def forward(self, x: Block, shape: Shape, *, keep: bool = False) -> Block:
        """The output for the block ``x`` of an input of ``shape``; ``x`` is released."""
        program = self.program
        blocks, shapes = {IMAGE: x}, {IMAGE: shape}
        for step in program.steps if keep else program.forward_steps:
            done = self.advance(step, blocks, shapes, keep=keep)
            if keep:
                self._done.append(done)
        return blocks[program.steps[-1].output]

    def advance(self, step: Step, blocks: dict, shapes: dict, *, keep: bool = False) -> _Done:
        """One step on ``blocks`` of ``shapes`` (by layer); what no later step reads is dropped."""
        ledger = self.ledger
        sizes = self._sizes(step, shapes, keep)
        shapes[step.output] = sizes.output
        work_in = step.device_workspaces if self.on_device else step.host_workspaces
        workspaces = work_in(sizes)
        copies = [ledger.make(nbytes) for nbytes in workspaces.copies]
        source = blocks[step.inputs[0]]
        passed = step.passes_input and not self.learning
        output = ledger.hold(source) if passed else self.make(sizes.output)
        argmax = prod(sizes.output) * step.argmax_itemsize if keep else 0
        saved = [ledger.make(argmax)] if argmax else []
        ledger.work_in(workspaces.forward, self.threads)
        for block in copies:
            ledger.drop(block)
        if keep:
            saved += [ledger.hold(source)] if step.saves_input else []
            saved += [ledger.hold(output)] if step.saves_output else []
        blocks[step.output] = output
        for name in step.drops:
            ledger.drop(blocks.pop(name))
        return _Done(step, sizes, source, output, saved, workspaces)

    def backward(self, error: Block, *, image: bool = False) -> Block | None:
        """The gradient by the input or None; ``error`` is released. The parameters' gradients
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
        for shape in step.node.parameters.values() if step.learns else ():
            self.make(shape)
        dropping = step.passes_input and self.learning
        self.ledger.work_in(done.workspaces.gradients, self.threads)
        for shape, want in zip(sizes.inputs, wanted):
            if step.skips_unwanted and not want:
                return [self.ledger.make(0)]
            if step.overwrites_input:
                blocks.append(self.ledger.hold(done.source))
            elif step.passes_error and not dropping:
                blocks.append(self.ledger.hold(error))
            else:
                size = sizes.output[2:] if step.pads_errors else shape[2:]
                blocks.append(self.make((*shape[:2], *size)))
        self.ledger.work_in(done.workspaces.errors, self.threads)
        if step.pads_errors:
            for i, shape in enumerate(sizes.inputs):
                if shape[2:] != sizes.output[2:]:
                    blocks[i] = self.replace(blocks[i], shape)
        return blocks

    def _sizes(self, step, shapes, backward):
        inputs = tuple(shapes[name] for name in step.inputs)
        size = step.output_size([shape[2:] for shape in inputs])
        output = (step.batch(inputs), step.channels(inputs), *size)
        return StepSizes(inputs, output, self.itemsize, backward)
