"""Nets as modules of PyTorch, in either form."""

from __future__ import annotations

import operator
from collections import OrderedDict
from functools import reduce
from math import prod

import numpy as np

from kernels import checks
from kernels.activation import activation_of
from net.exchange.activations import counterpart_of
from net.exchange.forms import placed, unread
from net.extras import framework
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
from net.maps import Map
from net.nodes import IMAGE


def to_torch(net: Net, *, dense: bool = False):
    """The net as a module of PyTorch, in eval mode, on the host, with a copy of its arrays.

    A chain of layers is an ``nn.Sequential``, another net a ``torch.fx.GraphModule``. Neither needs
    this package, to run or to be loaded by ``torch.load``.

    Args:
        net: the net, written in its dtype.
        dense: False: the patch net, N x C x p x p to N x K. True: its dense form, N x C x H x W of
            any size from the patch on to N x K x (H - p + 1) x (W - p + 1): the scores that
            ``Dense`` gives with the border ``"valid"``. For the others, pad the image by
            ``net.images.patch_margins(net.patch)`` first.

    Returns:
        ``torch.nn.Module``.

    Raises:
        ImportError: PyTorch is not installed.

    >>> from net.layers import Convolution, FullyConnected, MaxPool, ReLU
    >>> layers = [Convolution(4, 3), ReLU(), MaxPool(2), FullyConnected(3)]
    >>> net = Net(layers, channels=1, patch=8, backend="cpu")
    >>> to_torch(net, dense=True).fc1
    Conv2d(4, 3, kernel_size=(3, 3), stride=(1, 1), dilation=(2, 2))
    """
    checks.instance("net", net, Net)
    return _TorchWriter(net, checks.flag("dense", dense)).module()


class _TorchWriter:
    """Writes layers, one after the other, into a graph of ``torch.fx``.

    Attributes:
        modules: by name, those that the graph calls.
        values: the nodes of the graph that stand for the net's maps, by layer.
        flat: the layers whose output is N x K, where others' is N x K x h x w.
    """

    def __init__(self, net: Net, dense: bool):
        self.torch, self.net, self.dense = framework("torch"), net, dense
        self.nn = self.torch.nn
        self.state = net.state()
        self.graph = self.torch.fx.Graph()
        self.modules: OrderedDict = OrderedDict()
        self.values = {IMAGE: self.graph.placeholder(IMAGE)}
        self.flat: set[str] = set()

    def module(self):
        """What ``to_torch`` gives."""
        if self.dense:
            self.values[IMAGE] = self._cropped(self.values[IMAGE], unread(self.net), "read")
        for one in placed(self.net, self.dense):
            self._write(one)
        output = self._shaped(next(reversed(self.net.nodes)), flat=not self.dense)
        called = [node for node in self.graph.nodes if node.op != "placeholder"]
        is_chain = all(n.op == "call_module" and n.args == (n.prev,) for n in called)
        self.graph.output(output)
        if is_chain:
            return self.nn.Sequential(self.modules).eval()
        return self.torch.fx.GraphModule(dict(self.modules), self.graph).eval()

    def _write(self, one):
        node, layer = one.node, one.node.layer
        needs_map = one.window is not None or isinstance(layer, Crop)
        flat = not self.dense and not needs_map and any(n in self.flat for n in node.inputs)
        flat |= not self.dense and isinstance(layer, FullyConnected)
        inputs = [self._shaped(name, flat) for name in node.inputs]
        inputs = [self._cropped(x, m, node.name) for x, m in zip(inputs, one.margins)]
        if flat:
            self.flat.add(node.name)
        match layer:
            case Crop():
                value = inputs[0]
            case Add():
                value = reduce(lambda *pair: self._function(operator.add, pair, node.name), inputs)
            case Concatenate():
                value = self._function(self.torch.cat, (tuple(inputs), 1), node.name)
            case _:
                value = self._called(node.name, self._module(one, flat), inputs[0])
        self.values[node.name] = value

    def _shaped(self, name, flat):
        """The value of a layer, N x K if ``flat``, else N x K x h x w."""
        value, (height, width) = self.values[name], self._map(name).size
        if flat and name not in self.flat:
            return self._called("flatten", self.nn.Flatten(), value)
        if not flat and name in self.flat:
            shape = (self._map(name).channels, height, width)
            return self._called("unflatten", self.nn.Unflatten(1, shape), value)
        return value

    def _map(self, name):
        if name == IMAGE:
            return Map(self.net.channels, self.net.patch, (1, 1), (1, 1))
        return self.net.nodes[name].output

    def _called(self, name, module, value):
        """The value that a module makes of another; it is called ``name``, or like it."""
        name = name.replace(".", "_")
        while name in self.modules or hasattr(self.torch.fx.GraphModule, name):
            name += "_"
        self.modules[name] = module
        return self.graph.call_module(name, (value,))

    def _function(self, function, arguments, name):
        return self.graph.create_node("call_function", function, tuple(arguments), name=name)

    def _cropped(self, value, margins, name):
        if not any(margins):
            return value
        top, left, bottom, right = margins
        inside = (..., slice(top, -bottom or None), slice(left, -right or None))
        return self._function(operator.getitem, (value, inside), name)

    def _module(self, one, flat):
        nn, node, layer = self.nn, one.node, one.node.layer
        channels, window = node.output.channels, one.window
        match layer:
            case FullyConnected() if flat:
                weights = self.state[f"{node.name}.weights"].reshape(channels, -1)
                return self._weighted(nn.Linear, weights, node)
            case Convolution() | FullyConnected():
                weights = self.state[f"{node.name}.weights"]
                return self._weighted(nn.Conv2d, weights, node, **_options(window))
            case AdaptiveMaxPool() if not self.dense:
                return nn.AdaptiveMaxPool2d(layer.bins)
            case AdaptiveAveragePool() if not self.dense:
                return nn.AdaptiveAvgPool2d(layer.bins)
            case MaxPool() | AdaptiveMaxPool():
                return nn.MaxPool2d(window.kernel, window.stride, dilation=window.dilation)
            case AveragePool() | AdaptiveAveragePool() if window.dilation == (1, 1):
                return nn.AvgPool2d(window.kernel, window.stride)
            case AveragePool() | AdaptiveAveragePool():
                return self._mean(window, channels)
            case BatchNorm():
                return self._normalization(nn.BatchNorm1d if flat else nn.BatchNorm2d, node)
            case ActivationLayer() if there := counterpart_of(layer.activation):
                parameter = activation_of(layer.activation).parameter
                return getattr(nn, there.module)(*(() if parameter is None else (parameter,)))
            case Softmax():
                return nn.Softmax(dim=1)
            case Dropout():
                return nn.Dropout(layer.rate)
        raise TypeError(f"layer {node.name!r} is a {type(layer).__name__}, which PyTorch has not")

    def _weighted(self, kind, weights, node, **options):
        """A module with weights, made without drawing from PyTorch's random numbers."""
        sizes = weights.shape[1], weights.shape[0]
        module = self._skipping(kind, *sizes, bias=node.layer.bias, **options)
        self._set(module.weight, weights)
        if node.layer.bias:
            self._set(module.bias, self.state[f"{node.name}.bias"])
        return module

    def _mean(self, window, channels):
        """The mean of spaced cells, which ``AvgPool2d`` has not, by weights that do not learn."""
        options = _options(window) | {"groups": channels, "bias": False}
        module = self._skipping(self.nn.Conv2d, channels, channels, **options)
        self._set(module.weight, np.array(1 / prod(window.kernel)))
        module.weight.requires_grad_(False)
        return module

    def _skipping(self, kind, *sizes, **options):
        dtype = getattr(self.torch, self.net.dtype)
        return self.nn.utils.skip_init(kind, *sizes, **options, dtype=dtype)

    def _normalization(self, kind, node):
        dtype = getattr(self.torch, self.net.dtype)
        module = kind(node.output.channels, eps=node.layer.epsilon, dtype=dtype)
        arrays = {"weight": "gamma", "bias": "beta"}
        arrays |= {"running_mean": "mean", "running_var": "variance"}
        for theirs, ours in arrays.items():
            self._set(getattr(module, theirs), self.state[f"{node.name}.{ours}"])
        return module

    def _set(self, tensor, values):
        with self.torch.no_grad():
            tensor.copy_(self.torch.as_tensor(values))


def _options(window):
    return {"kernel_size": window.kernel, "stride": window.stride, "dilation": window.dilation}
