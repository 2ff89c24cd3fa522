"""What no file can hold is not written, and what is no net and no run is not loaded."""

import os
import re
import time
import tracemalloc

import numpy as np
import pytest

from net import Net, load
from net.description import architecture
from net.layers import BatchNorm, Convolution, Dropout, ReLU
from net.learning import checkpoint
from net.learning.checkpoint import BadCheckpoint
from net.learning.optimizers import SGD, Adam, Cosine, Stepwise
from tests.net.crafted import parts, small_net, small_run, spoiled, whole


class TestSaveRefuses:
    @pytest.mark.parametrize(
        ("optimizer", "message"),
        [
            (
                spoiled(Adam(0.1), rate=np.float32(1e-3)),
                r"^optimizer.rate is np.float32\(0.001\); expected a finite Py",
            ),
            (spoiled(SGD(0.1), rate=None), "^optimizer.rate is None"),
            (spoiled(SGD(0.1), rate="3"), "^optimizer.rate is '3'"),
            (spoiled(SGD(0.1), rate=np.nan), "^optimizer.rate is nan"),
            (spoiled(SGD(0.1), rate=-1), "^optimizer.rate is -1"),
            (spoiled(SGD(0.1), rate=True), "^optimizer.rate is True"),
            (spoiled(SGD(0.1), momentum=-1), "^optimizer.momentum is -1"),
            (spoiled(SGD(0.1), decay=np.int64(0)), "^optimizer.decay is np.int64"),
            (spoiled(Adam(0.1), beta1=1.0), "^optimizer.beta1 is 1.0; expected less than 1"),
            (spoiled(Adam(0.1), epsilon=0), "^optimizer.epsilon is 0; expected more than 0"),
            (
                Adam(spoiled(Cosine(0.1, 1), steps=0)),
                "^optimizer.rate.steps is 0; expected an int from 1",
            ),
            (
                Adam(spoiled(Stepwise(0.1, 2), every=2.0)),
                "^optimizer.rate.every is 2.0; expected an int from 1",
            ),
            (
                spoiled(Adam(0.1), rate=Adam(0.1)),
                r"^optimizer.rate is Adam\(.*; a file holds Cosine, Stepwise",
            ),
            (spoiled(Adam(0.1), rate=print), "^optimizer.rate is <built-in function"),
        ],
        ids=lambda value: str(value).split(" at 0x")[0],
    )
    def test_an_optimizer(self, tmp_path, optimizer, message):
        run = small_run()
        run.optimizer = optimizer
        with pytest.raises(ValueError, match=message):
            checkpoint.save(tmp_path / "run", run)
        assert os.listdir(tmp_path) == []

    def test_an_optimizer_of_ones_own(self, tmp_path):
        class SGD(type(small_run().optimizer)):
            pass

        with pytest.raises(ValueError, match=r"^optimizer is .*; a file holds SGD, Adam$"):
            checkpoint.save(tmp_path / "run", small_run(optimizer=SGD(0.1)))

    @pytest.mark.parametrize(
        ("layer", "message"),
        [
            (spoiled(Dropout(0.5), rate=np.float32(0.5)), r"^layers\[0\].rate is np.float32"),
            (spoiled(BatchNorm(), epsilon=None), r"^layers\[0\].epsilon is None"),
            (
                spoiled(Convolution(1, 1), bias="no"),
                r"^layers\[0\].bias is 'no'; expected True or False",
            ),
            (
                spoiled(ReLU(), name="\ud800"),
                r"^layers\[0\].name is '.ud800'; expected a printable text",
            ),
            (spoiled(ReLU(), inputs="image"), r"^layers\[0\].inputs is 'image'; expected texts"),
        ],
        ids=str,
    )
    def test_a_layer(self, layer, message):
        with pytest.raises(ValueError, match=message):
            architecture([layer], 1, (1, 1), "float32")

    def test_a_layer_of_ones_own(self, tmp_path):
        class Mine(ReLU):
            pass

        net = Net([Mine()], channels=1, patch=1, backend="reference")
        with pytest.raises(ValueError, match=r"^layers\[0\] is .*Mine\(.*; a file holds"):
            net.save(tmp_path / "net")
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("attribute", "value", "message"),
        [
            ("steps", -1, "steps is -1; expected an int from 0"),
            ("steps", 2.0, "steps is 2.0"),
            ("steps", 2, "3 losses of 2 steps"),
            ("seed", 2**64, "seed is 18446744073709551616; expected an int from 0 to 2^64 - 1"),
            ("losses", ["a"], "losses is 'a'; expected a number"),
            ("losses", [True], "losses is True"),
            ("history", {}, "history is {}; expected a list"),
            ("history", [3], "history[0] is 3; expected an object"),
            ("history", [{"a": "nan"}], "history[0].a is 'nan'; expected a number"),
            ("history", [{"a": [1]}], "history[0].a is [1]; expected a number"),
            ("history", [{3: 1}], "history[0] is 3; expected a printable text"),
            ("slots", {}, "array 'slot/mean.fc1.weights' is missing"),
        ],
        ids=str,
    )
    def test_a_run(self, tmp_path, attribute, value, message):
        run = small_run()
        setattr(run, attribute, value)
        with pytest.raises(ValueError, match=f"{re.escape(message)}"):
            checkpoint.save(tmp_path / "run", run)
        assert os.listdir(tmp_path) == []

    def test_parameters_of_another_shape(self, tmp_path):
        net = small_net()
        net.parameters["first.bias"] = np.zeros(3, np.float32)
        with pytest.raises(ValueError, match=r"array 'net/first.bias' is float32 of shape \(3,\)"):
            net.save(tmp_path / "net")

    @pytest.mark.parametrize("what", [None, 3, "run", small_net()], ids=str)
    def test_what_is_no_trainer(self, tmp_path, what):
        with pytest.raises(TypeError, match=r"^trainer is a .*; expected a Trainer"):
            checkpoint.save(tmp_path / "run", what)


LAYERS_BUT = [{"kind": "ReLU"}, {"kind": "FullyConnected", "features": 3, "bias": False}]

NET_REFUSALS = [
    ([], "net is .*; expected an object"),
    ({"more": 1}, "net has the keys"),
    ({"channels": 0}, "net.channels is 0; expected an int from 1"),
    ({"channels": "1"}, "net.channels is '1'"),
    ({"channels": True}, "net.channels is True"),
    ({"patch": [5, 4, 1]}, "net.patch is .*; expected 2 ints"),
    ({"patch": 5}, "net.patch is 5; expected 2 ints"),
    ({"patch": [0, 4]}, "net.patch is .*; expected an int or a pair"),
    ({"patch": [-5, 4]}, "net.patch is -5; expected"),
    ({"patch": [7, 4]}, "array 'net/fc1.weights' is float32 of shape"),
    ({"dtype": "float16"}, "net.dtype is 'float16'; expected float32 or float64"),
    ({"dtype": "float64"}, "is float32 of shape .*; expected float64"),
    ({"dtype": ["float32"]}, "net.dtype is .*; expected float32 or float64"),
    ({"layers": []}, "layers is empty"),
    ({"layers": "ReLU"}, "net.layers is 'ReLU'; expected at most 2000 layers"),
    ({"layers": [{"kind": "ReLU"}] * 2001}, "expected at most 2000 layers"),
    ({"layers": [3]}, r"net.layers\[0\] is 3; expected an object"),
    ({"layers": [{}]}, r"net.layers\[0\].kind is None; known are Convolution"),
    ({"layers": [{"kind": ["ReLU"]}]}, r"net.layers\[0\].kind is .*; known are"),
    ({"layers": [{"kind": "dataclass"}]}, r"net.layers\[0\].kind is 'dataclass'; known are"),
    ({"layers": [{"kind": "Layer"}]}, r"net.layers\[0\].kind is 'Layer'; known are"),
    ({"layers": [{"kind": "SGD", "rate": 1}]}, r"net.layers\[0\].kind is 'SGD'; known are"),
    ({"layers": [{"kind": "__class__"}]}, r"kind is '__class__'; known are"),
    ({"layers": [{"kind": "ReLU", "slope": 1}]}, "is a ReLU with .'slope'.; expected name, inputs"),
    (
        {"layers": [{"kind": "Convolution"}]},
        "is a Convolution with ..; expected name, inputs, filte",
    ),
    ({"layers": [{"kind": "InstanceNorm"}]}, "instance normalisation takes its statistics"),
    ({"layers": LAYERS_BUT}, "array 'net/first.bias' is too many"),
]


class TestLoadRefuses:
    """Documents with a right checksum that say what no net and no run can be."""

    @pytest.mark.parametrize(("change", "message"), NET_REFUSALS)
    def test_a_net(self, tmp_path, change, message):
        def changed(document):
            document["net"] = document["net"] | change if isinstance(change, dict) else change

        self.refuses(tmp_path / "run", changed, message)

    @pytest.mark.parametrize(
        ("layer", "field", "value", "message"),
        [
            (0, "filters", 0, "filters is 0; expected an int from 1"),
            (0, "filters", 2.0, "filters is 2.0; expected an int from 1"),
            (0, "filters", True, "filters is True; expected an int from 1"),
            (0, "filters", None, "filters is None"),
            (0, "filters", [2], r"filters is \[2\]"),
            (
                0,
                "filters",
                2**31 - 1,
                r"array 'net/first.weights' is float32 of shape \(2, 1, 3, 2\)",
            ),
            (0, "kernel", [3, 2, 1], "kernel is .*; expected 2 ints"),
            (0, "kernel", [3, "2"], "kernel is '2'; expected an int"),
            (0, "kernel", 2**31 - 1, "its window spans"),
            (0, "kernel", 2**63, "kernel is 9223372036854775808; expected an int or a pair"),
            (0, "stride", 0, "stride is 0; expected an int or a pair"),
            (0, "stride", None, "stride is None; expected 2 ints"),
            (0, "padding", 1, "padding 1 inside the patch net"),
            (0, "bias", 1, "bias is 1; expected True or False"),
            (0, "bias", False, "array 'net/first.bias' is too many"),
            (0, "name", 3, "name is 3; expected a printable text"),
            (0, "name", "\n", "expected a printable text"),
            (0, "name", "second", "array 'net/first.bias' is too many"),
            (0, "inputs", "image", "inputs is 'image'; expected texts"),
            (0, "inputs", [3], "inputs is 3; expected a printable text"),
            (0, "inputs", ["nothing"], "reads 'nothing'; expected one of the layers before"),
            (0, "inputs", ["image", "image"], "has 2 inputs; expected one"),
            (1, "epsilon", 0, "epsilon is 0; expected more than 0"),
            (1, "epsilon", -1e-5, "epsilon is -1e-05; expected a finite"),
            (1, "epsilon", "nan", "epsilon is 'nan'; expected a finite"),
            (1, "statistics", "batch", "statistics='batch' takes"),
            (1, "statistics", "other", "statistics is 'other'; expected one of"),
            (3, "rate", 1, "rate is 1; expected less than 1"),
            (
                3,
                "rate",
                {"kind": "Cosine", "rate": 0.1, "steps": 3},
                "rate is .*; expected a finite",
            ),
            (4, "features", 10**9, r"class_weights is \[.*; expected 1000000000 numbers"),
            (4, "kind", "Softmax", "is a Softmax with"),
        ],
        ids=str,
    )
    def test_a_layer(self, tmp_path, layer, field, value, message):
        def changed(document):
            document["net"]["layers"][layer][field] = value

        self.refuses(tmp_path / "run", changed, message)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (None, "run is None; expected an object"),
            ({"more": 1}, "run has the keys"),
            ({"steps": -1}, "steps is -1; expected an int from 0"),
            ({"steps": 7.0}, "steps is 7.0; expected an int from 0"),
            ({"steps": "7"}, "steps is '7'"),
            ({"steps": True}, "steps is True"),
            ({"steps": None}, "steps is None"),
            ({"steps": 2}, "run/losses has 3 losses of 2 steps"),
            ({"seed": -1}, "seed is -1; expected an int from 0"),
            ({"seed": 1.5}, "seed is 1.5"),
            ({"batch": 0}, "batch is 0; expected an int from 1"),
            ({"batch": "64"}, "batch is '64'"),
            ({"border": "wrap"}, "border is 'wrap'; expected valid or zero or reflect"),
            ({"border": ["zero"]}, "border is .*; expected valid or zero"),
            ({"form": "scan"}, "form is 'scan'; expected needed or dense or patch"),
            ({"class_weights": [1, 1]}, "class_weights is .*; expected 3 numbers"),
            ({"class_weights": 1}, "class_weights is 1; expected 3 numbers"),
            ({"class_weights": [1, 1, -1]}, "class_weights is -1; expected a finite"),
            ({"class_weights": [1, 1, "inf"]}, "class_weights is 'inf'; expected a finite"),
            ({"class_weights": [1, 1, [1]]}, "class_weights is .1.; expected a finite"),
            ({"history": None}, "history is None; expected a list"),
            ({"history": [[]]}, r"history\[0\] is \[\]; expected an object"),
            ({"history": [{"loss": "bad"}]}, r"history\[0\].loss is 'bad'; expected a number"),
            ({"history": [{"loss": None}]}, r"history\[0\].loss is None; expected a number"),
            ({"history": [{"loss": True}]}, r"history\[0\].loss is True; expected a number"),
            ({"history": [{"loss": {}}]}, r"history\[0\].loss is {}; expected a number"),
            ({"optimizer": None}, "optimizer is None; expected an object"),
            ({"optimizer": {"kind": "ReLU"}}, "optimizer.kind is 'ReLU'; known are SGD, Adam"),
            ({"optimizer": {"kind": "Cosine", "rate": 1, "steps": 2}}, "known are SGD, Adam"),
            ({"optimizer": {"kind": "SGD", "rate": 0.1}}, "array 'slot/mean.* is too many"),
            ({"optimizer": {"kind": "Adam"}}, "is a Adam with .*; expected rate, beta1"),
            ({"optimizer": {"kind": "Adam", "rate": -1}}, "optimizer.rate is -1"),
            ({"optimizer": {"kind": "Adam", "rate": "1"}}, "optimizer.rate is '1'"),
            (
                {"optimizer": {"kind": "Adam", "rate": {}}},
                "optimizer.rate.kind is None; known are Co",
            ),
            (
                {"optimizer": {"kind": "Adam", "rate": {"kind": "Cosine", "rate": 1, "steps": 0}}},
                "optimizer.rate.steps is 0; expected an int from 1",
            ),
            (
                {
                    "optimizer": {
                        "kind": "Adam",
                        "rate": {"kind": "Cosine", "steps": 1, "rate": {"kind": "Cosine"}},
                    }
                },
                "optimizer.rate.rate is .*; expected a finite",
            ),
        ],
        ids=str,
    )
    def test_a_run(self, tmp_path, change, message):
        def changed(document):
            document["run"] = None if change is None else document["run"] | change

        self.refuses(tmp_path / "run", changed, message)

    @pytest.mark.parametrize(
        ("name", "other", "message"),
        [
            ("net/first.bias", None, "leave a hole|is missing"),
            ("net/first.bias", "net/first.bin", "array 'net/first.bi(as|n)' is"),
            ("slot/mean.first.bias", "slot/velocity.first.bias", "array 'slot/.*first.bias' is"),
            ("run/losses", "run/loss", "array 'run/loss(es)?' is"),
        ],
    )
    def test_other_arrays(self, tmp_path, name, other, message):
        def changed(document, header):
            entry = header.pop(name)
            if other is not None:
                header[other] = entry

        self.refuses(tmp_path / "run", changed, message, header=True)

    def test_losses_of_another_shape(self, tmp_path):
        def changed(document, header):
            assert header["run/losses"]["shape"] == [3]
            header["run/losses"]["shape"] = [3, 1]

        self.refuses(tmp_path / "run", changed, r"'run/losses' is .*\(3, 1\); ", header=True)

    @pytest.mark.parametrize(
        "layers",
        [
            [{"kind": "Convolution", "filters": 10**9, "kernel": [30000, 30000]}],
            [{"kind": "MaxPool", "kernel": 1, "stride": 2**63}] * 2000,
            [{"kind": "Concatenate", "inputs": ["image"] * 1000, "name": "c0"}]
            + [
                {"kind": "Concatenate", "inputs": [f"c{i}"] * 40, "name": f"c{i + 1}"}
                for i in range(1900)
            ],
        ],
        ids=["filters", "strides", "channels"],
    )
    def test_an_absurd_net_is_refused_in_little_time_and_memory(self, tmp_path, layers):
        def changed(document):
            layers.append({"kind": "FullyConnected", "features": 10**9})
            document["net"] |= {"layers": layers, "patch": [30000, 30000]}

        tracemalloc.start()
        started = time.monotonic()
        self.refuses(tmp_path / "run", changed, "")
        assert time.monotonic() - started < 20
        assert tracemalloc.get_traced_memory()[1] < 100e6
        tracemalloc.stop()

    def test_a_newer_version(self, tmp_path):
        def changed(document):
            document["version"] = [3, 0]

        self.refuses(tmp_path / "run", changed, r"version \[3, 0\] is newer than \[2, 1\]")

    def refuses(self, path, change, message, header=False):
        run = small_run()
        checkpoint.save(path, run)
        entries, document, data = parts(path.read_bytes())
        change(document, entries) if header else change(document)
        path.write_bytes(whole(entries, document, data))
        for read in (checkpoint.load, load):
            with pytest.raises(BadCheckpoint, match=f"^{re.escape(str(path))} .*{message}"):
                read(path, backend="reference")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"dtype": "float64"}, "dtype float32, expected float64"),
            ({"patch": (7, 4)}, r"patch \[5, 4\], expected \[7, 4\]"),
            ({"channels": 2}, "channels 1, expected 2"),
        ],
    )
    def test_another_net_than_expected(self, tmp_path, options, message):
        path, expected = tmp_path / "run", small_net(**options)
        checkpoint.save(path, small_run())
        with pytest.raises(BadCheckpoint, match=f"it has another architecture: {message}"):
            checkpoint.load(path, backend="reference", expected=expected)

    def test_more_layers_than_expected(self, tmp_path):
        path = tmp_path / "run"
        checkpoint.save(path, small_run())
        fewer = Net(small_net().layers[:-1], channels=1, patch=(3, 2), backend="reference")
        with pytest.raises(BadCheckpoint, match=r"patch \[5, 4\], expected \[3, 2\]"):
            checkpoint.load(path, backend="reference", expected=fewer)
        more = Net([*small_net().layers, ReLU()], channels=1, patch=(5, 4), backend="reference")
        with pytest.raises(BadCheckpoint, match="5 layers, expected 6"):
            checkpoint.load(path, backend="reference", expected=more)

    @pytest.mark.parametrize("read", [checkpoint.load, load])
    def test_arguments(self, tmp_path, read):
        path = tmp_path / "run"
        checkpoint.save(path, small_run())
        with pytest.raises(ValueError, match=r"^backend is 'gpu'") as refusal:
            read(path, backend="gpu")
        assert not isinstance(refusal.value, BadCheckpoint)
        with pytest.raises(TypeError, match=r"^path is a NoneType"):
            read(None)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")
        if read is checkpoint.load:
            with pytest.raises(TypeError, match=r"^expected is a int"):
                read(path, expected=3)
