"""Memory told before a pass, against what the allocator hands out."""

import ctypes
import gc
import json
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.memory import cpu as memory
from net import Dense, Net, Scan, calibrate, planning
from net.free_memory import fitting_side
from net.layers import (
    Add,
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
from net.learning.optimizers import SGD
from net.learning.training import Trainer
from net.memory_plan import MemoryPlan
from net.planning import (
    calibration_bytes,
    forward_bytes,
    gradients_bytes,
    predict_bytes,
    scan_bytes,
    step_bytes,
)
from net.zoo import ZOO, build
from tests.net.test_random_nets import Drawing

BRANCHES = [
    Convolution(6, 3, name="a"),
    BatchNorm(),
    ReLU(name="r"),
    Convolution(6, 3, inputs=("r",), name="b"),
    Tanh(name="t"),
    Convolution(6, 3, inputs=("r",), name="c"),
    Add(inputs=("t", "c"), name="sum"),
    Crop((1, 1, 1, 1), inputs=("r",), name="d"),
    Concatenate(inputs=("sum", "d")),
    Dropout(0.5),
    MaxPool(2),
    FullyConnected(3),
]
# Branches whose dense maps differ by a row: they are trimmed, and their errors padded
UNEQUAL = [
    Convolution(3, (2, 1), bias=False, name="a"),
    MaxPool(1, inputs=("image",)),
    Crop((0, 0, 1, 0), name="b"),
    Add(inputs=("a", "b"), name="sum"),
    MaxPool(1, stride=(2, 1)),
    Crop((0, 0, 1, 0), name="c"),
    MaxPool((2, 1), inputs=("sum",), name="d"),
]
ENDS = [
    MaxPool(1, inputs=("merged",), name="e"),
    MaxPool(1, inputs=("merged",), name="f"),
    Concatenate(inputs=("e", "f")),
    FullyConnected(1),
]
CASES = {
    "many channels": (16, 7, [*(Convolution(16, 3), ReLU()) * 2, FullyConnected(3)]),
    "pool first": (8, 8, [MaxPool(2), Convolution(8, 3), ReLU(), FullyConnected(3)]),
    "norm first": (8, 5, [BatchNorm(), Convolution(8, 3), ReLU(), FullyConnected(3)]),
    "ends in softmax": (8, 5, [Convolution(8, 3), ReLU(), FullyConnected(8), Softmax()]),
    "softmax in the middle": (
        *(8, 5),
        [Convolution(8, 3), Softmax(), Convolution(8, 2), Tanh(), FullyConnected(3)],
    ),
    "rows that no patch reads": (
        *(8, 16),
        [MaxPool(2), Convolution(8, 3), ReLU(), MaxPool(2), FullyConnected(3)],
    ),
    "branches": (2, 12, BRANCHES),
    "unequal maps added": (3, (4, 1), [*UNEQUAL, Add(inputs=("c", "d"), name="merged"), *ENDS]),
    "unequal maps joined": (
        *(3, (4, 1)),
        [*UNEQUAL, Concatenate(inputs=("c", "d"), name="merged"), *ENDS],
    ),
    "weights larger than maps": (40, 15, [Convolution(60, 9), ReLU(), FullyConnected(300)]),
    "high windows": (8, (81, 2), [MaxPool((80, 1), 1), FullyConnected(2)]),
}
LABELLED = {"weights larger than maps": (20, 30)}
ZOO_LABELLED = {"featurenet61": (40, 45), "greentea102": (20, 23), "n4": (50, 60)}
HUGE_PAGE = 2**21
"""Bytes, as NumPy asks for them for large arrays."""


class Taken:
    """What arrays take of the host's memory: of the store, gaps included, and outside of it."""

    def __init__(self, monkeypatch):
        self.store, self.small, self.most = memory._Store(), 0, 0
        allocate = memory.empty

        def empty(shape, dtype):
            array = allocate(shape, dtype)
            if array.base is None:  # no place in the store
                self._add(array.nbytes)
                weakref.finalize(array, self._add, -array.nbytes)
            return array

        monkeypatch.setattr(memory, "_store", self.store)
        monkeypatch.setattr(memory, "empty", empty)

    def _add(self, nbytes):
        self.small += nbytes
        self.most = max(self.most, self.small)

    def by(self, call):
        """Bytes that ``call`` took at most."""
        gc.collect()
        assert self.store.reusable_bytes() == self.store.gaps.used
        self.store.gaps.used, before = 0, self.small
        self.most = before
        call()
        return self.store.gaps.used + self.most - before


@pytest.fixture
def taken(monkeypatch):
    return Taken(monkeypatch)


def passes(dense, labelled, masked=True, image_gradient=False):
    """(a pass, what is planned for it but the workspaces of threads, which Numba allocates)."""
    net, form = dense.net, (dense.program, dense.border, labelled)
    margin = net.patch if dense.border == "valid" else (1, 1)
    size = [n + m - 1 for n, m in zip(labelled, margin)]
    image = np.ones((net.channels, *size), net.dtype)
    error = np.ones((net.output.channels, *labelled), net.dtype)
    mask = np.ones(labelled, bool) if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba, "get_num_threads", lambda: 0)
        forward = forward_bytes(*form)
        both = gradients_bytes(*form, masked=masked, image=image_gradient)
    yield lambda: dense.forward(image), forward
    options = {"image_gradient": image_gradient}
    yield lambda: dense.gradients(image, error, mask, **options), both


def check(taken, net, labelled, border="valid", **options):
    for call, planned in passes(Dense(net, border), labelled, **options):
        check_call(taken, call, planned)


def check_call(taken, call, planned):
    call()  # what is compiled and remembered comes first
    measured = taken.by(call)
    assert abs(planned - measured) <= max(0.05 * measured, 10**5)


@pytest.mark.cpu
@pytest.mark.parametrize("border", ["valid", "reflect"])
@pytest.mark.parametrize("case", CASES)
class TestCases:
    def test_is_what_the_allocator_hands_out(self, taken, case, border):
        channels, patch, layers = CASES[case]
        net = Net(layers, channels=channels, patch=patch, backend="cpu")
        check(taken, net, LABELLED.get(case, (300, 330)), border)

    def test_the_gradient_by_the_image_counts(self, taken, case, border):
        channels, patch, layers = CASES[case]
        net = Net(layers, channels=channels, patch=patch, dtype="float64", backend="cpu")
        labelled = LABELLED.get(case, (200, 170))
        check(taken, net, labelled, border, masked=False, image_gradient=True)


@pytest.mark.cpu
@pytest.mark.parametrize("name", ZOO)
def test_zoo(taken, name):
    check(taken, build(name, backend="cpu"), ZOO_LABELLED.get(name, (70, 85)))


@pytest.mark.cpu
@pytest.mark.parametrize("tile", [None, 100])
@pytest.mark.parametrize("case", ["many channels", "ends in softmax", "rows that no patch reads"])
def test_predict(taken, case, tile):
    channels, patch, layers = CASES[case]
    net, labelled = Net(layers, channels=channels, patch=patch, backend="cpu"), (300, 330)
    dense, image = Dense(net, "zero"), np.ones((channels, *labelled), np.float32)
    classes, probabilities = dense.predict(image, tile)
    tracemalloc.start()
    probabilities[:, :tile, :tile].argmax(axis=0, out=np.empty_like(classes[:tile, :tile]))
    copied = tracemalloc.get_traced_memory()[1] - 8 * classes[:tile, :tile].size
    tracemalloc.stop()
    measured = classes.nbytes + probabilities.nbytes + copied
    measured += taken.by(lambda: dense.predict(image, tile))
    form = dense.program, "zero", labelled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba, "get_num_threads", lambda: 0)
        planned = predict_bytes(*form, labelled if tile is None else (tile, tile))
    assert abs(planned - measured) <= max(0.05 * measured, 10**6)


@pytest.mark.cpu
def test_a_step_of_training(taken):
    """Dropout makes maps of its own there, forward and backward."""
    layers = [Convolution(16, 3), ReLU(), *(Dropout(0.5), Convolution(16, 3)) * 2, Dropout(0.5)]
    net = Net([*layers, FullyConnected(2)], channels=8, patch=8, backend="cpu")
    trainer, labelled = Trainer(net, SGD(0.1), form="dense"), (300, 330)
    image, labels = np.ones((8, *labelled), np.float32), np.zeros(labelled, np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba, "get_num_threads", lambda: 0)
        planned = step_bytes(trainer.dense.program, "reflect", labelled)
    of_numpy = 10 * labels.size  # labels and mask, twice
    check_call(taken, lambda: trainer.step(image, labels), planned - of_numpy)


class _Net(Drawing):
    """A random net that keeps its maps large: see ``nets``."""

    def softmax(self):
        self.add(Softmax)

    def dropout(self):
        self.add(Dropout, rate=0.5)

    def activation(self):
        self.add(self.draw(st.sampled_from([ReLU, Tanh, Sigmoid])))


@st.composite
def nets(draw):
    """(layers, channels, patch, border): many image channels, and everything that holds maps."""
    channels = draw(st.integers(1, 12))
    patch = draw(st.tuples(st.integers(1, 13), st.integers(1, 13)))
    drawing = _Net(draw, channels, patch)
    kinds = ["windowed", "branches", "pointwise", "activation", "crop", "softmax", "dropout"]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8)):
        getattr(drawing, kind)()
    drawing.add(FullyConnected, features=draw(st.integers(1, 6)))
    if draw(st.booleans()):
        drawing.softmax()
    return drawing.layers, channels, patch, draw(st.sampled_from(["valid", "zero", "reflect"]))


@pytest.mark.cpu
@settings(max_examples=25)
@given(nets(), st.booleans(), st.booleans(), st.sampled_from([(300, 330), (90, 70)]))
def test_random_nets(taken, case, masked, image_gradient, labelled):
    """The same 25 nets in every run: their drawing is derandomised, as that of all examples."""
    layers, channels, patch, border = case
    net = Net(layers, channels=channels, patch=patch, backend="cpu")
    check(taken, net, labelled, border, masked=masked, image_gradient=image_gradient)


def resident_passes(labelled):
    """Calls that take memory beside the maps of the dense form, and what is planned for each."""
    channels, patch, layers = CASES["pool first"]
    net = Net(layers, channels=channels, patch=patch, backend="cpu")
    normed = Net([BatchNorm(), *layers], channels=channels, patch=patch, backend="cpu")
    trainer = Trainer(net, SGD(0.1), border="reflect")
    padded, scan, border = Dense(net, "zero"), Scan(net, "zero", batch=4096), "reflect"
    image = np.ones((channels, *labelled), np.float32)
    labels, mask = np.zeros(labelled, np.int32), np.ones(labelled, bool)
    pixels = np.argwhere(mask)[::27]
    vectors = np.ones((len(pixels), 3), np.float32)
    channels, patch, layers = CASES["high windows"]
    high, wide = Dense(Net(layers, channels=channels, patch=patch, backend="cpu")), labelled[0] * 15
    of_high = high.program, "valid", (60, wide)
    forward, gradients = (call for call, _ in passes(high, (60, wide)))
    tile = tuple(n // 3 for n in labelled)
    form, of_pixels = (scan.program, "zero", labelled), (len(pixels), 4096)
    return {
        "forward": (forward, lambda: forward_bytes(*of_high)),
        "gradients": (gradients, lambda: gradients_bytes(*of_high)),
        "predict": (
            lambda: padded.predict(image),
            lambda: predict_bytes(padded.program, "zero", labelled, labelled),
        ),
        "predict in tiles": (
            lambda: padded.predict(image, tile[0]),
            lambda: predict_bytes(padded.program, "zero", labelled, (tile[0], tile[0])),
        ),
        "scan": (lambda: scan.forward(image, pixels), lambda: scan_bytes(*form, *of_pixels)),
        "scan and learn": (
            lambda: scan.gradients(image, vectors, pixels, image_gradient=True),
            lambda: scan_bytes(*form, *of_pixels, learning=True, image=True),
        ),
        "calibrate": (
            lambda: calibrate(normed, [image, image], border),
            lambda: calibration_bytes(Dense(normed).program, border, (labelled, labelled)),
        ),
        "step": (
            lambda: trainer.step(image, labels, mask),
            lambda: step_bytes(trainer.dense.program, border, labelled),
        ),
    }


@pytest.mark.cpu
@pytest.mark.parametrize("name", resident_passes((8, 9)))
def test_is_what_the_system_hands_out(name):
    """Workspaces of threads and arrays of NumPy included: seen by the system alone, in a process of
    its own, with maps that make all else small."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not tell the most that a process took")
    done = subprocess.run(
        [sys.executable, "-m", "tests.net.test_planning", name],
        capture_output=True,
        text=True,
        check=True,
    )
    planned, without_threads, resident = json.loads(done.stdout.splitlines()[-1])
    # More than 5% where threads' workspaces, planned whole, are a third of all (gradients): pages
    # that no thread writes are not resident. Less by a huge page, which may be handed out whole
    assert -0.05 * resident - HUGE_PAGE <= planned - resident <= 0.15 * resident
    if name in ("forward", "gradients"):
        assert without_threads < 0.95 * planned


def _resident(name):
    """(planned, that without threads, resident at most) of a call of ``resident_passes``."""
    resident_passes((120, 130))[name][0]()
    call, planned = resident_passes((1000, 1100))[name]
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    call()
    taken = _status("VmHWM") - before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba, "get_num_threads", lambda: 0)
        without_threads = planned()
    return planned(), without_threads, taken


def _status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field + ":"))
    return 1024 * int(line.split()[1])


def test_side_that_fits():
    form = Dense(build("n4", backend="reference")).program, "valid"

    def peak(size):
        return gradients_bytes(*form, size)

    side = fitting_side(peak, 10**9)
    assert peak((side, side)) <= 10**9
    assert peak((side + 1, side + 1)) > 10**9
    assert fitting_side(peak, 1000) == 0


@pytest.mark.cpu
def test_a_size_is_planned_once_and_with_the_program_that_runs(monkeypatch):
    planned = []

    def made(program, **options):
        planned.append(program)
        return MemoryPlan(program, **options)

    monkeypatch.setattr(planning, "MemoryPlan", made)
    dense = Dense(Net([Convolution(2, 3)], channels=1, patch=3, backend="cpu"))
    for size in ((5, 6), (5, 6), (7, 6), (5, 6)):
        dense.forward(np.ones((1, *size), np.float32))
    assert planned == [dense.program] * 2


@pytest.mark.cpu
@pytest.mark.parametrize("border", ["valid", "reflect"])
def test_tiles_are_the_same_bits(border, rng):
    dense = Dense(build("strided67", backend="cpu"), border)
    image = rng.random((3, 100, 91), np.float32)
    whole = dense.predict(image)
    for tile in (1000, 33, 20):
        for one, other in zip(whole, dense.predict(image, tile=tile)):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="tile is 0; expected an int of at least 1"):
        dense.predict(image, tile=0)


if __name__ == "__main__":
    print(json.dumps(_resident(sys.argv[1])))
