"""Scanning as the opponent on a GPU: batches that fill its memory, and a queue that is full."""

from argparse import Namespace

import numpy as np
import pytest

from experiments.measuring import beside_torch, compare
from kernels.backends import Backend
from kernels.device import launching
from net import Scan, zoo
from net.planning import scan_bytes


@pytest.fixture
def net(device):
    """On a device that does nothing."""
    net = zoo.build("lenet28", backend="cpu")
    net.backend = Backend("cuda")
    for name, array in net.parameters.items():
        net.parameters[name] = net.backend.memory.empty(array.shape, array.dtype)
    return net


@pytest.mark.parametrize(
    ("labelled", "too_large", "most"), [(256, None, 16384), (100, None, 4096), (256, 4096, 1024)]
)
def test_batches_go_up_to_what_memory_allows(net, monkeypatch, labelled, too_large, most):
    size = labelled, labelled
    if too_large:
        form = Scan(net).program, "valid", size
        needed = scan_bytes(*form, too_large, too_large, learning=True)
        monkeypatch.setattr("kernels.device.stand_in.MEMORY", needed - 1)
    tried = compare.batches(compare.Workload(net, labelled, 0))
    assert tried == tuple(n for n in compare.BATCHES_ON_GPU if n <= most)
    assert tried[-1] == most


def test_nothing_is_waited_for_between_the_batches_of_a_scan(net, device, monkeypatch):
    """The last launch is queued before the first wait that follows the first launch."""
    image, pixels = np.zeros((1, 40, 40), np.float32), np.argwhere(np.ones((13, 13), bool))
    error, seen = np.zeros((169, 10), np.float32), []
    do = launching.do
    monkeypatch.setattr(launching, "do", lambda again: do(again) or seen.append(device["waits"]))
    scan = Scan(net, batch=20)
    for run in (lambda: scan.forward(image, pixels), lambda: scan.gradients(image, error, pixels)):
        seen.clear()
        run()
        assert len(seen) > 9 * 4
        assert len(set(seen)) == 1
        assert device["waits"] == seen[-1] + 1  # for all results together


class OutOfMemoryError(RuntimeError):
    """As PyTorch's is called."""


class Opponent:
    """Instead of PyTorch, which may be missing: its memory holds forward passes of 256 patches, and
    backward ones of 64."""

    def forward(self, x):
        if len(x) > 256:
            raise OutOfMemoryError("CUDA out of memory")
        return np.zeros((len(x), 10, 1, 1), x.dtype)

    def gradients(self, x, error):
        if len(x) > 64:
            raise OutOfMemoryError("CUDA out of memory")


def test_pytorch_meets_as_large_batches_as_memory_allows(net, monkeypatch):
    """Each side runs with its fastest, here by decree the largest that it holds."""
    monkeypatch.setattr(compare, "BATCHES_ON_GPU", (16, 64, 256, 1024))
    monkeypatch.setattr(beside_torch, "prepared", lambda *a, **options: net)
    monkeypatch.setattr(beside_torch, "_opponents", lambda *a: {"PyTorch contiguous": Opponent()})
    monkeypatch.setattr(beside_torch, "relative_difference", lambda a, b: 0.0)
    monkeypatch.setattr(beside_torch, "_seconds", lambda call: call() is None or 1.0)
    once = lambda jobs, *a, **options: {key: [1.0] for key in jobs}  # noqa: E731
    monkeypatch.setattr(beside_torch, "interleaved", once)
    rows = beside_torch.scanning("lenet28", 0, Namespace(seed=0, backend="cuda", quick=False))
    batches = {(row["way"], row["pass"]): row["batch"] for row in rows}
    ours = dict.fromkeys(((beside_torch.OURS, p) for p in beside_torch.PASSES), 1024)
    theirs = {"forward": 256, "forward + backward": 64}
    assert batches == ours | {("PyTorch contiguous", p): n for p, n in theirs.items()}


def test_whole_scans_are_timed(net, monkeypatch):
    """A scan forward, and one forward and backward, whose difference is backward's time."""
    workload, calls = compare.Workload(net, 8, 0), []
    scan = Scan(net, batch=16)
    for name in ("forward", "gradients"):
        monkeypatch.setattr(scan, name, lambda *a, name=name: calls.append((name, len(a[-1]))))
    seconds = {0: (0.5, None), 4: (1.0, None), 5: (3.0, None)}
    timings = iter(range(6))
    monkeypatch.setattr(
        compare, "timed", lambda ops, call: (call(), seconds.get(next(timings), (0.5, None)))
    )
    taken = compare.scan_pass(scan, workload.image, workload.error, workload.pixels(64))
    assert calls == [("forward", 64), ("gradients", 64)]
    assert taken.totals == {"forward": (1.0, None), "backward": (2.0, None)}
    assert taken.layers["forward", compare.CUTTING] == 2.0


def test_the_device_is_timed_over_one_batch(net, device, monkeypatch):
    """What is launched waits for nothing, and the time is scaled to all pixels."""
    workload, scan = compare.Workload(net, 8, 0), Scan(net, batch=16)
    seconds, waits = iter((0.25, 0.75)), []

    def device_seconds(ops, call, wall):
        before = device["waits"]
        made = call()
        waits.append(device["waits"] - before)
        return made, next(seconds)

    monkeypatch.setattr(compare, "device_seconds", device_seconds)
    taken = compare.scan_pass(scan, workload.image, workload.error, workload.pixels(64))
    assert [device for _, device in taken.totals.values()] == [1.0, 3.0]
    assert waits == [0, 0]
