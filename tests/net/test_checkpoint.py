"""A run of training in a file: resumed bit for bit, refused when it is not what it should be."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from net import Dense, Net, checkpoint
from net.layers import ELU, Convolution, FullyConnected, LeakyReLU
from net.optimizers import SGD, Adam, Cosine
from net.training import Trainer
from tests.net.learning import LAYERS, examples, run_for, small_net


def assert_same_run(one, other):
    assert (one.steps, one.losses, one.history) == (other.steps, other.losses, other.history)
    for arrays, others in ((one.net.state(), other.net.state()), (one.slots, other.slots)):
        assert {n: a.tobytes() for n, a in arrays.items()} == {
            n: a.tobytes() for n, a in others.items()
        }


def test_resuming_continues_bit_for_bit(tmp_path):
    """20 steps, or 10 (in the middle of an epoch), resumed, 10."""
    path = tmp_path / "run.npz"
    whole = run_for(5)
    trainer = Trainer(small_net(), Adam(Cosine(0.01, 20)), seed=3)

    class Enough(Exception):
        pass

    step = trainer.step

    def ten_steps(*arguments):
        if trainer.steps == 10:
            raise Enough
        return step(*arguments)

    trainer.step = ten_steps
    with pytest.raises(Enough):
        run_for(5, path, trainer, save_every=1)
    resumed = checkpoint.load(path, backend="cpu")
    assert resumed.steps == 10
    assert_same_run(run_for(5, trainer=resumed), whole)


def test_killed_at_random_moments(tmp_path):
    """kill -9, again and again, until the run is done: the same bits as without."""
    path, rng, kills = tmp_path / "run.npz", random.Random(1), 0
    program = (
        "import sys; from pathlib import Path; from net import checkpoint\n"
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
    path = tmp_path / "run.npz"
    trainer = run_for(1, path)
    loaded = checkpoint.load(path, backend="cpu", expected=small_net())
    assert loaded.net.layers == trainer.net.layers
    assert loaded.optimizer == trainer.optimizer
    image = examples(1)[0][0]
    scores = [Dense(t.net, "zero").forward(image) for t in (trainer, loaded)]
    assert scores[0].tobytes() == scores[1].tobytes()


def test_it_holds_the_parameters_of_activations(tmp_path):
    layers = [Convolution(2, 3), LeakyReLU(0.2), FullyConnected(2), ELU(1.5, name="end")]
    net = Net(layers, channels=1, patch=5, backend="cpu")
    checkpoint.save(tmp_path / "run.npz", Trainer(net, SGD(0.1)))
    assert checkpoint.load(tmp_path / "run.npz", backend="cpu").net.layers == net.layers


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated(tmp_path, share):
    path = tmp_path / "run.npz"
    run_for(1, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(checkpoint.BadCheckpoint, match="is truncated or no checkpoint"):
        checkpoint.load(path)


def test_foreign(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, weights=np.ones(3))
    with pytest.raises(checkpoint.BadCheckpoint, match="truncated or no checkpoint of this"):
        checkpoint.load(path)
    np.savez(path, header=np.frombuffer(b'{"format": "x", "version": 1}', np.uint8))
    with pytest.raises(checkpoint.BadCheckpoint, match="is a 'x'; expected a 'regularly-sp"):
        checkpoint.load(path)


def test_pickles_are_not_opened(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, header=np.array([{"format": "x"}], object))
    with pytest.raises(checkpoint.BadCheckpoint, match="truncated or no checkpoint of this"):
        checkpoint.load(path)


def test_newer(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    run_for(1, path)
    monkeypatch.undo()
    with pytest.raises(checkpoint.BadCheckpoint, match="has version 2; this program reads"):
        checkpoint.load(path)


def test_another_architecture(tmp_path):
    path = tmp_path / "run.npz"
    run_for(1, path)
    wider = [replace(LAYERS[0], filters=7), *LAYERS[1:]]
    expected = Net(wider, channels=1, patch=17, backend="cpu")
    with pytest.raises(
        checkpoint.BadCheckpoint, match=r"another architecture: layer 0 is .*'filters': 6.*: 7"
    ):
        checkpoint.load(path, backend="cpu", expected=expected)


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "nothing.npz")


def test_a_failing_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    run_for(1, path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        run_for(1, path, Trainer(small_net(), SGD(0.1)))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.npz"]
