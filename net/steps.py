"""What a backend executes: one step for each layer, the same for the patch net and its dense form.

The two forms differ only in numbers (``net.conversion``): a window's stride and dilation, and a
crop's margins. A step also says what it takes of memory: what is saved for backward, where errors
lie and what operators work in. ``net.program`` saves by that, and ``net.planning`` plans by it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

import numpy as np

from kernels.activation import Activation
from kernels.checks import Pair
from kernels.convolution.cpu_workspace import (
    error_bytes,
    packed_error_bytes,
    partial_shape,
    thread_bytes,
)
from kernels.convolution.cuda_workspace import partial_bytes
from kernels.max_pooling import argmax_dtype
from kernels.max_pooling.cpu_workspace import workspace as rows_of_maxima
from kernels.window import Window
from net.nodes import Node
from net.passes import Run, Saved, Shape, StepSizes, Workspace, Workspaces


@dataclass(frozen=True)
class Step(ABC):
    """One layer, and those that follow it where they are computed in one go.

    Attributes:
        layers: names of the layers that it computes.
        inputs: names of the layers whose outputs it reads.
        node: the first of its layers in the net.
        drops: those of its inputs that no later step reads.
        activation: the activation that it ends in; None where there is none.
        pooled: whether max pooling follows the activation and takes care of its derivative; the map
            between them is not saved then.
        normalizes: whether it takes frozen statistics of its input, which ``calibrate`` sets.
        takes_activation: whether it can compute an activation that follows; its own output is not
            saved for backward.
        takes_normalization: whether a batch normalisation that follows can become part of it.

    The maps of a pass, beside the output and an error for each input:
        saves_input, saves_output: whether it is saved for backward.
        argmax_itemsize: bytes of argmax for each number of the output; 0 where there is none.
        differentiates: the activation whose derivative the error takes first, in the place of the
            saved output; None where there is none.
        passes_input: whether the output is the input itself, outside of training.
        passes_error: whether the error of an input is the step's own.
        pads_errors: whether the error of an input is as large as the output at first, and padded
            where the input is larger.
        overwrites_input: whether the error of the input takes the place of the saved input.
        skips_unwanted: whether an error that nobody wants is not computed.
    """

    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    node: Node
    drops: frozenset[str] = field(default=frozenset(), kw_only=True)
    activation: str | Activation | None = field(default=None, kw_only=True)
    pooled: bool = field(default=False, kw_only=True)

    normalizes: ClassVar[bool] = False
    takes_activation: ClassVar[bool] = False
    takes_normalization: ClassVar[bool] = False
    saves_input: ClassVar[bool] = False
    argmax_itemsize: ClassVar[int] = 0
    passes_input: ClassVar[bool] = False
    passes_error: ClassVar[bool] = False
    pads_errors: ClassVar[bool] = False
    overwrites_input: ClassVar[bool] = False
    skips_unwanted: ClassVar[bool] = False

    @property
    def differentiates(self) -> str | Activation | None:
        return None if self.pooled else self.activation

    @property
    def saves_output(self) -> bool:
        return self.differentiates is not None

    @property
    def output(self) -> str:
        """Name of the layer whose output this is."""
        return self.layers[-1]

    @abstractmethod
    def forward(self, run: Run, *maps) -> tuple[object, object | None]:
        """(output, argmax or None).

        Args:
            run: the pass.
            maps: the inputs, N x C_i x H_i x W_i each.

        Returns:
            the output, N x K x Ho x Wo with (Ho, Wo) = ``output_size``, and max pooling's argmax,
            of the same shape, if a backward pass follows.
        """

    @abstractmethod
    def backward(self, run: Run, saved: Saved, error, wanted: list[bool]) -> tuple[list, dict]:
        """(an error for each input, gradients by parameter name).

        Args:
            run: the pass.
            saved: what the forward pass saved.
            error: the output's error after ``differentiate``, N x K x Ho x Wo.
            wanted: whether anybody reads an input's error, for each input.

        Returns:
            errors N x C_i x H_i x W_i; one that is not wanted may be None.
        """

    def saved(self, maps, output, argmax) -> Saved:
        """What is saved of a forward pass."""
        shapes, source = tuple(x.shape for x in maps), maps[0] if self.saves_input else None
        return Saved(shapes, source, output if self.saves_output else None, argmax)

    def differentiate(self, run: Run, saved: Saved, error):
        """e * f'(x) for the activation that the step ``differentiates``, else the error itself.

        It takes the place of the output y = f(x), which nothing reads any more, unless this is the
        last step, whose output is the caller's.
        """
        if self.differentiates is None:
            return error
        out = None if self.output == run.result else saved.output
        return run.ops.activation.backward(error, saved.output, self.differentiates, out=out)

    @property
    def learns(self) -> bool:
        """Whether it has parameters."""
        return bool(self.node.parameters)

    def output_size(self, sizes: list[Pair]) -> Pair:
        """Rows and columns of the output for inputs of ``sizes``."""
        return sizes[0]

    def batch(self, inputs: list[Shape]) -> int:
        """Maps of the output's batch for ``inputs`` N x C x H x W."""
        return inputs[0][0]

    def channels(self, inputs: list[Shape]) -> int:
        """Channels of the output for ``inputs`` N x C x H x W."""
        return self.node.output.channels

    def host_workspaces(self, sizes: StepSizes) -> Workspaces:
        """What its operators work in on the host."""
        return Workspaces()

    def device_workspaces(self, sizes: StepSizes) -> Workspaces:
        """What its operators work in on a device, at most; without what is small beside maps."""
        return Workspaces()


@dataclass(frozen=True)
class _WindowStep(Step):
    window: Window

    @property
    def moves(self):
        """The window's stride and dilation, as operators take them."""
        return {"stride": self.window.stride, "dilation": self.window.dilation}

    def output_size(self, sizes):
        return self.window.output_size(sizes[0])


@dataclass(frozen=True)
class ConvolutionStep(_WindowStep):
    """A convolution and, where one follows, its activation. ``folded`` is the batch normalisation
    in between, where it became part of the weights."""

    folded: BatchNormStep | None = None

    saves_input: ClassVar[bool] = True
    skips_unwanted: ClassVar[bool] = True

    @property
    def takes_activation(self):
        return self.activation is None

    @property
    def takes_normalization(self):
        return self.activation is self.folded is None

    def forward(self, run, x):
        weights, bias = self._parameters(run.arrays)
        if self.folded:
            weights, bias = self.folded.fold(run, weights, bias)
        return self._convolved(run.ops, x, weights, bias), None

    def backward(self, run, saved, error, wanted):
        weights, bias = self._parameters(run.arrays)
        by_weights = self._by_weights(run.ops, saved.input, error, weights)
        gradients = {f"{self.node.name}.weights": by_weights}
        if bias is not None:
            gradients[f"{self.node.name}.bias"] = run.ops.convolution.gradient_bias(error)
        if not wanted[0]:
            return [None], gradients
        return [self._by_input(run.ops, error, weights, saved.shapes[0][2:])], gradients

    def _convolved(self, ops, x, weights, bias):
        options = self.moves | {"activation": self.activation}
        return ops.convolution.forward(x, weights, bias, **options)

    def _by_weights(self, ops, x, error, weights):
        return ops.convolution.gradient_weights(x, error, self.window.kernel, **self.moves)

    def _by_input(self, ops, error, weights, size):
        return ops.convolution.gradient_input(error, weights, size, **self.moves)

    def host_workspaces(self, sizes):
        shape, pixels = self.node.weights_shape, sizes.output[0] * prod(sizes.output[2:])
        weights, sums = sizes.nbytes(shape), partial_shape(shape, pixels, sizes.itemsize)

        maps = sizes.inputs[0], sizes.output, self.window, sizes.itemsize
        over_errors = error_bytes(*maps) if self.window.stride == (1, 1) else 0

        def correlating(filled, at_least=0):
            a_thread = thread_bytes(filled, self.window.kernel, sizes.itemsize)
            parts = filled[0] * filled[2]
            return Workspace((weights,), max(a_thread, at_least), parts=parts)

        return Workspaces(
            copies=(weights,) if self.folded else (),
            forward=correlating(sizes.output),
            gradients=Workspace(
                (sizes.nbytes(sums),), packed_error_bytes(pixels), parts=sums[0] * shape[0]
            ),
            errors=correlating(sizes.inputs[0], over_errors),
        )

    def device_workspaces(self, sizes):
        pixels = sizes.output[0] * prod(sizes.output[2:])
        weights = sizes.nbytes(self.node.weights_shape)
        packed = Workspace((weights,))
        return Workspaces(
            copies=(weights,) if self.folded else (),
            forward=packed,
            gradients=Workspace((partial_bytes(weights, pixels),)),
            errors=packed,
        )

    def _parameters(self, arrays):
        return arrays[f"{self.node.name}.weights"], arrays.get(f"{self.node.name}.bias")


@dataclass(frozen=True)
class MaxPoolStep(_WindowStep):
    """Max pooling and its activation, or the derivative of the one ``in_front``: only a window's
    maximum, whose value is the pooled one, receives a gradient."""

    in_front: str | Activation | None = None

    @property
    def takes_activation(self):
        return self.activation is self.in_front is None

    @property
    def differentiates(self):
        return None if self.pooled else self.activation or self.in_front

    @property
    def argmax_itemsize(self):
        return np.dtype(argmax_dtype(self.window)).itemsize

    def forward(self, run, x):
        options = self.moves | {"activation": self.activation, "argmax": run.backward}
        return run.ops.max_pooling.forward(x, self.window.kernel, **options)

    def backward(self, run, saved, error, wanted):
        window = saved.shapes[0][2:], self.window.kernel
        return [run.ops.max_pooling.backward(error, saved.argmax, *window, **self.moves)], {}

    def host_workspaces(self, sizes):
        width = sizes.inputs[0][3]
        shape = sizes.output, sizes.itemsize, sizes.backward
        return Workspaces(forward=Workspace((), *rows_of_maxima(self.window, width, *shape)))


@dataclass(frozen=True)
class AveragePoolStep(_WindowStep):
    def forward(self, run, x):
        return run.ops.average_pooling.forward(x, self.window.kernel, **self.moves), None

    def backward(self, run, saved, error, wanted):
        window = saved.shapes[0][2:], self.window.kernel
        return [run.ops.average_pooling.backward(error, *window, **self.moves)], {}


@dataclass(frozen=True)
class ActivationStep(Step):
    """An activation of its own."""

    passes_error: ClassVar[bool] = True

    def forward(self, run, x):
        return run.ops.activation.forward(x, self.activation), None

    def backward(self, run, saved, error, wanted):
        return [error], {}


@dataclass(frozen=True)
class BatchNormStep(Step):
    """Frozen batch normalisation and, where one follows, its activation, whose derivative its own
    operator takes. The error ``overwrites_input`` where nothing else reads the input any more."""

    epsilon: float
    overwrites_input: bool = field(default=False, kw_only=True)

    normalizes: ClassVar[bool] = True
    saves_input: ClassVar[bool] = True
    differentiates: ClassVar[None] = None

    @property
    def takes_activation(self):
        return self.activation is None

    @property
    def saves_output(self):
        return self.activation is not None and not self.pooled

    def forward(self, run, x):
        norm = run.ops.batch_normalization
        parts = self._arrays(run, "mean", "variance", "gamma", "beta")
        return norm.forward(x, *parts, self.epsilon, self.activation), None

    def backward(self, run, saved, error, wanted):
        norm, x = run.ops.batch_normalization, saved.input
        parts = self._arrays(run, "mean", "variance", "gamma")
        activation = self.activation if self.saves_output else None
        places = saved.output, x if self.overwrites_input else None
        gradient, gamma, beta = norm.backward(error, x, *parts, self.epsilon, activation, *places)
        name = self.node.name
        return [gradient], {f"{name}.gamma": gamma, f"{name}.beta": beta}

    def fold(self, run, weights, bias):
        """Weights and bias of the convolution in front that computes this step, too."""
        parts = self._arrays(run, "mean", "variance", "gamma", "beta")
        return run.ops.batch_normalization.fold(weights, bias, *parts, self.epsilon)

    def _arrays(self, run, *parts):
        return [run.arrays[f"{self.node.name}.{part}"] for part in parts]


@dataclass(frozen=True)
class SoftmaxStep(Step):
    saves_output: ClassVar[bool] = True

    def forward(self, run, x):
        return run.ops.softmax.forward(x), None

    def backward(self, run, saved, error, wanted):
        return [run.ops.softmax.backward(error, saved.output)], {}


@dataclass(frozen=True)
class DropoutStep(Step):
    """``number`` of the layer in the net, and ``spacing`` of its cells in the dense map."""

    rate: float
    number: int
    spacing: Pair

    passes_input: ClassVar[bool] = True
    passes_error: ClassVar[bool] = True

    def forward(self, run, x):
        return self._dropped(run, x), None

    def backward(self, run, saved, error, wanted):
        return [self._dropped(run, error)], {}

    def _dropped(self, run, x):
        learning = run.learning
        if learning is None:
            return x
        key = (learning.seed, learning.step, self.number)
        options = {"spacing": self.spacing, "rate": self.rate, "key": key}
        return run.ops.dropout.apply(x, *self._places(learning), **options)

    def _places(self, learning):
        """Where cell (0, 0) of each map lies in the dense map."""
        return learning.rows, learning.columns
