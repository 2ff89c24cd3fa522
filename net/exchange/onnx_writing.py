"""Nets as ONNX models, in either form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from kernels import checks
from net import description, files
from net.borders import halo, patch_margins
from net.exchange.activations import counterpart_of
from net.exchange.forms import placed, unread
from net.exchange.onnx_nodes import Nodes
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
from net.nodes import IMAGE

OPSET, IR_VERSION = 17, 8
OUTPUT = "scores"
MOST_BYTES = 2**31 - 2**20
"""What a file of ONNX holds of arrays."""
NOTE = (
    "Normalisation and border are left to the caller: only pixels whose whole patch lies in the "
    "image have scores; for the others, pad the normalised image by the margins (top, left, "
    "bottom, right), with zeros or reflected, as the net was trained."
)


def to_onnx(net: Net, path: str | Path, *, dense: bool = True) -> None:
    """Write the net as an ONNX model (opset 17), in its dtype.

    The model is checked by ``onnx.checker`` and written atomically. Its metadata hold, as JSON, the
    ``form``, the ``patch``, the ``receptive_field``, the ``margins`` of the patch around its pixel,
    the ``halo`` that a label depends on, a ``note``, and what ``net.usage`` says: normalisation,
    class names, border and so on. docs/pytorch.md says how it is run.

    Args:
        net: a net of float64 is written without Conv, AveragePool, Elu and what has float32
            attributes, which ONNX Runtime does not execute in float64, or not exactly.
        path: the file.
        dense: True: the dense form, from ``image`` N x C x H x W of any size from the patch on to
            ``scores`` N x K x (H - p + 1) x (W - p + 1); what these are, ``Dense`` says for the
            border ``"valid"``. False: the patch net, from N x C x p x p to N x K.

    Raises:
        ImportError: the package onnx is not installed.
        TypeError, ValueError: an argument is wrong, the net holds NaN or infinities, or more than
            an ONNX file can.
        OSError: the file cannot be written; the old one is as it was.

    >>> import tempfile
    >>> from net import zoo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(zoo.build("lenet28", backend="cpu"), Path(folder, "lenet28.onnx"))
    ...     [file.name for file in Path(folder).iterdir()]
    ['lenet28.onnx']
    """
    checks.instance("net", net, Net)
    dense = checks.flag("dense", dense)
    files.check_writable("path", path)
    onnx = framework("onnx")
    state = net.state()
    for name, array in state.items():
        description.check_values(f"net: array {name!r}", name, array)
    if sum(array.nbytes for array in state.values()) > MOST_BYTES:
        raise ValueError("net holds more than 2 GB of arrays; expected less, for an ONNX file")
    model = _model(onnx, _OnnxWriter(net, state, dense))
    onnx.checker.check_model(model, full_check=True)
    files.write_atomically(path, model.SerializeToString(deterministic=True))


def _model(onnx, writer):
    helper, net, dense = onnx.helper, writer.net, writer.dense
    kind = onnx.TensorProto.FLOAT if net.dtype == "float32" else onnx.TensorProto.DOUBLE
    size = ("height", "width") if dense else net.patch
    left = ("rows", "columns") if dense else ()
    given = helper.make_tensor_value_info(IMAGE, kind, ["batch", net.channels, *size])
    made = helper.make_tensor_value_info(OUTPUT, kind, ["batch", net.output.channels, *left])
    nodes, arrays = writer.nodes.written(onnx)
    graph = helper.make_graph(nodes, "net", [given], [made], arrays)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="regularly-sparse"
    )
    properties = {
        "form": "dense" if dense else "patch",
        "patch": net.patch,
        "receptive_field": net.receptive_field,
        "margins": patch_margins(net.patch),
        "halo": halo(net.patch, net.receptive_field),
        "note": NOTE,
    }
    if net.usage is not None:
        properties |= net.usage.described()
    helper.set_model_props(model, {name: json.dumps(value) for name, value in properties.items()})
    return model


class _OnnxWriter:
    """Writes layers, one after the other, as nodes of ONNX.

    Attributes:
        nodes: written so far.
        values: names of the nodes' outputs, by layer.
    """

    def __init__(self, net, state, dense):
        self.net, self.state, self.dense = net, state, dense
        self.nodes = Nodes(net.dtype)
        start = self.nodes.cropped(IMAGE, unread(net)) if dense else IMAGE
        self.values = {IMAGE: start}
        for one in placed(net, dense):
            self.values[one.node.name] = self._written(one)
        last = self.values[next(reversed(net.nodes))]
        self.nodes.add("Identity" if dense else "Flatten", [last], output=OUTPUT)

    def _written(self, one) -> str:
        nodes, node, layer, window = self.nodes, one.node, one.node.layer, one.window
        maps = [nodes.cropped(self.values[n], m) for n, m in zip(node.inputs, one.margins)]
        match layer:
            case Convolution() | FullyConnected():
                bias = self.state.get(f"{node.name}.bias")
                return nodes.convolution(maps[0], window, self._array(node, "weights"), bias)
            case MaxPool() | AdaptiveMaxPool():
                return nodes.maximum(maps[0], window)
            case AveragePool() | AdaptiveAveragePool():
                return nodes.mean(maps[0], window, node.output.channels)
            case ActivationLayer() if counterpart_of(layer.activation):
                return nodes.activation(maps[0], layer.activation)
            case BatchNorm():
                parts = ("gamma", "beta", "mean", "variance")
                arrays = [self._array(node, part) for part in parts]
                return nodes.normalization(maps[0], *arrays, layer.epsilon)
            case Softmax():
                return nodes.add("Softmax", maps, axis=1)
            case Dropout() | Crop():
                return maps[0]
            case Add():
                return nodes.sum(maps)
            case Concatenate():
                return nodes.add("Concat", maps, axis=1)
        raise TypeError(f"layer {node.name!r} is a {type(layer).__name__}, which ONNX has not")

    def _array(self, node, part) -> np.ndarray:
        return self.state[f"{node.name}.{part}"]
