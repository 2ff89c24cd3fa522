"""Passes over lists take no more memory than the dense form, and none that follows the image."""

import re
import select
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from experiments.inputs.strokes import chosen_pixels
from net import Dense, Net, planning
from net.chosen import Chosen
from net.layers import Convolution, FullyConnected, Tanh
from net.needed_pass import NeededPass
from net.program import Program
from net.zoo import ZOO, build
from tests.net.forms import over_lists_alone
from tests.net.test_planning import Taken


@pytest.mark.parametrize("drawn", ["random", "scribbles"])
@pytest.mark.parametrize("name", ZOO)
def test_lists_take_no_more_memory_than_whole_maps(name, drawn):
    """With lists and tables, forward and with gradients, wherever a pass runs over lists."""
    net, size = build(name, backend="cpu"), (64, 64) if name == "greentea102" else (256, 256)
    dense = Dense(net, "zero")
    whole = Program(net, "dense")
    by_lists = 0
    for count in (50, 200, 500, 800, 1000, 1500, 2500, 6000, 16_000):
        mask = np.zeros(size, bool)
        mask[*chosen_pixels(drawn, size, count, count).T] = True
        some = dense.needed.over(Chosen(size, mask))
        if some is not None:
            by_lists += 1
            forward, both = (some.table_bytes + some.planned_bytes(keep=k) for k in (False, True))
            assert forward <= planning.forward_bytes(whole, "zero", size)
            assert both <= planning.gradients_bytes(whole, "zero", size)
    assert by_lists > 2


@pytest.mark.cpu
def test_a_pass_that_would_take_more_memory_takes_the_dense_way(monkeypatch):
    """Though it has fewer multiply-adds, and smaller maps; with any number of threads."""
    size, net = (128, 128), build("rcnn25", backend="cpu")
    chosen = Chosen(size, listed=chosen_pixels("random", size, 4096, 0))
    some, whole = NeededPass(net, "valid", chosen.pixels), Program(net, "dense")
    both = some.table_bytes + some.planned_bytes(keep=True)
    assert both > planning.gradients_bytes(whole, "valid", size)
    for threads in (1, 2, 64):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        assert Dense(net).needed.over(chosen) is None


@pytest.mark.cpu
def test_the_order_in_which_large_arrays_are_made_is_planned(monkeypatch):
    """A layer's gradient, partial sums and packed weights take as much as each other: in another
    order, one of them would not fit into the gap that the one before has left."""
    layers = [Convolution(16, 3), Tanh(), Convolution(1024, 9), FullyConnected(2)]
    net = Net(layers, channels=1, patch=11, seed=0, backend="cpu")
    over_lists_alone(monkeypatch)
    size = (400, 400)
    mask = np.zeros(size, bool)
    mask[*chosen_pixels("random", size, 250, 0).T] = True
    image, error = np.ones((1, *size), np.float32), np.ones((2, *size), np.float32)
    dense = Dense(net, "zero")
    dense.gradients(image, error, mask)
    with monkeypatch.context() as alone:
        alone.setattr(numba, "get_num_threads", lambda: 0)
        planned = dense.needed.over(Chosen(size, mask)).planned_bytes(keep=True)
    taken = Taken(monkeypatch)
    measured = taken.by(lambda: dense.gradients(image, error, mask))
    assert abs(planned - measured) <= 0.05 * measured


LEARNING = """
import sys
import numpy as np
from net import Dense, zoo
from net.learning.optimizers import Adam
from net.learning.training import Trainer

path, side, name, number = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
net = zoo.build(name, classes=2, backend="cpu")
with open(path, "wb") as file:
    file.truncate(net.channels * side**2)
image = np.memmap(path, np.uint8, "r", shape=(net.channels, side, side))
rng = np.random.default_rng(0)
pixels, labels = rng.integers(0, side, (number, 2)), rng.integers(0, 2, number)
trainer = Trainer(net, Adam(1e-3))

def learn(image, pixels):
    for _ in range(2):
        trainer.step(image, labels[:len(pixels)], pixels=pixels)
    Dense(net, "zero").predict(image, pixels=pixels[:3])

learn(image[:, :200, :200], pixels[:9] % 200)
print("ready", flush=True)
input()
learn(image, pixels)
print("learned")
"""


def anonymous_bytes(process) -> int:
    """What a process has in memory that is no file's, now; 0 where it has just ended."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    match = re.search(r"RssAnon:\s*(\d+) kB", status)
    return 1024 * int(match[1]) if match else 0


@pytest.mark.cpu
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(
    ("side", "name", "number"),
    [
        (4000, "lenet28", 40),
        pytest.param(20_000, "lenet28", 500, marks=pytest.mark.long),
        pytest.param(20_000, "strided67", 500, marks=pytest.mark.long),
    ],
)
def test_learning_from_a_huge_image_takes_little_memory(side, name, number, tmp_path):
    """Looked at 500 times a second, it stays below 1 GB, and grows by less than a copy of the image
    would take. (Pages of the file are the system's to keep.)"""
    command = [sys.executable, "-c", LEARNING, tmp_path / "image", str(side), name, str(number)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes) as child:
        assert child.stdout.readline() == "ready\n"
        before = most = anonymous_bytes(child)
        print(file=child.stdin, flush=True)
        while child.poll() is None and not select.select([child.stdout], [], [], 0.002)[0]:
            most = max(most, anonymous_bytes(child))
        printed, _ = child.communicate()
    assert printed == "learned\n"
    assert 10**8 < most < 10**9
    assert most - before < side**2
