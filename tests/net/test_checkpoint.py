"""A run of training in a file: resumed bit for bit, refused when it is not what it should be."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from kernels.activation import ACTIVATIONS
from net import Dense, Net, file_format, load
from net.description import LAYERS
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
    MaxPool,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from net.learning import checkpoint
from net.learning.checkpoint import BadCheckpoint
from net.learning.optimizers import SGD, Adam, Cosine, Stepwise
from net.learning.training import Trainer
from tests.activations import layer_of
from tests.net import learning
from tests.net.crafted import parts, small_net, small_run
from tests.net.learning import examples, run_for
from tests.net.nets import random_image


def assert_same_run(one, other):
    assert (one.steps, one.losses, one.history) == (other.steps, other.losses, other.history)
    for arrays, others in ((one.net.state(), other.net.state()), (one.slots, other.slots)):
        assert {n: a.tobytes() for n, a in arrays.items()} == {
            n: a.tobytes() for n, a in others.items()
        }


def test_resuming_continues_bit_for_bit(tmp_path):
    """20 steps, or 10 (in the middle of an epoch), resumed, 10."""
    path = tmp_path / "run.safetensors"
    whole = run_for(5)
    trainer = Trainer(learning.small_net(), Adam(Cosine(0.01, 20)), seed=3)

    class Enough(Exception):
        pass

    update = trainer.update

    def ten_steps(gradients):
        if trainer.steps == 10:
            raise Enough
        update(gradients)

    trainer.update = ten_steps
    with pytest.raises(Enough):
        run_for(5, path, trainer, save_every=1)
    resumed = checkpoint.load(path, backend="cpu")
    assert resumed.steps == 10
    assert_same_run(run_for(5, trainer=resumed), whole)


def test_killed_at_random_moments(tmp_path):
    """kill -9, again and again, until the run is done: the same bits as without."""
    path, rng, kills = tmp_path / "run.safetensors", random.Random(1), 0
    program = (
        "import sys; from pathlib import Path; from net.learning import checkpoint\n"
        "from tests.net.learning import run_for\n"
        "path = Path(sys.argv[1])\n"
        "old = checkpoint.load(path, backend='cpu') if path.exists() else None\n"
        "print('started', flush=True)\n"
        "run_for(5, path, old, save_every=1)\n"
    )
    while True:
        command = [sys.executable, "-c", program, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        process.stdout.readline()
        try:
            process.wait(rng.uniform(0.05, 0.6) if kills < 4 else None)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert process.returncode == 0
    assert kills > 0
    assert_same_run(checkpoint.load(path, backend="cpu"), run_for(5))


def test_it_holds_the_architecture(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = run_for(1, path)
    loaded = checkpoint.load(path, backend="cpu", expected=learning.small_net())
    assert loaded.net.layers == trainer.net.layers
    assert loaded.optimizer == trainer.optimizer
    image = examples(1)[0][0]
    scores = [Dense(t.net, "zero").forward(image) for t in (trainer, loaded)]
    assert scores[0].tobytes() == scores[1].tobytes()


def test_another_architecture(tmp_path):
    path = tmp_path / "run.safetensors"
    run_for(1, path)
    wider = [replace(learning.LAYERS[0], filters=7), *learning.LAYERS[1:]]
    expected = Net(wider, channels=1, patch=17, backend="cpu")
    with pytest.raises(
        checkpoint.BadCheckpoint, match=r"another architecture: layer 0 is .*'filters': 6.*: 7"
    ):
        checkpoint.load(path, backend="cpu", expected=expected)


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "nothing")


def test_a_failing_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    run_for(1, path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(path, Trainer(learning.small_net(), SGD(0.1)))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.safetensors"]


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.long)])
def test_a_save_that_is_killed_leaves_the_old_or_the_new_file(tmp_path, kills):
    path, rng, seen = tmp_path / "run", random.Random(3), set()
    runs = [small_run(wide_net(seed)) for seed in (0, 1)]
    whole = []
    for run in runs:
        checkpoint.save(path, run)
        whole.append(path.read_bytes())
    program = (
        "import itertools, sys; from net.learning import checkpoint\n"
        "from tests.net.crafted import small_run\n"
        "from tests.net.test_checkpoint import wide_net\n"
        "runs = [small_run(wide_net(seed)) for seed in (0, 1)]\n"
        "print('started', flush=True)\n"
        "for run in itertools.cycle(runs):\n"
        "    checkpoint.save(sys.argv[1], run)\n"
    )
    for _ in range(kills):
        command = [sys.executable, "-c", program, path]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        seen.add(whole.index(path.read_bytes()))
        checkpoint.load(path, backend="reference")
    assert kills < 10 or seen == {0, 1}
    checkpoint.save(path, runs[0])
    assert os.listdir(tmp_path) == ["run"]


def wide_net(seed):
    """Some 300,000 parameters: a file that takes a while to write."""
    layers = [Convolution(300, 3), FullyConnected(3)]
    return Net(layers, channels=100, patch=3, seed=seed, backend="reference")


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("options", "optimizer"),
        [
            ({}, Adam(Cosine(0.01, 20))),
            ({"border": "zero", "form": "patch", "batch": 5}, SGD(Stepwise(1, 3), momentum=0)),
            ({"seed": 2**64 - 1, "class_weights": [0, 1e-30, 1e30]}, SGD(np.float64(0.1))),
            ({"border": "valid", "class_weights": None}, Adam(1, 0, 0.5, 1e-9, decay=0.01)),
        ],
    )
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_run(self, tmp_path, options, optimizer, dtype):
        net = small_net(dtype=dtype, seed=8)
        run = small_run(net, optimizer, **options)
        checkpoint.save(tmp_path / "run", run)
        loaded = checkpoint.load(str(tmp_path / "run"), backend="reference", expected=net)
        assert (loaded.seed, loaded.form, loaded.steps) == (run.seed, run.form, 7)
        assert (loaded.dense.border, loaded.scan.batch) == (run.dense.border, run.scan.batch)
        assert loaded.optimizer == run.optimizer
        assert loaded.class_weights.tolist() == run.class_weights.tolist()
        assert repr((loaded.losses, loaded.history)) == repr((run.losses, run.history))
        assert {n: a.tobytes() for n, a in loaded.slots.items()} == {
            n: a.tobytes() for n, a in run.slots.items()
        }
        assert loaded.net.layers == net.layers
        assert (loaded.net.channels, loaded.net.patch, loaded.net.dtype) == (1, (5, 4), dtype)
        checkpoint.save(tmp_path / "again", loaded)
        assert (tmp_path / "again").read_bytes() == (tmp_path / "run").read_bytes()

    def test_every_kind_of_layer(self, tmp_path):
        layers = [
            *(Convolution(4, (3, 2), dilation=(1, 2), name="a b"), AveragePool((2, 1), 1), Tanh()),
            *(BatchNorm(epsilon=1e-3), MaxPool(2, (3, 1), ceil_mode=True), Sigmoid(name="s")),
            *(
                Crop((0, 1, 0, 0), inputs=["s"], name="c"),
                Dropout(0),
                Convolution(4, 1, bias=False),
            ),
            *(Add(inputs=("c", "conv2")), AdaptiveAveragePool((2, 1)), ReLU(name="r")),
            *(Concatenate(inputs=("r", "r")), *map(layer_of, ACTIVATIONS), AdaptiveMaxPool(1)),
            *(FullyConnected(2), Softmax()),
        ]
        net = Net(layers, channels=2, patch=(8, 7), backend="reference")
        kinds = {type(layer).__name__ for layer in layers}
        assert {*kinds, "InstanceNorm"} == LAYERS.names, (
            "a layer without a test, or unknown to files"
        )
        net.save(tmp_path / "net")
        loaded = load(tmp_path / "net", backend="reference")
        described = [str(layer).replace("['s']", "('s',)") for layer in layers]
        assert [str(layer) for layer in loaded.layers] == described
        image = random_image(net, (9, 9))
        scores = [Dense(one).forward(image).tobytes() for one in (net, loaded)]
        assert scores[0] == scores[1]

    def test_a_net_alone(self, tmp_path):
        net = small_net(seed=5)
        net.parameters["first.weights"] = np.asfortranarray(net.parameters["first.weights"])
        net.save(str(tmp_path / "net"))
        assert "run" not in parts((tmp_path / "net").read_bytes())[1]
        loaded = load(str(tmp_path / "net"), backend="reference")
        assert {n: a.tolist() for n, a in loaded.state().items()} == {
            n: a.tolist() for n, a in net.state().items()
        }
        with pytest.raises(BadCheckpoint, match=r"net without a run, which net\.load reads"):
            checkpoint.load(tmp_path / "net", backend="reference")

    def test_the_net_of_a_run(self, tmp_path):
        run = small_run()
        checkpoint.save(tmp_path / "run", run)
        state = load(tmp_path / "run", backend="reference").state()
        assert {n: a.tolist() for n, a in state.items()} == {
            n: a.tolist() for n, a in run.net.state().items()
        }

    def test_numbers_of_numpy_in_what_is_only_told(self, tmp_path):
        run = small_run()
        run.losses = [np.float32(0.1), np.float64(0.2), 3]
        run.history = [{"epoch": np.int64(2), "loss": np.float32("nan"), "x": np.float16(-np.inf)}]
        checkpoint.save(tmp_path / "run", run)
        loaded = checkpoint.load(tmp_path / "run", backend="reference")
        assert repr(loaded.losses) == f"[{float(np.float32(0.1))!r}, 0.2, 3.0]"
        assert repr(loaded.history) == "[{'epoch': 2, 'loss': nan, 'x': -inf}]"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_run_that_diverged_leaves_the_checkpoint_before(tmp_path, value):
    run, path = small_run(), tmp_path / "run"
    checkpoint.save(path, run)
    before = path.read_bytes()
    run.net.parameters["first.bias"][1] = value
    for save in (lambda: checkpoint.save(path, run), lambda: run.net.save(path)):
        with pytest.raises(ValueError, match=r"^array 'net/first.bias' holds NaN or inf"):
            save()
    assert path.read_bytes() == before


@pytest.mark.parametrize(("slot", "value"), [("mean", np.nan), ("square", -1e-9)])
def test_what_an_optimizer_cannot_hold_is_neither_written_nor_loaded(tmp_path, slot, value):
    """The square root of a negative mean of squares would make every weight NaN."""
    run, path = small_run(), tmp_path / "run"
    document, arrays = checkpoint.of_run(run)
    arrays[f"slot/{slot}.first.bias"][1] = value
    file_format.write(path, document, arrays)
    message = f"array 'slot/{slot}.first.bias' holds (NaN|negative numbers)"
    with pytest.raises(BadCheckpoint, match=message):
        checkpoint.load(path, backend="reference")
    run.slots[f"{slot}.first.bias"][1] = value
    with pytest.raises(ValueError, match=message):
        checkpoint.save(path, run)


def test_a_layer_may_be_called_like_a_variance(tmp_path):
    net = Net([FullyConnected(2, name="a.variance")], channels=1, patch=3, backend="reference")
    assert (net.state()["a.variance.weights"] < 0).any()
    net.save(tmp_path / "net")
    load(tmp_path / "net", backend="reference")
