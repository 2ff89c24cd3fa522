"""The dense form's steps over lists of needed cells (``net.needed_cells``).

A map of n cells is n x C x 1 x 1, a batch of cells, or on a device 1 x C x 1 x n, a row of them:
steps that take one cell after the other run on it as they are. Those that read windows do so by a
table, and where a layer needs fewer cells than its input has, these are selected first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import ClassVar

import numpy as np

from kernels.listed_cells import DEVICE
from kernels.listed_convolution import ListedShape
from kernels.listed_convolution.cuda_workspace import origins_bytes, products_bytes
from kernels.listed_max_pooling.cpu_workspace import workspace
from kernels.window import Window
from net.branch_steps import CropStep
from net.conversion import steps_of, with_drops
from net.graph import Net, once_a_net
from net.needed_cells import NeededCells, Reading
from net.nodes import Node
from net.passes import Workspace, Workspaces
from net.program import Program
from net.steps import AveragePoolStep, ConvolutionStep, DropoutStep, MaxPoolStep, Step


class _Listed:
    """A ``Reading`` on the backend, in the form that the operators of its layer take.

    Attributes:
        cells, kernel: as ``Reading`` has them.
    """

    def __init__(self, net: Net, reading: Reading, reads_windows: bool):
        self.cells, self.kernel = reading.cells, reading.kernel
        self._net, self._rows, self._reads_windows = net, reading.rows, reads_windows

    @cached_property
    def rows(self):
        """A table for windows, else cells: handed over when they are first read, so that a program
        that is only planned takes no memory for them."""
        ops = self._net.backend
        rows = ops.memory.to_device(self._rows)
        return ops.listed_cells.table(rows, self.cells) if self._reads_windows else rows


@dataclass(frozen=True, kw_only=True)
class _ListedStep(Step):
    """Reads a list by ``listed``; ``outputs`` is the number of its output's cells."""

    listed: _Listed
    outputs: int

    @classmethod
    def in_place_of(cls, step: Step, places: _Places) -> list[Step]:
        """What takes the place of a step of the dense form, in order."""
        return [cls(**vars(step), **places.reading)]

    def output_size(self, sizes):
        return sizes[0]

    def batch(self, inputs):
        return self.outputs


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

    def device_workspaces(self, sizes):
        taken = super().device_workspaces(sizes)
        channels, filters = sizes.inputs[0][1], sizes.output[1]
        lists = self.listed.cells, channels, self.outputs, filters
        shape = ListedShape(*lists, self.listed.kernel, DEVICE)
        return taken._replace(
            forward=Workspace((*taken.forward.arrays, origins_bytes(shape))),
            errors=Workspace((*taken.errors.arrays, products_bytes(shape, sizes.itemsize))),
        )

    def _over_list(self, weights):
        return weights.reshape(*weights.shape[:2], *self.listed.kernel)


@dataclass(frozen=True, kw_only=True)
class ListedMaxPoolStep(_ListedStep, MaxPoolStep):
    """``MaxPoolStep`` over a list."""

    def host_workspaces(self, sizes):
        shape = (self.outputs, self.listed.cells, sizes.output[1], sizes.itemsize)
        taken = workspace(Window(self.listed.kernel), *shape, sizes.backward)
        return Workspaces(forward=Workspace(*taken))

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
        window, columns = (self.listed.rows, self.listed.kernel), self.node.window.kernel[1]
        return run.ops.listed_average_pooling.forward(x, *window, columns=columns), None

    def backward(self, run, saved, error, wanted):
        window = self.listed.rows, self.listed.kernel, self.listed.cells
        return [run.ops.listed_average_pooling.backward(error, *window)], {}


@dataclass(frozen=True, kw_only=True)
class ListedDropoutStep(DropoutStep):
    """``DropoutStep`` for cells at ``rows`` and ``columns`` of the dense map, on the backend."""

    rows: object
    columns: object

    @classmethod
    def in_place_of(cls, step: Step, places: _Places) -> list[Step]:
        """As ``_ListedStep.in_place_of``."""
        return _selecting(cls(**vars(step), **places.dense), places)

    def _places(self, learning):
        return self.rows, self.columns


@dataclass(frozen=True, kw_only=True)
class SelectStep(_ListedStep):
    """Selects the cells of its input that its ``node`` reads."""

    learns: ClassVar[bool] = False

    @classmethod
    def in_place_of(cls, step, places):
        return [cls(step.layers, step.inputs, step.node, drops=step.drops, **places.reading)]

    def channels(self, inputs):
        return inputs[0][1]

    def forward(self, run, x):
        return run.ops.listed_cells.select(x, self._cells), None

    def backward(self, run, saved, error, wanted):
        return [run.ops.listed_cells.select_backward(error, self._cells, self.listed.cells)], {}

    @property
    def _cells(self):
        return self.listed.rows.reshape(self.outputs)


LISTED = {
    ConvolutionStep: ListedConvolutionStep,
    MaxPoolStep: ListedMaxPoolStep,
    AveragePoolStep: ListedAveragePoolStep,
    CropStep: SelectStep,
    DropoutStep: ListedDropoutStep,
}
"""What takes the place of a step that does not run on a list as it is."""


class ListedProgram(Program):
    """The program that computes the needed cells of each map, from those of the image.

    Args:
        net: its parameters are read at every call, never copied.
        needed: the cells.

    >>> from net import zoo
    >>> from net.needed_cells import Need
    >>> net = zoo.build("lenet28", backend="reference")
    >>> needed = Need(net, np.array([[5, 7], [60, 2]])).cells()
    >>> ListedProgram(net, needed).forward(np.ones((2 * 28 * 28, 1, 1, 1))).shape
    (2, 10, 1, 1)
    """

    def __init__(self, net: Net, needed: NeededCells):
        self._places = {node.name: _Places(net, node, needed) for node in net.nodes.values()}
        self._set(net, _over_lists(_dense_steps(net)[0], self._places))

    @cached_property
    def forward_steps(self) -> list[Step]:
        """What runs where no backward pass follows, in order."""
        steps, forward = _dense_steps(self.net)
        return self.steps if forward is steps else _over_lists(forward, self._places)


def device_bytes(net: Net, needed: NeededCells) -> int:
    """Bytes that the tables of ``ListedProgram`` take on a device, and the largest of the host's
    lists that they are made from."""
    layout, entries, largest = net.backend.listed_cells.LAYOUT, 0, 0
    for node in net.nodes.values():
        for reading in needed.readings[node.name]:
            rows = 0 if reading.rows is None else reading.rows.size
            largest = max(largest, rows)
            if node.window:
                table = len(needed.cells[node.name]), reading.kernel[0], reading.cells
                rows = prod(layout.table_shape(*table))
            entries += rows
    return (entries + largest) * np.dtype(np.int32).itemsize


@once_a_net
def _dense_steps(net: Net) -> tuple[list[Step], list[Step]]:
    """The steps with a backward pass, and those without; one list where they are equal."""
    steps, forward = (steps_of(net, "dense", backward=backward) for backward in (True, False))
    return steps, steps if forward == steps else forward


def _over_lists(steps, places) -> list[Step]:
    listed = [one for step in steps for one in _over_list(step, places[step.node.name])]
    return listed if len(listed) == len(steps) else with_drops(listed)


class _Places:
    """Where a layer's cells lie, and those that it reads, handed over to the backend once."""

    def __init__(self, net: Net, node: Node, needed: NeededCells):
        self.cells, self._net, self._reads_windows = needed.cells[node.name], net, bool(node.window)
        self.readings = [self._listed(reading) for reading in needed.readings[node.name]]

    def _listed(self, reading):
        if reading.rows is None:
            return None  # output p reads cell p
        return _Listed(self._net, reading, self._reads_windows)

    @cached_property
    def reading(self) -> dict:
        """Arguments ``listed`` and ``outputs`` of a ``_ListedStep`` with one input; where the input
        has just the cells that are needed, each is read by a window of its own."""
        (listed,) = self.readings
        if listed is None:
            numbers = np.arange(len(self.cells), dtype=np.int32)[:, None]
            listed = self._listed(Reading(len(self.cells), numbers, (1, 1)))
        return {"listed": listed, "outputs": len(self.cells)}

    @cached_property
    def dense(self) -> dict:
        """Rows and columns in the dense map."""
        to_device = self._net.backend.memory.to_device
        return {"rows": to_device(self.cells.rows), "columns": to_device(self.cells.columns)}


def _over_list(step: Step, places: _Places) -> list[Step]:
    """What takes the place of a step of the dense form, in order."""
    kind = LISTED.get(type(step))
    return _selecting(step, places) if kind is None else kind.in_place_of(step, places)


def _selecting(step: Step, places: _Places) -> list[Step]:
    """A step, and in front of it the steps that select its cells from inputs that have more."""
    selections, inputs = [], []
    for source, listed in zip(step.inputs, places.readings):
        if listed is None:
            inputs.append(source)
            continue
        name, outputs = f"{source} for {step.layers[0]}", len(places.cells)
        place = (name,), (source,), step.node
        selections.append(SelectStep(*place, listed=listed, outputs=outputs))
        inputs.append(name)
    return [*selections, replace(step, inputs=tuple(inputs)) if selections else step]
