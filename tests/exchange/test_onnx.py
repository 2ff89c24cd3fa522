"""Nets in ONNX: what ONNX Runtime makes of images of other sizes is what Dense makes of them."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings

from net import Dense, Net, Scan, to_onnx, zoo
from net.exchange.activations import COUNTERPARTS
from net.layers import Convolution, FullyConnected
from net.usage import Normalization, Usage
from tests.comparison import relative_difference
from tests.exchange.cases import CASES, TOLERANCES, patches_of, with_activation
from tests.net.nets import random_image, randomized, reduced
from tests.net.test_random_nets import cases

pytestmark = pytest.mark.cpu


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def check(net, path, sizes=((0, 0), (3, 2))):
    """Hold both forms to ours, on images so many rows and columns larger than the patch."""
    to_onnx(net, path)
    dense = session(path)
    for more in sizes:
        image = random_image(net, tuple(p + m for p, m in zip(net.patch, more)))
        (scores,) = dense.run(None, {"image": image[None]})
        expected = Dense(net).forward(image)
        assert (scores.dtype, scores[0].shape) == (expected.dtype, expected.shape)
        assert relative_difference(scores[0], expected) <= TOLERANCES[net.dtype]
    to_onnx(net, path, dense=False)
    (scores,) = session(path).run(None, {"image": patches_of(net, image)})
    assert relative_difference(scores, Scan(net).forward(image)) <= TOLERANCES[net.dtype]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", CASES)
def test_named_nets(name, dtype, tmp_path):
    check(CASES[name].build("cpu", dtype), tmp_path / "net.onnx")


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", COUNTERPARTS)
def test_activations(name, dtype, tmp_path):
    """In float64 those with a parameter have a formula each, and none stands in for another."""
    check(with_activation(name, dtype), tmp_path / "net.onnx")


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_an_activation_without_a_counterpart_is_refused(dtype, tmp_path, monkeypatch):
    """Whatever the kernels know: no other one stands in for it."""
    monkeypatch.delitem(COUNTERPARTS, "elu")
    net = with_activation("elu", dtype)
    with pytest.raises(TypeError, match=r"^layer 'elu1' is a ELU, which ONNX has not$"):
        to_onnx(net, tmp_path / "net.onnx")
    assert not any(tmp_path.iterdir())


@settings(max_examples=12)
@given(cases())
def test_random_nets(tmp_path, case):
    for dtype in TOLERANCES:
        check(case.build("cpu", dtype), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["lenet28", "featurenet31", "strided67", "rcnn25"])
def test_nets_of_the_zoo(name, tmp_path):
    check(randomized(reduced(name, filters=3, backend="cpu")), tmp_path / "net.onnx", [(4, 7)])


def test_what_the_file_says(tmp_path):
    path, net = tmp_path / "net.onnx", zoo.build("lenet28", classes=2, backend="cpu")
    net.usage = Usage(class_names=("cell", "rest"), normalization=Normalization((128,), (64,)))
    to_onnx(net, path)
    model = onnx.load(path)
    said = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert "left to the caller" in said["note"]
    assert said["class_names"] == ["cell", "rest"]
    assert said["normalization"]["mean"] == [128]
    assert said["border"] == "reflect"
    geometry = {
        name: said[name] for name in ("form", "patch", "receptive_field", "margins", "halo")
    }
    assert geometry == {
        "form": "dense",
        "patch": [28, 28],
        "receptive_field": [28, 28],
        "margins": [13, 13, 14, 14],
        "halo": [13, 13, 14, 14],
    }
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
    (image,), (scores,) = model.graph.input, model.graph.output
    axes = [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim]
    assert axes == ["batch", 1, "height", "width"]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    dilations = [list(a.ints) for n in convolutions for a in n.attribute if a.name == "dilations"]
    assert dilations == [[1, 1], [2, 2], [4, 4], [4, 4]]
    assert scores.name == "scores"


def test_the_same_net_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        to_onnx(zoo.build("lenet28", backend="cpu"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class TestRefusals:
    @pytest.fixture
    def net(self):
        return Net([Convolution(2, 3), FullyConnected(2)], channels=1, patch=4, backend="cpu")

    def test_nothing_half_written_is_left(self, net, tmp_path):
        path = tmp_path / "net.onnx"
        path.write_bytes(b"before")
        net.parameters["conv1.bias"][0] = np.nan
        with pytest.raises(ValueError, match=r"^net: array 'conv1.bias' holds NaN"):
            to_onnx(net, path)
        assert path.read_bytes() == b"before"
        assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]

    def test_a_folder(self, net, tmp_path):
        with pytest.raises(IsADirectoryError, match="path cannot be written"):
            to_onnx(net, tmp_path)

    def test_more_than_a_file_holds(self, net, tmp_path, monkeypatch):
        monkeypatch.setattr("net.exchange.onnx_writing.MOST_BYTES", 100)
        with pytest.raises(ValueError, match=r"^net holds more than 2 GB"):
            to_onnx(net, tmp_path / "net.onnx")
