"""From layers to steps: the conversion of Li, Zhao & Wang 2014, section 3.

Every layer of the patch net keeps its parameters in the dense form. Its stride becomes 1, and its
kernel is dilated by d, the product of all preceding strides: a d-regularly sparse kernel. Layers
that an operator computes in one go become one step.
"""

from __future__ import annotations

from dataclasses import replace

from kernels import checks
from kernels.checks import Pair
from kernels.window import Window
from net.branch_steps import AddStep, ConcatenateStep, CropStep
from net.graph import Net
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
)
from net.nodes import Node
from net.steps import (
    ActivationStep,
    AveragePoolStep,
    BatchNormStep,
    ConvolutionStep,
    DropoutStep,
    MaxPoolStep,
    SoftmaxStep,
    Step,
)

FORMS = ("patch", "dense")


def dense_window(window: Window, spacing: Pair) -> Window:
    """The window's dense form: stride 1, entries ``spacing`` times as far apart.

    >>> dense_window(Window((3, 3), stride=(2, 2)), (4, 8))
    Window(kernel=(3, 3), stride=(1, 1), dilation=(4, 8))
    """
    checks.instance("window", window, Window)
    spacing = checks.pair("spacing", spacing)
    dilation = tuple(e * d for e, d in zip(window.dilation, spacing))
    return Window(window.kernel, (1, 1), dilation)


def steps_of(net: Net, form: str, *, backward: bool = True) -> list[Step]:
    """The steps of ``net`` in the form ``"patch"`` or ``"dense"``, in order.

    An activation becomes part of the convolution, batch normalisation or max pooling that it
    follows. Max pooling behind an activation takes over its derivative; a second activation behind
    it is a step of its own.

    Args:
        backward: whether a backward pass follows. If none does, batch normalisations are folded
            into the convolutions in front of them.

    Raises:
        TypeError, ValueError: no net, or another form.

    >>> from net import zoo
    >>> net = zoo.build("lenet28", backend="reference")
    >>> for step in steps_of(net, "dense")[:3]:
    ...     print(step.layers, step.window.stride, step.window.dilation)
    ('conv1', 'relu1') (1, 1) (1, 1)
    ('max1',) (1, 1) (1, 1)
    ('conv2', 'relu2') (1, 1) (2, 2)
    """
    checks.instance("net", net, Net)
    checks.choice("form", form, FORMS)
    checks.flag("backward", backward)
    steps: list[Step] = []
    readers = [name for node in net.nodes.values() for name in node.inputs]
    for number, node in enumerate(net.nodes.values()):
        step = _step(node, form, number)
        before = steps[-1] if steps else None
        follows = before and node.inputs == (before.output,) and readers.count(before.output) == 1
        layers = (*before.layers, node.name) if follows else ()
        match step:
            case ActivationStep() if follows and before.takes_activation:
                steps[-1] = replace(before, layers=layers, activation=step.activation)
                continue
            case BatchNormStep() if follows and not backward and before.takes_normalization:
                steps[-1] = replace(before, layers=layers, folded=step)
                continue
            case BatchNormStep() if follows and before.takes_activation:
                step = replace(step, overwrites_input=True)
            case MaxPoolStep() if follows and before.activation:
                steps[-1] = replace(before, pooled=True)
                step = replace(step, in_front=before.activation)
        steps.append(step)
    return with_drops(steps)


def with_drops(steps: list[Step]) -> list[Step]:
    """The steps, each of which drops the inputs that no later one reads.

    >>> from net import zoo
    >>> steps = steps_of(zoo.build("lenet28", backend="reference"), "dense")
    >>> [sorted(step.drops) for step in with_drops(steps[:3])]
    [['image'], ['relu1'], ['max1']]
    """
    last_reader = {name: step for step in steps for name in step.inputs}
    return [
        replace(step, drops=frozenset(n for n in step.inputs if last_reader[n] is step))
        for step in steps
    ]


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
            return ActivationStep(*place, activation=layer.activation)
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
