"""Passes over lists take no more memory than the dense form, and none that follows the image."""

import gc
import re
import select
import subprocess
import sys
import weakref
from functools import partial
from itertools import product
from pathlib import Path

import numba
import numpy as np
import pytest

from experiments.inputs.strokes import chosen_pixels
from net import Dense, Net, needed_cells, needed_choice, needed_pass, planning
from net.chosen import Chosen
from net.layers import Convolution, FullyConnected, Tanh
from net.needed_cells import Need
from net.needed_pass import NeededPass
from net.program import Program
from net.zoo import ZOO, build
from tests.net.forms import over_lists_alone
from tests.net.test_needed_cells import NETS, net_of
from tests.net.test_planning import Taken


@pytest.mark.parametrize("drawn", ["random", "scribbles"])
@pytest.mark.parametrize("name", ZOO)
def test_lists_take_no_more_memory_than_whole_maps(name, drawn):
    """With lists and tables, forward and with gradients, wherever a pass runs over lists or patch
    by patch; and what is told of lists before they are made is hardly more."""
    net, size = build(name, backend="cpu"), (64, 64) if name == "greentea102" else (256, 256)
    dense = Dense(net, "zero")
    whole = Program(net, "dense")
    by_lists = 0
    for count in (1, 8, 64, 200, 500, 800, 1000, 1500, 2500, 6000, 16_000):
        mask = np.zeros(size, bool)
        mask[*chosen_pixels(drawn, size, count, count).T] = True
        some = dense.needed.over(Chosen(size, mask))
        if some is not None:
            by_lists += 1
            forward, both = (some.table_bytes + some.planned_bytes(keep=k) for k in (False, True))
            assert forward <= planning.forward_bytes(whole, "zero", size)
            assert both <= planning.gradients_bytes(whole, "zero", size)
            lists = NeededPass(net, "zero", some.pixels)
            for keep, most in zip((False, True), lists.most_bytes()):
                planned = lists.table_bytes + lists.planned_bytes(keep=keep, threads=1)
                assert planned <= most <= 1.05 * planned
    assert by_lists > 2


@pytest.mark.cpu
@pytest.mark.parametrize("name", ["rcnn25", "n4", "plain133"])
def test_learning_from_some_pixels_takes_no_more_memory_than_the_dense_form(name, monkeypatch):
    """By the allocator's count, and that of its lists and tables."""
    size, net = (128, 128), build(name, backend="cpu")
    image = np.ones((net.channels, *(n + p - 1 for n, p in zip(size, net.patch))), np.float32)
    error = np.ones((net.output.channels, *size), np.float32)
    dense, taken = Dense(net), Taken(monkeypatch)
    for count in (8, 64, 512):
        mask = np.zeros(size, bool)
        mask[*chosen_pixels("random", size, count, 0).T] = True
        some, whole = (
            taken.by(partial(dense.gradients, image, error, mask, everywhere=everywhere))
            for everywhere in (False, True)
        )
        listed = dense.needed.over(Chosen(size, mask))
        assert 0 < some + (listed.table_bytes if listed else 0) <= whole


@pytest.mark.parametrize("together", [1, needed_cells.TOGETHER])
@pytest.mark.parametrize("case", NETS)
def test_lists_have_the_sizes_that_were_told_before(case, together, monkeypatch):
    """Of regions apart and of one, of pixels in rows and alone, across the tiles of maps."""
    monkeypatch.setattr(needed_cells, "TOGETHER", together)
    rng, stroke = np.random.default_rng(2), np.stack([np.full(99, 70), np.arange(99)], axis=1)
    need = Need(net_of(case), np.concatenate([stroke, rng.integers(0, (150, 200), (40, 2))]))
    told, made = need.sized(), need.cells()
    assert list(told.cells) == list(made.cells)
    for name, cells in made.cells.items():
        assert len(told.cells[name]) == len(cells)
        runs, most = len(cells.runs[1]), len(told.cells[name].runs[1])
        assert runs <= most <= 1.5 * runs + 5
    for name, readings in made.readings.items():
        for told_one, one in zip(told.readings[name], readings, strict=True):
            assert (told_one.cells, told_one.kernel) == (one.cells, one.kernel)
            assert np.shape(told_one.rows) == np.shape(one.rows)
            assert told_one.rows is None or not told_one.rows.any()


@pytest.mark.parametrize("case", [*NETS, *ZOO])
def test_pixels_that_share_no_cell_bound_what_others_take(case):
    """Wherever they lie: they are asked first, as that is faster than a plan of the pass."""
    net = build(case, backend="cpu") if case in ZOO else net_of(case)
    rng = np.random.default_rng(0)
    for count, side in product((1, 2, 9, 40, needed_pass.FEW, needed_pass.FEW + 1), (8, 200, 5000)):
        some = NeededPass(net, "zero", rng.integers(0, side, (count, 2)))
        for keep, learning, image in product((False, True), repeat=3):
            planned = some.planned_bytes(keep=keep, learning=learning, image=image)
            assert planned <= some._bytes_at_most()
        most = needed_pass._of_apart(net, count, needed_pass._most_bytes)
        for keep, told in zip((False, True), most):
            assert some.table_bytes + some.planned_bytes(keep=keep, threads=1) <= told


@pytest.mark.cpu
@pytest.mark.parametrize("count", [1, 3, needed_pass.FEW, needed_pass.FEW + 1])
def test_whether_a_pass_takes_at_most_so_much(count, monkeypatch):
    """It is planned only where pixels that share no cell would take more, or there are many."""
    net, planned = build("rcnn25", backend="cpu"), []
    some = NeededPass(net, "zero", chosen_pixels("random", (64, 64), count, 0))
    forward, both = most = some.most_bytes()
    apart = needed_pass._of_apart(net, count, needed_pass._most_bytes)

    def noted(*given, plan=needed_pass._most_bytes):
        planned.append(given)
        return plan(*given)

    monkeypatch.setattr(needed_pass, "_of_apart", lambda *given: apart)
    monkeypatch.setattr(needed_pass, "_most_bytes", noted)
    assert some.takes_at_most(*apart)
    assert len(planned) == (count > needed_pass.FEW)
    assert some.takes_at_most(*most)
    assert not some.takes_at_most(forward - 1, both)
    assert not some.takes_at_most(forward, both - 1)


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
def test_lists_that_are_not_taken_are_not_kept(monkeypatch):
    """The dense pass would run beside them."""
    made = []

    def noted(*given):
        made.append(weakref.ref(some := NeededPass(*given)))
        return some

    monkeypatch.setattr(needed_choice, "NeededPass", noted)
    dense, size = Dense(build("rcnn25", backend="cpu")), (128, 128)
    for count, kept in ((4096, False), (200, True)):
        dense.needed.over(Chosen(size, listed=chosen_pixels("random", size, count, 0)))
        gc.collect()
        assert (made.pop()() is not None) == kept


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
