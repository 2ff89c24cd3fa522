"""What a backend executes: one step for each layer, the same for the patch net and its dense form.

The two forms differ only in numbers (``steps_of``): a window's stride and dilation, and a crop's
margins. ``forward`` returns the output and what ``backward`` will need; ``backward`` returns an
error for each input (None where nobody wants one) and the gradients by parameter name, after
``differentiate`` took the error through the activation that the step ends in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kernels import Backend
from kernels.activation import Activation
from kernels.checks import Margins, Pair
from kernels.window import Window
from net.graph import Net, Node
from net.layers import (
    ActivationLayer,
    AdaptiveAveragePool,
    AdaptiveMaxPool,
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Convolution,
    Crop,
    Dropout,
    FullyConnected,
    MaxPool,
    Softmax,
    dense_window,
)

FORMS = ("patch", "dense")


@dataclass(frozen=True)
class Step:
    """One layer, and those that follow it where they are computed in one go.

    Attributes:
        layers: names of the layers that it computes.
        inputs: names of the layers whose outputs it reads.
        node: the first of its layers in the net.
        drops: those of its inputs that no later step reads.
    """

    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    node: Node
    drops: frozenset[str] = field(default=frozenset(), kw_only=True)

    @property
    def output(self) -> str:
        """Name of the layer whose output this is."""
        return self.layers[-1]

    def activated(self, kept):
        """(activation, its output) whose derivative the error takes first; None for none."""
        return None

    def differentiate(self, run, kept, error):
        """e * f'(x) in the place of y = f(x), which nothing reads any more, unless it is the last
        step's output; the error itself where there is no activation."""
        found = self.activated(kept)
        if found is None:
            return error
        activation, y = found
        out = None if self is run.last else y
        return run.ops.activation.backward(error, y, activation, out=out)


@dataclass(frozen=True)
class Learning:
    """What dropout draws its mask from (see ``kernels.dropout``).

    Attributes:
        seed, step: of the training run.
        rows, columns: int32 arrays on the backend, the place of each map in the dense map.
    """

    seed: int
    step: int
    rows: object
    columns: object


@dataclass(frozen=True)
class Run:
    """What the steps of one pass share.

    Attributes:
        ops: the backend.
        arrays: parameters and statistics by name.
        last: the last step, whose output the caller holds.
        learning: None outside of training, where dropout does nothing.
    """

    ops: Backend
    arrays: dict
    last: Step
    learning: Learning | None = None


@dataclass(frozen=True)
class ConvolutionStep(Step):
    """A convolution and, where one follows, its activation.

    Where max pooling follows that, ``pooled``, the pooling step takes care of the activation's
    derivative, so that the map between them is not kept. ``folded`` is the batch normalisation in
    between, where it became part of the weights.
    """

    window: Window
    activation: str | Activation | None = None
    pooled: bool = False
    folded: BatchNormStep | None = None

    def forward(self, run, x):
        weights, bias = self._parameters(run.arrays)
        if self.folded:
            weights, bias = self.folded.fold(run, weights, bias)
        moves = {"stride": self.window.stride, "dilation": self.window.dilation}
        y = run.ops.convolution.forward(x, weights, bias, activation=self.activation, **moves)
        return y, (x, y if self.activation and not self.pooled else None)

    def backward(self, run, kept, error, wanted):
        x, _ = kept
        weights, bias = self._parameters(run.arrays)
        moves = {"stride": self.window.stride, "dilation": self.window.dilation}
        gradient = run.ops.convolution.gradient_weights(x, error, self.window.kernel, **moves)
        gradients = {f"{self.node.name}.weights": gradient}
        if bias is not None:
            gradients[f"{self.node.name}.bias"] = run.ops.convolution.gradient_bias(error)
        if not wanted[0]:
            return [None], gradients
        return [run.ops.convolution.gradient_input(error, weights, x.shape[2:], **moves)], gradients

    def activated(self, kept):
        return None if kept[1] is None else (self.activation, kept[1])

    def _parameters(self, arrays):
        return arrays[f"{self.node.name}.weights"], arrays.get(f"{self.node.name}.bias")


@dataclass(frozen=True)
class MaxPoolStep(Step):
    """Max pooling; with ``activation``, also the derivative of the one in front of it.

    Only a window's largest cell gets an error, and its value is the pooled one: f' needs no other.
    """

    window: Window
    activation: str | Activation | None = None

    def forward(self, run, x):
        w = self.window
        y, argmax = run.ops.max_pooling.forward(x, w.kernel, stride=w.stride, dilation=w.dilation)
        return y, (argmax, x.shape[2:], y if self.activation else None)

    def activated(self, kept):
        return None if kept[2] is None else (self.activation, kept[2])

    def backward(self, run, kept, error, wanted):
        argmax, size, _ = kept
        w = self.window
        moves = {"stride": w.stride, "dilation": w.dilation}
        return [run.ops.max_pooling.backward(error, argmax, size, w.kernel, **moves)], {}


@dataclass(frozen=True)
class AveragePoolStep(Step):
    window: Window

    def forward(self, run, x):
        w = self.window
        y = run.ops.average_pooling.forward(x, w.kernel, stride=w.stride, dilation=w.dilation)
        return y, x.shape[2:]

    def backward(self, run, kept, error, wanted):
        w = self.window
        moves = {"stride": w.stride, "dilation": w.dilation}
        return [run.ops.average_pooling.backward(error, kept, w.kernel, **moves)], {}


@dataclass(frozen=True)
class ActivationStep(Step):
    """An activation; ``pooled`` as in ``ConvolutionStep``."""

    activation: str | Activation
    pooled: bool = False

    def forward(self, run, x):
        y = run.ops.activation.forward(x, self.activation)
        return y, None if self.pooled else y

    def backward(self, run, kept, error, wanted):
        return [error], {}

    def activated(self, kept):
        return None if self.pooled else (self.activation, kept)


@dataclass(frozen=True)
class BatchNormStep(Step):
    """Frozen batch normalisation and, where one follows, its activation.

    ``pooled`` as in ``ConvolutionStep``. The error ``overwrites`` the input, where nothing else
    reads that any more.
    """

    epsilon: float
    activation: str | Activation | None = None
    pooled: bool = False
    overwrites: bool = False

    def forward(self, run, x):
        norm = run.ops.batch_normalization
        parts = self._arrays(run, "mean", "variance", "gamma", "beta")
        y = norm.forward(x, *parts, self.epsilon, self.activation)
        return y, (x, y if self.activation and not self.pooled else None)

    def backward(self, run, kept, error, wanted):
        (x, y), norm = kept, run.ops.batch_normalization
        parts = self._arrays(run, "mean", "variance", "gamma")
        activation = None if y is None else self.activation
        out = x if self.overwrites else None
        gradient, gamma, beta = norm.backward(error, x, *parts, self.epsilon, activation, y, out)
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
    def forward(self, run, x):
        y = run.ops.softmax.forward(x)
        return y, y

    def backward(self, run, kept, error, wanted):
        return [run.ops.softmax.backward(error, kept)], {}


@dataclass(frozen=True)
class DropoutStep(Step):
    rate: float
    number: int
    spacing: Pair

    def forward(self, run, x):
        return self._dropped(run, x), None

    def backward(self, run, kept, error, wanted):
        return [self._dropped(run, error)], {}

    def _dropped(self, run, x):
        learning = run.learning
        if learning is None:
            return x
        key = (learning.seed, learning.step, self.number)
        place = {"spacing": self.spacing, "rate": self.rate, "key": key}
        return run.ops.dropout.apply(x, learning.rows, learning.columns, **place)


@dataclass(frozen=True)
class CropStep(Step):
    margins: Margins

    def forward(self, run, x):
        return run.ops.padding.crop(x, self.margins), None

    def backward(self, run, kept, error, wanted):
        return [run.ops.padding.crop_backward(error, self.margins)], {}


@dataclass(frozen=True)
class _MergeStep(Step):
    """Merges maps after trimming them, at the bottom and right, to their common size."""

    def forward(self, run, *maps):
        height, width = (min(x.shape[axis] for x in maps) for axis in (2, 3))
        margins = [(0, 0, x.shape[2] - height, x.shape[3] - width) for x in maps]
        trimmed = [run.ops.padding.crop(x, m) if any(m) else x for x, m in zip(maps, margins)]
        return self._merge(run.ops, trimmed), (margins, [x.shape[1] for x in maps])

    def backward(self, run, kept, error, wanted):
        margins, channels = kept
        errors = self._split(run.ops, error, channels)
        return [
            run.ops.padding.crop_backward(e, m) if any(m) else e for e, m in zip(errors, margins)
        ], {}


@dataclass(frozen=True)
class AddStep(_MergeStep):
    def _merge(self, ops, maps):
        return ops.merging.add(maps)

    def _split(self, ops, error, channels):
        return [error] * len(channels)


@dataclass(frozen=True)
class ConcatenateStep(_MergeStep):
    def _merge(self, ops, maps):
        return ops.merging.concatenate(maps)

    def _split(self, ops, error, channels):
        return ops.merging.concatenate_backward(error, channels)


def steps_of(net: Net, form: str, *, backward: bool = True) -> list[Step]:
    """The steps of ``net`` in the form ``"patch"`` or ``"dense"``, in order.

    The dense form is the conversion of Li, Zhao & Wang 2014, section 3: every layer keeps its
    parameters, its stride becomes 1 and its entries move the accumulated stride d apart.

    Args:
        backward: without it, batch normalisations become part of the convolutions in front.
    """
    steps: list[Step] = []
    readers = [name for node in net.nodes.values() for name in node.inputs]
    for number, node in enumerate(net.nodes.values()):
        step = _step(node, form, number)
        before = steps[-1] if steps else None
        follows = before and node.inputs == (before.output,) and readers.count(before.output) == 1
        layers = (*before.layers, node.name) if follows else ()
        match step:
            case ActivationStep() if follows and _can_activate(before):
                steps[-1] = replace(before, layers=layers, activation=step.activation)
                continue
            case BatchNormStep() if follows and not backward and _can_fold(before):
                steps[-1] = replace(before, layers=layers, folded=step)
                continue
            case BatchNormStep() if follows and _can_activate(before):
                step = replace(step, overwrites=True)
            case MaxPoolStep() if follows and _activation_of(before):
                steps[-1] = replace(before, pooled=True)
                step = replace(step, activation=before.activation)
        steps.append(step)
    last_reader = {name: step for step in steps for name in step.inputs}
    return [
        replace(step, drops=frozenset(n for n in step.inputs if last_reader[n] is step))
        for step in steps
    ]


def _can_activate(step: Step) -> bool:
    """Whether it is one that keeps nothing of its output."""
    return isinstance(step, ConvolutionStep | BatchNormStep) and step.activation is None


def _can_fold(step: Step) -> bool:
    return isinstance(step, ConvolutionStep) and step.activation is step.folded is None


def _activation_of(step: Step) -> str | Activation | None:
    activates = ConvolutionStep | BatchNormStep | ActivationStep
    return step.activation if isinstance(step, activates) else None


def _step(node: Node, form: str, number: int) -> Step:
    layer, place = node.layer, ((node.name,), node.inputs, node)
    window, spacing = node.window, node.sources[0].spacing
    if window is not None and form == "dense":
        window = dense_window(window, spacing)
    match layer:
        case Convolution() | FullyConnected():
            return ConvolutionStep(*place, window)
        case MaxPool() | AdaptiveMaxPool():
            return MaxPoolStep(*place, window)
        case AveragePool() | AdaptiveAveragePool():
            return AveragePoolStep(*place, window)
        case ActivationLayer():
            return ActivationStep(*place, layer.activation)
        case BatchNorm():
            return BatchNormStep(*place, layer.epsilon)
        case Softmax():
            return SoftmaxStep(*place)
        case Dropout():
            return DropoutStep(*place, layer.rate, number, (1, 1) if form == "dense" else spacing)
        case Crop():
            apart = spacing * 2 if form == "dense" else (1, 1, 1, 1)
            return CropStep(*place, tuple(m * d for m, d in zip(layer.margins, apart)))
        case Add():
            return AddStep(*place)
        case Concatenate():
            return ConcatenateStep(*place)
    raise TypeError(f"layer {node.name!r} is a {type(layer).__name__}, which no step computes")
