"""Layers as ONNX nodes: one each in float32; composed where float64 lacks an operator.

ONNX Runtime executes neither Conv nor AveragePool nor Elu in float64, and attributes such as an
epsilon are float32 whatever the maps are. There a convolution is the sum over its taps of what a
1 x 1 layer makes of the map that the tap sees.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from kernels.activation import Activation, activation_of
from kernels.window import Window
from net.exchange.activations import counterpart_of

END = np.iinfo(np.int64).max


class Nodes:
    """Nodes and arrays of a graph of ONNX, of one float dtype; methods give names of outputs."""

    def __init__(self, dtype: str):
        self.dtype = np.dtype(dtype)
        self.exact = dtype == "float32"  # whether the nodes that ONNX has will do
        self._nodes: list[tuple] = []
        self._arrays: dict[str, np.ndarray] = {}

    def written(self, onnx) -> tuple[list, list]:
        """The nodes and the arrays as ONNX has them."""
        nodes = [
            onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)
            for kind, inputs, output, attributes in self._nodes
        ]
        arrays = self._arrays.items()
        return nodes, [onnx.numpy_helper.from_array(array, name) for name, array in arrays]

    def add(self, kind: str, inputs, *, output: str | None = None, **attributes) -> str:
        """A node; ``inputs`` are names, or arrays that the model holds."""
        output = output or f"{kind}_{len(self._nodes)}"
        names = [one if isinstance(one, str) else self._held(one) for one in inputs]
        self._nodes.append((kind, names, output, attributes))
        return output

    def _held(self, array) -> str:
        name = f"array_{len(self._arrays)}"
        self._arrays[name] = np.ascontiguousarray(array)
        return name

    def _number(self, value):
        return np.array(value, self.dtype)

    def sum(self, maps) -> str:
        """Left to right."""
        total, *more = maps
        for one in more:
            total = self.add("Add", [total, one])
        return total

    def cropped(self, x: str, margins) -> str:
        """``x`` without margins (top, left, bottom, right)."""
        top, left, bottom, right = margins
        return self._sliced(x, (top, left), (-bottom or END, -right or END)) if any(margins) else x

    def _sliced(self, x, starts, ends, steps=(1, 1)):
        places = (np.array(one, np.int64) for one in (starts, ends, (2, 3), steps))
        return self.add("Slice", [x, *places])

    def convolution(self, x: str, window: Window, weights, bias=None) -> str:
        """With weights K x C x kh x kw, and a bias of K or None."""
        if self.exact:
            arrays = [weights] if bias is None else [weights, bias]
            return self.add("Conv", [x, *arrays], **_options(window))
        of_taps = weights.reshape(*weights.shape[:2], -1).transpose(2, 0, 1)
        taps = zip(self._taps(x, window), of_taps)
        maps = [self.add("Einsum", [tap, w], equation="nchw,kc->nkhw") for tap, w in taps]
        return self.sum(maps if bias is None else [*maps, bias[:, None, None]])

    def maximum(self, x: str, window: Window) -> str:
        """Over a window."""
        return self.add("MaxPool", [x], **_options(window))

    def mean(self, x: str, window: Window, channels: int) -> str:
        """Over a window. AveragePool has no dilations before opset 19."""
        share = self._number(1 / prod(window.kernel))
        if not self.exact:
            return self.add("Mul", [self.sum(self._taps(x, window)), share])
        if window.dilation == (1, 1):
            options = _options(window)
            del options["dilations"]
            return self.add("AveragePool", [x], **options)
        weights = np.full((channels, 1, *window.kernel), share)
        return self.add("Conv", [x, weights], group=channels, **_options(window))

    def _taps(self, x, window) -> list[str]:
        """The maps that the taps of a window see, row by row."""
        if window.kernel == window.stride == (1, 1):
            return [x]
        maps = []
        for tap in product(*map(range, window.kernel)):
            starts = [i * d for i, d in zip(tap, window.dilation)]
            rest = [(k - 1 - i) * d for i, k, d in zip(tap, window.kernel, window.dilation)]
            maps.append(self._sliced(x, starts, [-r or END for r in rest], window.stride))
        return maps

    def activation(self, x: str, activation: str | Activation) -> str:
        """One that has a counterpart."""
        parameter, there = activation_of(activation).parameter, counterpart_of(activation)
        if parameter is None:
            return self.add(there.operator, [x])
        if self.exact:
            return self.add(there.operator, [x], alpha=parameter)
        zero = self._number(0)
        below = there.below(self, self.add("Min", [x, zero]))
        below = self.add("Mul", [below, self._number(parameter)])
        return self.add("Add", [self.add("Max", [x, zero]), below])

    def normalization(self, x: str, gamma, beta, mean, variance, epsilon: float) -> str:
        """By frozen statistics."""
        if self.exact:
            arrays = [gamma, beta, mean, variance]
            return self.add("BatchNormalization", [x, *arrays], epsilon=epsilon)
        scale = gamma / np.sqrt(variance + epsilon)
        shift = beta - mean * scale
        scaled = self.add("Mul", [x, scale[:, None, None]])
        return self.add("Add", [scaled, shift[:, None, None]])


def _options(window):
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "dilations": window.dilation,
    }
