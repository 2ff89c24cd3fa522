"""A traced module of PyTorch, read operation by operation into layers and arrays."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from net.exchange.activations import COUNTERPARTS
from net.exchange.torch_arguments import (
    bins_of,
    is_mean,
    margins_of,
    one,
    padding_of,
    refuse_indices,
    stride_of,
    takes_the_vector,
)
from net.exchange.torch_graph import Traced
from net.exchange.torch_operations import REASONS, SUPPORTED, tells_a_size
from net.layers import (
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
    Layer,
    MaxPool,
    Softmax,
)
from net.maps import Map, NotConvertible
from net.nodes import IMAGE
from net.tables import by

SAMPLES = 3
"""Patches that run through the module while it is read."""


class Value(NamedTuple):
    """What a tensor of the module is in the net.

    Attributes:
        name: name of the layer.
        map: the map that it makes.
        flat: whether PyTorch holds it as N x (C * h * w), not as N x C x h x w.
    """

    name: str
    map: Map
    flat: bool = False

    @property
    def axes(self) -> int:
        """Number of axes of PyTorch's tensor."""
        return 2 if self.flat else 4

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of PyTorch's tensor."""
        whole = (self.map.channels, *self.map.size)
        return (SAMPLES, prod(whole)) if self.flat else (SAMPLES, *whole)


class ModuleReader:
    """Reads a traced module, running it on some patches on the way.

    Args:
        traced: the module, in eval mode.
        patch: rows and columns of the patch.
        channels: number of channels of the image.
        dtype: ``torch.dtype`` of the weights.

    Attributes:
        layers: the net's layers, in order.
        arrays: arrays of the net's state, by name.

    Raises:
        NotConvertible: something has no exact dense form, or is not supported.
    """

    def __init__(self, traced: Traced, patch, channels, dtype):
        self.layers: list[Layer] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._traced = traced
        self._values: dict = {}
        self._results: dict = {}
        self._owners: dict[int, str] = {}
        self._image = Value(IMAGE, Map(channels, patch, (1, 1), (1, 1)))
        self._sample = traced.torch.zeros(self._image.shape, dtype=dtype)
        for node in traced.nodes:
            self._read(node)

    def _read(self, node):
        if node.op == "placeholder":
            if self._values:
                raise NotConvertible(
                    f"module: it takes {node.name!r} beside the image; expected the image alone"
                )
            self._values[node], self._results[node] = self._image, self._sample
        elif node.op == "get_attr":
            self._results[node] = self._traced.constant(node)
        elif node.op == "output":
            self._check_output(node.args[0])
        else:
            self._read_call(node)

    def _read_call(self, node):
        name, operation, options = self._traced.call(node)
        of_image = any(given in self._values for given in node.all_input_nodes)
        try:
            if of_image and not tells_a_size(node):
                if operation is None:
                    why = f"it is not supported; expected {SUPPORTED}"
                    raise NotConvertible(REASONS.get(name, why))
                read = self._reading(operation.kind)
                options = dict(self._traced.torch.fx.node.map_arg(options, self._number))
                first = operation.arguments[0]
                if first == "input":
                    options[first] = self._made(options.get(first))
                self._values[node] = read(node, **options)
            self._results[node] = self._traced.run(node, self._results)
        except (TypeError, ValueError) as refusal:
            raise NotConvertible(f"{self._traced.path(node)}: {name}: {refusal}") from None

    def _reading(self, kind):
        """The method that reads an operation."""
        if kind in COUNTERPARTS:
            return partial(self._activation, COUNTERPARTS[kind].layer)
        return getattr(self, f"_{kind}")

    def _check_output(self, output):
        value = self._values.get(output) if self._traced.is_node(output) else None
        if value is None or not self.layers or value.name != self.layers[-1].name:
            raise NotConvertible(
                "module: it does not return what its last layer makes; expected one tensor of "
                "scores, N x K"
            )

    def _made(self, given) -> Value:
        if not self._traced.is_node(given) or given not in self._values:
            raise NotConvertible(
                "it reads a number, or a tensor that is not made of the image; expected maps alone"
            )
        return self._values[given]

    def _number(self, node):
        """Numbers that the module computes from sizes, for this patch; other nodes stay."""
        is_tensor = node in self._values or node.op == "get_attr"
        return node if is_tensor else self._results[node]

    def _added(self, node, layer: Layer, *values: Value, flat: bool | None = None) -> Value:
        """The value of a new layer."""
        name = (node.target if node.op == "call_module" else node.name).replace(".", "_")
        taken = {IMAGE, *(layer.name for layer in self.layers)}
        name = node.name if name in taken else name
        while name in taken:
            name += "_"
        before = self.layers[-1].name if self.layers else IMAGE
        inputs = tuple(value.name for value in values)
        layer = replace(layer, name=name, inputs=None if inputs == (before,) else inputs)
        output = layer.output([value.map for value in values])
        self.layers.append(layer)
        return Value(name, output, values[0].flat if flat is None else flat)

    def _take(self, layer: Value, part: str, tensor, shape=None):
        """Take over an array of a layer; None leaves the net's own."""
        tensor = self._traced.constant(tensor)
        if tensor is None:
            return
        owner = self._owners.setdefault(id(tensor), layer.name)
        if owner != layer.name:
            raise NotConvertible(
                f"its {part} are those of {owner} too, and would be learned apart; expected a "
                "module of its own at each place"
            )
        array = np.array(tensor.detach().numpy())
        self.arrays[f"{layer.name}.{part}"] = array if shape is None else array.reshape(shape)

    # The operations, by the names of PyTorch's arguments

    def _conv(self, node, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        tensor = self._traced.constant(weight)
        filters, channels, *kernel = tensor.shape
        window = {"stride": one(stride), "dilation": one(dilation)}
        padding = padding_of(padding, kernel, dilation)
        if groups == filters and bias is None and is_mean(tensor):
            layer = AveragePool(one(kernel), padding=padding, **window)
            return self._added(node, layer, _a_map(input))
        if groups != 1:
            raise NotConvertible(
                f"its {groups} groups have no layer here; expected groups=1: a convolution with "
                "zeros between the groups has the same scores, but learns them too"
            )
        if channels != input.map.channels:
            raise ValueError(
                f"it reads {channels} channels; expected {input.map.channels}, as it is given"
            )
        layer = Convolution(filters, one(kernel), padding=padding, bias=bias is not None, **window)
        value = self._added(node, layer, _a_map(input))
        self._take(value, "weights", weight)
        self._take(value, "bias", bias)
        return value

    def _linear(self, node, input, weight, bias=None):
        features, reads = self._traced.constant(weight).shape
        if not input.flat:
            raise NotConvertible(
                "it reads the last axis of a map; expected Flatten in front of it, or Conv2d with "
                "a kernel of 1"
            )
        channels, size = input.map.channels, input.map.size
        if reads != prod((channels, *size)):
            raise ValueError(
                f"it reads {reads} numbers; a patch of {by(self._image.map.size)} leaves "
                f"{channels} x {by(size)} in front of it; expected another patch"
            )
        value = self._added(node, FullyConnected(features, bias=bias is not None), input)
        self._take(value, "weights", weight, (features, channels, *size))
        self._take(value, "bias", bias)
        return value

    def _max_pool(
        self,
        node,
        input,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        return_indices=False,
    ):
        refuse_indices(return_indices)
        kernel, padding = one(kernel_size), padding_of(padding)
        layer = MaxPool(kernel, stride_of(stride, kernel), one(dilation), padding, ceil_mode)
        return self._added(node, layer, _a_map(input))

    def _average_pool(
        self,
        node,
        input,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ):
        if divisor_override is not None:
            raise NotConvertible(
                f"divisor_override={divisor_override}; expected None, the mean of the window"
            )
        kernel = one(kernel_size)
        layer = AveragePool(kernel, stride_of(stride, kernel), 1, padding_of(padding), ceil_mode)
        return self._added(node, layer, _a_map(input))

    def _adaptive_max_pool(self, node, input, output_size, return_indices=False):
        refuse_indices(return_indices)
        return self._added(
            node, AdaptiveMaxPool(bins_of(output_size, input.map.size)), _a_map(input)
        )

    def _adaptive_average_pool(self, node, input, output_size):
        return self._added(
            node, AdaptiveAveragePool(bins_of(output_size, input.map.size)), _a_map(input)
        )

    def _global_mean(self, node, input, dim=None, keepdim=False, dtype=None):
        return self._global(node, AdaptiveAveragePool(1), input, dim, keepdim)

    def _global_max(self, node, input, dim=(), keepdim=False):
        return self._global(node, AdaptiveMaxPool(1), input, dim, keepdim)

    def _global(self, node, layer, input, dim, keepdim):
        dims = dim if isinstance(dim, tuple | list) else (dim,)
        if input.flat or {None if one is None else one % 4 for one in dims} != {2, 3}:
            raise NotConvertible(
                f"it is taken over the axes {dim}; expected (2, 3), rows and columns of a map"
            )
        return self._added(node, layer, input, flat=not keepdim)

    def _batch_norm(
        self,
        node,
        input,
        running_mean,
        running_var,
        weight=None,
        bias=None,
        training=False,
        momentum=None,
        eps=1e-5,
    ):
        if running_mean is None or (training and node.op != "call_module"):
            raise NotConvertible(
                "it takes its statistics over the batch, so a patch's scores would depend on the "
                "other patches; expected running statistics and module.eval()"
            )
        if input.flat and input.map.size != (1, 1):
            raise NotConvertible(
                f"it normalises each cell of a map of {by(input.map.size)} by itself; expected it "
                "in front of Flatten, or behind Linear"
            )
        value = self._added(node, BatchNorm(eps), input)
        parts = {"mean": running_mean, "variance": running_var, "gamma": weight, "beta": bias}
        for part, tensor in parts.items():
            self._take(value, part, tensor)
        return value

    def _activation(self, layer, node, input, inplace=False, **parameter):
        return self._added(node, layer(**parameter), input)

    def _softmax(self, node, input, dim=1, dtype=None):
        if (1 if dim is None else dim) % input.axes != 1 or (
            input.flat and input.map.size != (1, 1)
        ):
            raise NotConvertible(
                f"dim={dim} of a tensor of {input.axes} axes; expected 1, the channels of a map or "
                "of a vector"
            )
        return self._added(node, Softmax(), input)

    def _dropout(self, node, input, p=0.5, training=True, inplace=False):
        if training and node.op != "call_module":
            raise NotConvertible(
                "training=True; expected training=self.training, and module.eval() before it is "
                "taken over"
            )
        return self._added(node, Dropout(p), input) if p else input

    def _add(self, node, input, other, alpha=1):
        other = self._made(other)
        if alpha != 1 or input.flat != other.flat:
            raise NotConvertible(
                f"it adds {alpha} times a tensor of {other.axes} axes to one of {input.axes}; "
                "expected two maps, or two vectors, as they are"
            )
        return self._added(node, Add(), input, other)

    def _cat(self, node, tensors, dim=0):
        values = [self._made(tensor) for tensor in tensors]
        if len({value.flat for value in values}) > 1 or dim % values[0].axes != 1:
            raise NotConvertible(f"dim={dim}; expected 1, the channels of maps or of vectors")
        return self._added(node, Concatenate(), *values) if len(values) > 1 else values[0]

    def _crop(self, node, input, index):
        if input.map.size == (1, 1) and takes_the_vector(index):
            return input._replace(flat=True)
        margins = margins_of(index, _a_map(input).shape)
        return self._added(node, Crop(margins), input) if any(margins) else input

    def _same(self, node, input, **_):
        return input

    def _reshape(self, node, input, *_, **__):
        shape = tuple(self._traced.run(node, self._results).shape)
        for flat in (False, True):
            value = input._replace(flat=flat)
            if shape == value.shape:
                return value
        raise NotConvertible(
            f"it makes {_times(shape)} of {_times(input.shape)}; expected N x (C * h * w), as "
            "Flatten makes it, or back"
        )


def _times(shape):
    return " x ".join(map(str, shape))


def _a_map(value: Value) -> Value:
    if value.flat:
        raise NotConvertible("it reads vectors; expected a map, N x C x h x w")
    return value
