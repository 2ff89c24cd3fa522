"""Device times: taken behind a busy device, or not at all. Launches are replaced by nothing."""

from unittest.mock import Mock

import numpy as np
import pytest

from experiments import __main__ as command_line
from experiments.measuring.timing import timed as clocked
from experiments.profiling import timed
from kernels import backends, get_backend
from kernels.activation import cuda as activation
from kernels.convolution import cuda as convolution
from kernels.convolution import cuda_tiles
from kernels.convolution import cuda_tiles_measured as measured
from kernels.device import api, launching, timing
from kernels.memory import cuda as memory

CALL = ["--operator", "convolution.forward", "--shape", "1", "2", "9", "40", "--filters", "4"]


@pytest.fixture
def device(device, monkeypatch, tmp_path):
    """Such a device, found by every experiment; its events tell the host's time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(api, "why_unavailable", lambda: None)
    backends._load.cache_clear()
    yield device
    backends._load.cache_clear()


class TestWithLaunchesReplaced:
    def test_tune_measures_nothing_and_stores_nothing(self, device, monkeypatch, capsys):
        tiles = {name: dict(list(table.items())[:2]) for name, table in cuda_tiles.TILES.items()}
        monkeypatch.setattr(cuda_tiles, "TILES", tiles)
        assert (
            command_line.main(["tune", "--nets", "lenet28", "--pixels", "4", "--batch", "2"]) == 2
        )
        assert device["launches"] > 0
        printed = capsys.readouterr()
        lines = printed.out.splitlines()
        assert len(lines) == 22
        assert all("not measured" in line for line in lines)
        assert "nothing is stored" in printed.err
        assert not measured.user_folder().exists()

    def test_tune_goes_on_after_a_layer_that_does_not_fit(self, device, monkeypatch, capsys):
        monkeypatch.setattr("kernels.device.stand_in.MEMORY", 40_000_000)
        command = ["tune", "--nets", "lenet28", "--pixels", "4", "--batch", "64"]
        assert command_line.main(command) == 2
        lines = capsys.readouterr().out.splitlines()
        small, large = ([s for s in lines if text in s] for text in ("was done", "do not fit"))
        assert min(len(small), len(large)) > 0
        assert len(small) + len(large) == len(lines) == 22
        assert all("free" in line for line in large)

    def test_profile_refuses_what_does_not_fit(self, device, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr("kernels.device.stand_in.MEMORY", 1000)
        options = ["--sources", "timed", "--out", str(tmp_path), "--name", "here"]
        assert command_line.main(["profile", *CALL, *options]) == 2
        assert "--shape is too large for this device" in capsys.readouterr().err
        assert not (tmp_path / "here").exists()

    def test_profile_says_so(self, device, tmp_path):
        options = ["--sources", "timed", "--out", str(tmp_path), "--name", "here"]
        assert command_line.main(["profile", *CALL, *options]) == 0
        assert device["launches"] > 0
        page = (tmp_path / "here" / "table.md").read_text()
        (line,) = (s for s in page.splitlines() if "| convolution.forward" in s)
        assert line.endswith("| not measured |")
        assert "GFLOP/s" not in line

    def test_the_device_column_of_an_experiment_is_empty(self, device):
        ops, x = get_backend("cuda"), memory.empty((1, 2, 3, 4), "float32")

        def call():
            return ops.activation.forward(x, "relu")

        _, (wall, on_device) = clocked(ops, call, again=call)
        assert wall > 0
        assert on_device is None


class Events:
    """The device's events and the host's acts, in order; ``busy`` tells whether the device is."""

    def __init__(self, monkeypatch, busy):
        self.acts, self.busy = [], iter(busy)
        numba = Mock(event=self.event, event_elapsed_time=lambda first, last: 5.0)
        monkeypatch.setattr(timing, "cuda", numba)
        monkeypatch.setattr(timing, "stream", lambda: "here")
        monkeypatch.setattr(timing, "keep_busy", lambda s: self.acts.append(f"busy {s}"))

    def event(self):
        number = 1 + sum(act.startswith("event") for act in self.acts)
        self.acts.append(f"event {number}")

        def query():
            self.acts.append(f"query {number}")
            return not next(self.busy)

        return Mock(
            record=lambda stream: self.acts.append(f"record {number} {stream}"),
            synchronize=lambda: self.acts.append(f"wait {number}"),
            query=query,
        )


@pytest.mark.parametrize("busy", [True, False])
def test_a_time_counts_if_the_device_was_busy_until_all_was_queued(monkeypatch, busy):
    events = Events(monkeypatch, [busy])
    result = timing.on_device(lambda: events.acts.append("call") or "made", 0.01)
    assert result == ("made", 5e-3 if busy else None)
    after = ["busy 0.01", "record 1 here", "call", "record 2 here", "query 1", "wait 2"]
    assert events.acts[2:] == after


def test_the_device_is_kept_busy_for_longer_than_the_host_takes():
    with launching.recorded() as launches:
        for seconds in (0, 1e-3, 1.0):
            timing.keep_busy(seconds)
    turns = [int(launch.arguments[0]) for launch in launches]
    assert [n * timing.TURN_SECONDS for n in turns] == pytest.approx(
        [timing.SHORTEST_SPIN, 1e-3, timing.LONGEST_SPIN], rel=1e-3
    )


class TestInterleaved:
    @pytest.fixture
    def rounds(self, device, monkeypatch):
        """What is timed: the launches and allocations of each, behind a device that is busy."""
        seen = []

        def on_device(call, host_seconds):
            before = dict(device)
            result = call()
            changed = {k: device[k] - before.get(k, 0) for k in ("launches", "allocations")}
            seen.append((changed["launches"], changed["allocations"]))
            return result, next(self.seconds)

        self.seconds = iter(np.arange(1.0, 99.0))
        monkeypatch.setattr(timed, "on_device", on_device)
        return seen

    def runs(self):
        x, weights = (memory.empty(s, "float32") for s in ((1, 2, 9, 40), (4, 2, 3, 3)))
        return [lambda: activation.forward(x, "relu"), lambda: convolution.forward(x, weights)]

    def test_rounds_alternate_and_only_launch(self, rounds):
        assert timed.interleaved(self.runs(), 2, 3) == [[1, 3, 5], [2, 4, 6]]
        assert rounds == [(1, 0), (2, 0)] * 3

    def test_one_figure_that_is_refused_refuses_the_median(self, rounds):
        self.seconds = iter([1.0, 2.0, None, 4.0, 5.0])
        assert timed.interleaved(self.runs(), 2, 3) == [None, [2.0, 4.0, 5.0]]


@pytest.mark.gpu
def test_a_busy_device_is_timed():
    """Twice the work takes about twice as long."""
    x = memory.to_device(np.ones((1, 64, 512, 512), np.float32))

    def run(times):
        for _ in range(times):
            activation.forward(x, "relu", out=x)

    once, twice = timed.interleaved([lambda: run(10), lambda: run(20)], 3, 9)
    if once is None or twice is None:
        pytest.skip("the device's queue ran dry")
    assert 1.5 < np.median(twice) / np.median(once) < 2.5
