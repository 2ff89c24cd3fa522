"""The dense form's steps over lists of needed cells (``net.needed_cells``).

A map of n cells is n x C x 1 x 1, a batch of cells: steps that take one cell after the other run on
it as they are. Those that read windows do so by a table, and where a layer needs fewer cells than
its input has, these are selected first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from kernels import Backend
from net.branch_steps import CropStep
from net.conversion import steps_of, with_drops
from net.graph import Net
from net.needed_cells import Cells, NeededCells, Reading
from net.passes import Workspaces
from net.program import Program
from net.steps import AveragePoolStep, ConvolutionStep, DropoutStep, MaxPoolStep, Step


@dataclass(frozen=True, kw_only=True)
class _ListedStep(Step):
    """Reads a list by ``listed``, whose rows lie on the backend."""

    listed: Reading

    def output_size(self, sizes):
        return sizes[0]

    def batch(self, inputs):
        return self.listed.rows.shape[0]


@dataclass(frozen=True, kw_only=True)
class ListedConvolutionStep(_ListedStep, ConvolutionStep):
    """``ConvolutionStep`` over a list."""

    def _convolved(self, ops, x, weights, bias):
        rows, activation = self.listed.rows, self.activation
        weights = self._over_list(weights)
        return ops.listed_convolution.forward(x, rows, weights, bias, activation=activation)

    def _by_weights(self, ops, x, error, weights):
        rows, kernel = self.listed.rows, self.listed.kernel
        gradient = ops.listed_convolution.gradient_weights(x, rows, error, kernel)
        return gradient.reshape(weights.shape)

    def _by_input(self, ops, error, weights, size):
        weights = self._over_list(weights)
        arrays = error, self.listed.rows, weights
        return ops.listed_convolution.gradient_input(*arrays, self.listed.cells)

    def _over_list(self, weights):
        return weights.reshape(*weights.shape[:2], *self.listed.kernel)


@dataclass(frozen=True, kw_only=True)
class ListedMaxPoolStep(_ListedStep, MaxPoolStep):
    """``MaxPoolStep`` over a list."""

    def workspaces(self, sizes):
        return Workspaces()

    def forward(self, run, x):
        window = self.listed.rows, self.listed.kernel
        options = {"activation": self.activation, "argmax": run.backward}
        return run.ops.listed_max_pooling.forward(x, *window, **options)

    def backward(self, run, saved, error, wanted):
        window = self.listed.rows, self.listed.kernel, self.listed.cells
        return [run.ops.listed_max_pooling.backward(error, saved.argmax, *window)], {}


@dataclass(frozen=True, kw_only=True)
class ListedAveragePoolStep(_ListedStep, AveragePoolStep):
    """``AveragePoolStep`` over a list."""

    def forward(self, run, x):
        window = self.listed.rows, self.listed.kernel
        return run.ops.listed_average_pooling.forward(x, *window), None

    def backward(self, run, saved, error, wanted):
        window = self.listed.rows, self.listed.kernel, self.listed.cells
        return [run.ops.listed_average_pooling.backward(error, *window)], {}


@dataclass(frozen=True, kw_only=True)
class ListedDropoutStep(DropoutStep):
    """``DropoutStep`` for cells at ``rows`` and ``columns`` of the dense map, on the backend."""

    rows: object
    columns: object

    def _places(self, learning):
        return self.rows, self.columns


@dataclass(frozen=True, kw_only=True)
class SelectStep(_ListedStep):
    """Selects the cells of its input that its ``node`` reads."""

    learns: ClassVar[bool] = False

    def channels(self, inputs):
        return inputs[0][1]

    def forward(self, run, x):
        return run.ops.listed_cells.select(x, self._cells), None

    def backward(self, run, saved, error, wanted):
        return [run.ops.listed_cells.select_backward(error, self._cells, self.listed.cells)], {}

    @property
    def _cells(self):
        return self.listed.rows.reshape(self.listed.rows.shape[0])


LISTED = {
    ConvolutionStep: ListedConvolutionStep,
    MaxPoolStep: ListedMaxPoolStep,
    AveragePoolStep: ListedAveragePoolStep,
}
"""What takes the place of a step that reads windows."""


def listed_program(net: Net, needed: NeededCells) -> Program:
    """The program that computes the needed cells of each map, from those of the image.

    >>> from net import zoo
    >>> from net.needed_cells import Need
    >>> net = zoo.build("lenet28", backend="reference")
    >>> needed = Need(net, np.array([[5, 7], [60, 2]])).cells()
    >>> listed_program(net, needed).forward(np.ones((2 * 28 * 28, 1, 1, 1))).shape
    (2, 10, 1, 1)
    """
    readings = {name: _readings(net.backend, needed, name) for name in net.nodes}
    cells = {name: _Places(net.backend, needed.cells[name]) for name in net.nodes}
    programs = []
    for backward in (True, False):
        steps = []
        for step in steps_of(net, "dense", backward=backward):
            name = step.node.name
            steps += _over_list(step, readings[name], cells[name])
        programs.append(with_drops(steps))
    return Program.of_steps(net, *programs)


def _readings(ops: Backend, needed, name) -> list[Reading]:
    """How a layer reads its inputs, with what rows there are on the backend."""
    return [
        r if r.rows is None else replace(r, rows=ops.memory.to_device(r.rows))
        for r in needed.readings[name]
    ]


class _Places:
    """Where a layer's cells lie, on the backend; handed over when a step asks for it."""

    def __init__(self, ops: Backend, cells: Cells):
        self.cells, self._to_device = cells, ops.memory.to_device

    @cached_property
    def each(self) -> Reading:
        """A window that covers each cell alone."""
        numbers = np.arange(len(self.cells), dtype=np.int32)[:, None]
        return Reading(len(self.cells), self._to_device(numbers), (1, 1))

    @cached_property
    def dense(self) -> dict:
        """Rows and columns in the dense map."""
        to_device = self._to_device
        return {"rows": to_device(self.cells.rows), "columns": to_device(self.cells.columns)}


def _over_list(step: Step, readings, places) -> list[Step]:
    """What takes the place of a step of the dense form, in order."""
    windows = CropStep, *LISTED
    if isinstance(step, windows):
        (reading,) = readings
        listed = places.each if reading.rows is None else reading
        if isinstance(step, CropStep):
            return [SelectStep(step.layers, step.inputs, step.node, listed=listed)]
        return [_turned(step, LISTED[type(step)], listed=listed)]
    selections, inputs = [], []
    for source, reading in zip(step.inputs, readings):
        if reading.rows is None:
            inputs.append(source)
            continue
        name = f"{source} for {step.layers[0]}"
        selections.append(SelectStep((name,), (source,), step.node, listed=reading))
        inputs.append(name)
    step = replace(step, inputs=tuple(inputs))
    if isinstance(step, DropoutStep):
        step = _turned(step, ListedDropoutStep, **places.dense)
    return [*selections, step]


def _turned(step, kind, **more) -> Step:
    return kind(**{field.name: getattr(step, field.name) for field in fields(step)}, **more)
