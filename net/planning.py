"""The memory that a pass takes, told before it runs.

A ``MemoryPlan`` goes through a ``Program`` as running it does, with blocks of memory in place of
maps: each step says what it makes, what it saves for backward and what its operators work in.
Blocks are placed as the host's memory places arrays, so that fragmentation counts as well.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numba
import numpy as np

from kernels.checks import Pair
from net.images import DEVICE_BACKENDS
from net.ledger import UNINDEXABLE, Block, Ledger
from net.nodes import IMAGE
from net.passes import Shape, StepSizes, Workspaces
from net.program import Program
from net.steps import Step

REMEMBERED = 64
"""Passes of a program whose results are cached."""
MAX_COUNT = 2**62
"""Rows, columns, pixels or bytes: more than any array has."""


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

    Attributes:
        ledger: the ledger in which further blocks of the pass are made, too.
    """

    def __init__(self, program: Program, *, learning: bool = False):
        self.program, self.learning, self.ledger = program, learning, Ledger()
        self.itemsize = np.dtype(program.net.dtype).itemsize
        self.most_elements = program.net.backend.memory.MOST_ELEMENTS
        self.threads = numba.get_num_threads()
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


def forward_bytes(program: Program, border: str, labelled: Pair) -> int:
    """What ``Dense.forward`` takes for ``labelled`` rows and columns of pixels at most.

    Args:
        program: a net's dense form.
        border: border of the images.
        labelled: rows and columns of the scores.

    >>> from net import Dense, zoo
    >>> program = Dense(zoo.build("lenet28", backend="reference")).program
    >>> forward_bytes(program, "valid", (9, 9)) < forward_bytes(program, "valid", (90, 90))
    True
    """
    plan = MemoryPlan(program)
    plan.forward(*_framed(plan, border, labelled))
    return plan.ledger.peak


def predict_bytes(program: Program, border: str, labelled: Pair, tile: Pair) -> int:
    """What ``Dense.predict`` takes in parts of ``tile`` at most; other arguments as
    ``forward_bytes``.

    >>> from net import Dense, zoo
    >>> program = Dense(zoo.build("lenet28", backend="reference")).program
    >>> tiles = ((9, 9), (30, 30), (90, 90))
    >>> small, large, all_ = (predict_bytes(program, "zero", (90, 90), tile) for tile in tiles)
    >>> small < large < all_
    True
    """
    plan, net = MemoryPlan(program), program.net
    tile = tuple(map(min, tile, labelled))
    x = plan.ledger.make(0)
    if border != "valid":
        x = plan.replace(x, _input_shape(net, labelled, net.patch))
    shape = _input_shape(net, tile, net.receptive_field)
    cropped = tile != tuple(labelled) or net.patch != net.receptive_field
    plan.forward(plan.make(shape) if cropped else plan.ledger.hold(x), shape)
    if not net.gives_probabilities:
        plan.make((net.output.channels, *tile))
    pixel = net.output.channels * plan.itemsize
    results = prod(labelled) * (pixel + np.dtype(np.int64).itemsize)
    return results + prod(tile) * pixel + plan.ledger.peak  # NumPy looks for maxima in a copy


def gradients_bytes(
    program: Program, border: str, labelled: Pair, *, masked: bool = True, image: bool = False
) -> int:
    """What ``Dense.gradients`` takes at most; other arguments as ``forward_bytes``.

    Args:
        masked: the pass makes an error map of its own.
        image: also the gradient by the image.

    >>> from net import Dense, zoo
    >>> program = Dense(zoo.build("lenet28", backend="reference")).program
    >>> gradients_bytes(program, "valid", (90, 90)) > forward_bytes(program, "valid", (90, 90))
    True
    """
    plan, net = MemoryPlan(program), program.net
    plan.ledger.drop(plan.forward(*_framed(plan, border, labelled), keep=True))
    error = plan.make((net.output.channels, *labelled) if masked else (0,))
    by_image = plan.backward(error, image=image)
    if image and net.patch != net.receptive_field:
        by_image = plan.replace(by_image, _input_shape(net, labelled, net.patch))
    if image and border != "valid":
        plan.replace(by_image, (net.channels, *labelled))
    return plan.ledger.peak


def step_bytes(program: Program, border: str, labelled: Pair) -> int:
    """What a step of a ``Trainer`` in the dense form takes; arguments as ``forward_bytes``.

    >>> from net import Dense, zoo
    >>> program = Dense(zoo.build("lenet28", backend="reference")).program
    >>> step_bytes(program, "zero", (90, 90)) > forward_bytes(program, "zero", (90, 90))
    True
    """
    plan, net = MemoryPlan(program, learning=True), program.net
    _make_targets(plan, prod(labelled))
    scores = plan.forward(*_framed(plan, border, labelled), keep=True)
    plan.ledger.hold(scores)
    plan.backward(plan.make((net.output.channels, *labelled)))
    return plan.ledger.peak


LEARNING = (gradients_bytes, step_bytes)
PASSES = (forward_bytes, *LEARNING)


def scan_bytes(
    program: Program,
    border: str,
    labelled: Pair,
    pixels: int,
    batch: int,
    *,
    learning: bool = False,
    image: bool = False,
) -> int:
    """What ``Scan`` takes at most, and a step of a ``Trainer`` patch by patch.

    Args:
        program: a net's patch form.
        border: border of the images.
        labelled: rows and columns of all pixels of the image.
        pixels: number of chosen pixels.
        batch: patches that run together.
        learning: a pass forward and backward.
        image: also the gradient by the image.

    >>> from net import Scan, zoo
    >>> program = Scan(zoo.build("lenet28", backend="reference")).program
    >>> small, large = (scan_bytes(program, "zero", (90, 90), 500, batch) for batch in (64, 256))
    >>> small < large
    True
    """
    plan, net = MemoryPlan(program, learning=learning), program.net
    bordered, batch = _input_shape(net, labelled, net.patch), min(batch, pixels)
    if border != "valid":
        plan.make(bordered)
    plan.ledger.make(2 * pixels * np.dtype(np.int64).itemsize)
    patches = (batch, net.channels, *net.patch)
    if not learning:
        plan.make((pixels, net.output.channels))
        plan.forward(plan.make(patches), patches)
        return plan.ledger.peak
    _make_targets(plan, prod(labelled))
    if net.backend.name == "cuda":  # a copy of all error vectors
        plan.make((pixels, net.output.channels))
    for shapes in (node.parameters.values() for node in net.nodes.values()):
        for shape in shapes:  # the total so far, and its sum with the next gradient
            plan.replace(plan.make(shape), shape)
    if image:
        plan.make(bordered)
    plan.ledger.hold(plan.forward(plan.make(patches), patches, keep=True))
    by_patch = plan.backward(plan.make((batch, net.output.channels)), image=image)
    if image:  # added to the sum so far
        plan.replace(plan.replace(by_patch, bordered), bordered)
    return plan.ledger.peak


def needed_bytes(
    program: Program,
    cells: int,
    pixels: int,
    *,
    keep: bool = False,
    learning: bool = False,
    image: bool = False,
) -> int:
    """What a pass over lists of cells takes at most (``net.needed_pass``), its tables apart.

    Args:
        program: a program over lists.
        cells: number of needed cells of the image.
        pixels: number of chosen pixels.
        keep: whether a backward pass follows.
        learning: whether dropout makes maps of its own.
        image: also the gradient by the image's cells.

    >>> from net import zoo
    >>> from net.needed_pass import NeededPass
    >>> net = zoo.build("lenet28", backend="reference")
    >>> some = NeededPass(net, "zero", np.array([[5, 7]]))
    >>> needed_bytes(some.program, 784, 1) < needed_bytes(some.program, 784, 1, keep=True)
    True
    """
    plan, net = MemoryPlan(program, learning=learning), program.net
    shape = (cells, net.channels, 1, 1)
    scores = plan.forward(plan.make(shape), shape, keep=keep)
    if keep:
        plan.ledger.hold(scores)
        plan.backward(plan.make((pixels, net.output.channels)), image=image)
    return plan.ledger.peak


def calibration_bytes(program: Program, border: str, labelled: tuple[Pair, ...]) -> int:
    """What ``calibrate`` takes at most for images with ``labelled`` rows and columns of scores
    each; other arguments as ``forward_bytes``."""
    plan, runs, peak = MemoryPlan(program), [], 0
    for size in labelled:
        x, shape = _framed(plan, border, size)
        runs.append(({IMAGE: x}, {IMAGE: shape}))
    for step in program.steps:
        if step.normalizes:
            most = max(prod(shapes[step.inputs[0]]) for _, shapes in runs)
            peak = max(peak, plan.ledger.peak + most * np.dtype(np.float64).itemsize)
        for blocks, shapes in runs:
            plan.advance(step, blocks, shapes)
    return max(peak, plan.ledger.peak)


def _make_targets(plan, pixels):
    """Labels and a mask as the loss takes them, and what they were made from."""
    plan.ledger.make(2 * pixels * (np.dtype(np.int32).itemsize + np.dtype(bool).itemsize))


def _framed(plan, border, labelled):
    """(block, shape) of what the program reads; a block of 0 bytes where that is the caller's."""
    x, net = plan.ledger.make(0), plan.program.net
    if border != "valid":
        x = plan.replace(x, _input_shape(net, labelled, net.patch))
    shape = _input_shape(net, labelled, net.receptive_field)
    return plan.replace(x, shape) if net.patch != net.receptive_field else x, shape


def _input_shape(net, labelled, field):
    """Shape of an image in which each of ``labelled`` pixels sees a ``field``, rows and columns."""
    return (1, net.channels, *(n + f - 1 for n, f in zip(labelled, field)))


def remembered(peak_bytes: Callable[..., int], program: Program, *arguments, **options) -> int:
    """Cached result of ``peak_bytes``, a function of this module."""
    plans = program.plans
    key = (peak_bytes, numba.get_num_threads(), arguments, *options.items())
    planned = plans.get(key)
    if planned is None:
        planned = peak_bytes(program, *arguments, **options)
        if len(plans) >= REMEMBERED:
            plans.clear()
        plans[key] = planned
    return planned
