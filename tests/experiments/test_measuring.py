"""What the experiments measure with: rounds, spreads, nets, memory and checks that can fail."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import (
    against_torch,
    convolution,
    equality,
    host,
    large,
    layers,
    memory,
    methods,
    networks,
    pooling,
    profile,
    sampled,
)
from experiments.__main__ import main
from experiments.inputs.nets import affordable, family, prepared
from experiments.measuring import beside_torch, labelling, peak, runners, timing
from experiments.measuring.ceilings import ceilings, copying
from experiments.measuring.compare import Workload, compared
from experiments.measuring.exactness import NotEqual
from experiments.measuring.sweep import Point, rates
from experiments.measuring.timing import interleaved, mark, spread
from experiments.measuring.torch_layers import why_unavailable
from experiments.reporting import stored
from experiments.reporting.derived import crossing
from experiments.storing.cache import MeasurementCache
from kernels import get_backend
from net import Net
from net.layers import FullyConnected
from net.zoo import ZOO
from tests.comparison import relative_difference

RESULTS = Path(__file__).parents[2] / "results" / stored.PROFILE
OPTIONS = SimpleNamespace(quick=True, seed=0, backend="cpu", nets=["lenet28"])


def test_rounds_come_to_five_in_orders_of_their_own():
    order = []
    jobs = {name: lambda name=name: (time.sleep(0.08), order.append(name)) for name in "abc"}
    given = interleaved(jobs)
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert [sorted(names) for names in rounds] == [list("abc")] * 5
    assert len(set(rounds)) > 2
    assert {name: len(times) for name, times in given.items()} == {"a": 5, "b": 5, "c": 5}


def test_fewer_rounds_when_time_is_short_are_marked():
    given = interleaved({"a": lambda: time.sleep(0.02)}, longest=0.03)
    assert len(given["a"]) == 1
    assert mark({"repeats": 1, "extrapolated": True}) == "*†"
    assert mark({"repeats": timing.ROUNDS, "extrapolated": False}) == ""


@pytest.mark.cpu
def test_patches_run_in_the_batch_that_is_fastest_in_the_rounds(monkeypatch):
    taken = {2: [6.0, 2.0, 6.0], 4: [8.0] * 3}
    monkeypatch.setattr(beside_torch, "batches", lambda *_: tuple(taken))
    monkeypatch.setattr(beside_torch, "_opponents", lambda *_: {})
    rounds = lambda jobs, *_: {job: taken[job[-1]] for job in jobs}  # noqa: E731
    monkeypatch.setattr(beside_torch, "_rounds", rounds)
    rows = beside_torch.scanning("lenet28", None, OPTIONS)
    assert [(row["pass"], row["batch"], row["seconds"]) for row in rows] == [
        ("forward", 4, 2.0),
        ("forward + backward", 4, 2.0),
    ]


def slow_clock():
    """By which everything takes minutes."""
    return SimpleNamespace(perf_counter=count(0, 1000).__next__)


@pytest.mark.parametrize("quick", [False, True])
def test_against_torch_takes_three_rounds_however_long_they_are(quick, monkeypatch):
    monkeypatch.setattr(timing, "time", slow_clock())
    given = beside_torch._interleaved({"slow": lambda: 1}, SimpleNamespace(quick=quick))
    assert len(given["slow"]) == timing.FEWEST


@pytest.mark.parametrize("quick", [False, True])
def test_labelling_takes_three_rounds_however_long_they_are(quick, monkeypatch, tmp_path):
    net = Net([FullyConnected(2)], channels=1, patch=3, backend="reference")
    monkeypatch.setattr(labelling, "SIDE", 64)
    monkeypatch.setattr(timing, "time", slow_clock())
    row = labelling.timed_regions(net, 4 * 10**8, (1, 1), 0, tmp_path, quick)
    assert row["repeats"] == timing.FEWEST


def test_pooling_is_held_against_a_copy_in_the_same_rounds():
    """Least to most over the distances, of what maps beyond the caches reach."""
    point = {"axis": pooling.BESIDE, "image": pooling.LARGE, "channels": 48, "repeats": 9}
    point |= {"device_seconds": None, "gbytes": 40.0, "gflops": None, "method": "so"}
    rows = []
    for kernel, (d, seconds) in product(pooling.AIMS, ((1, 2e-3), (8, 4e-3))):
        times = {"forward": seconds, "forward without cells": seconds / 2, "copy": 1e-3}
        rows += [
            point
            | {"kernel": kernel, "d": d, "operation": operation, "work": 10**6}
            | {"seconds": s, "seconds_p20": s, "seconds_p80": s}
            for operation, s in times.items()
        ]
    lines = pooling.table(rows).splitlines()
    assert "| 2 x 2 | 0.7 | 0.50 to 1.00 | 0.6 | 0.25 to 0.50 |" in lines
    assert "| 8 x 8 | 0.4 | 0.50 to 1.00 | 0.3 | 0.25 to 0.50 |" in lines


def test_a_copy_by_threads_copies_all():
    source, target = np.arange(1001, dtype=np.float32), np.zeros(1001, np.float32)
    with ThreadPoolExecutor(3) as workers:
        copying(workers, 3, source, target)()
    assert np.array_equal(target, source)


def test_spread():
    assert spread([4, 1, 2, 3, 5]) == pytest.approx(
        {"seconds": 3, "seconds_p20": 1.8, "seconds_p80": 4.2, "repeats": 5}
    )


@pytest.mark.parametrize("patch", [16, 32, 48, 64, 96, 128, 160])
def test_every_net_of_the_family_reads_its_whole_patch(patch):
    net = family(patch, backend="reference")
    assert net.receptive_field == net.patch == (patch, patch)


def test_multiply_adds_saved_grow_along_the_family():
    def saved(patch):
        nodes = family(patch, backend="reference").nodes.values()
        scanning = [node.multiply_adds * np.prod(node.output.size) for node in nodes]
        return sum(scanning) / sum(node.multiply_adds for node in nodes)

    ratios = [saved(patch) for patch in (16, 32, 48, 64, 96, 128, 160)]
    assert ratios == sorted(ratios)
    assert ratios[-1] > 100 * ratios[0]


@pytest.mark.cpu
@pytest.mark.parametrize("name", [runners.FRAGMENTS, runners.ZERO_FILLED, *runners.TORCH])
def test_every_way_gives_what_the_dense_form_gives(name):
    if name in runners.TORCH and why_unavailable("cpu"):
        pytest.skip(why_unavailable("cpu"))
    net = prepared("strided67", seed=0, backend="cpu").to(dtype="float64")
    workload = Workload(net, 5, seed=0)
    runner, dense = runners.runner(name, net), runners.runner(runners.DENSE, net)
    assert (
        relative_difference(runner.forward(workload.image), dense.forward(workload.image)) <= 1e-12
    )
    gradients, expected = (w.gradients(workload.image, workload.error) for w in (runner, dense))
    assert gradients.keys() == expected.keys()
    assert max(relative_difference(gradients[k], expected[k]) for k in gradients) <= 1e-12


@pytest.mark.cpu
def test_peak_memory_sees_what_a_pass_allocates():
    job = {"net": "family-16", "backend": "cpu", "seed": 0, "runner": runners.DENSE}
    small, large = (peak.peak_memory(job | {"labelled": n}) for n in (64, 256))
    first_map = 24 * (256 + 15 - 4) ** 2 * 4
    assert large["forward"]["peak_bytes"] > first_map
    both = large["forward + backward"]["peak_bytes"]
    assert both > large["forward"]["peak_bytes"]
    assert 8 * small["forward + backward"]["peak_bytes"] < 1.5 * both
    assert "VmHWM" in large["forward"]["peak_method"]


@pytest.mark.cpu
def test_what_passes_before_left_is_in_no_peak():
    job = {"net": "plain133", "backend": "cpu", "seed": 0, "labelled": 128}
    every = ("random", 128**2)
    cases = [(drawn, number) for drawn in ("random", "scribbles") for number in (64, 512)]
    few = cases[0]
    whole = peak.masked_peaks(job | {"runner": runners.EVERYWHERE}, [every])[every]
    some = peak.masked_peaks(job | {"runner": runners.NEEDED}, [*cases, every])
    for name in peak.PASSES:
        most = whole[name]["peak_bytes"]
        assert some[every][name]["peak_bytes"] <= 1.05 * most
        assert all(some[case][name]["peak_bytes"] < most for case in cases)
        assert some[few][name]["peak_bytes"] <= 0.8 * most


def test_what_a_first_pass_loads_is_in_no_peak():
    class Meter:
        method = "a sum"

        def reset(self):
            self.sum = 0

        def peak(self):
            return self.sum

    meter, loaded = Meter(), set()

    class Runner:
        def forward(self, *arguments):
            self._pass("forward", 1)

        def gradients(self, *arguments):
            self._pass("gradients", 2)

        def _pass(self, name, size):
            meter.sum = size + 1000 * (name not in loaded)
            loaded.add(name)

    peaks = peak._peaks(meter, None, None, Runner)
    assert [peaks[name]["peak_bytes"] for name in peak.PASSES] == [1, 2]


def test_rates_are_of_one_clock():
    row = {"work": 6e9, "seconds": 3.0, "device_seconds": None}
    assert rates([row, row | {"seconds": 2.0}]) == [2.0, 3.0]  # on the host
    waited, known = rates([row, row | {"device_seconds": 1.0}])
    assert np.isnan(waited)
    assert known == 6.0


@pytest.mark.cpu
def test_ceilings_are_those_of_this_machine():
    measured = ceilings("cpu", 1, quick=True)
    assert 0.1 < measured["gflops"] < 1e5
    assert 0.1 < measured["gbytes"] < 1e5
    assert json.dumps(measured)


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("experiment", "operator", "function"),
    [
        (convolution, "convolution", "forward"),
        (convolution, "convolution", "gradient_input"),
        (convolution, "convolution", "gradient_weights"),
        (pooling, "max_pooling", "backward"),
    ],
)
def test_a_wrong_operator_is_not_timed(experiment, operator, function, monkeypatch):
    ops, point = get_backend("cpu"), Point(image=6, kernel=3, d=2, channels=2)
    experiment._measured(point, np.random.default_rng(0), ops, 0.1)
    right = getattr(getattr(ops, operator), function)
    monkeypatch.setattr(getattr(ops, operator), function, lambda *a, **k: right(*a, **k) * 1.001)
    with pytest.raises(NotEqual):
        experiment._measured(point, np.random.default_rng(0), ops, 0.1)


@pytest.mark.cpu
@pytest.mark.parametrize("gradients", [False, True])
def test_a_net_whose_forms_disagree_is_not_timed(gradients, monkeypatch):
    pool = get_backend("cpu").max_pooling
    name = "backward" if gradients else "forward"
    right = getattr(pool, name)

    def wrong(*arguments, **moves):
        result = right(*arguments, **moves)
        if moves["stride"] != (1, 1):
            return result
        return result * 1.001 if gradients else (result[0] * 1.001, result[1])

    monkeypatch.setattr(pool, name, wrong)
    with pytest.raises(NotEqual):
        compared("lenet28", (16,), OPTIONS, memory=False)


@pytest.mark.cpu
@pytest.mark.parametrize("error", [NotEqual, MemoryError])
def test_an_experiment_that_fails_stores_nothing(error, tmp_path, monkeypatch, capsys):
    def run(options):
        options.cache.measured({"net": "right"}, lambda: [])
        raise error("scores differ")

    monkeypatch.setattr(equality, "run", run)
    assert main(["equality", "--quick", "--backend", "cpu", "--out", str(tmp_path)]) == 1
    assert "equality is not stored: scores differ" in capsys.readouterr().err
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.cpu
def test_a_way_that_is_wrong_is_not_timed(monkeypatch):
    right = runners._Form.forward
    monkeypatch.setattr(
        runners._ZeroFilled, "forward", lambda *a: right(*a) * np.float32(1.001), raising=False
    )
    with pytest.raises(NotEqual):
        methods._measured("lenet28", runners.ZERO_FILLED, 8, None, OPTIONS)


def test_a_way_that_cannot_run_here_is_skipped_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr(methods, "OTHERS", ("PyTorch contiguous",))
    monkeypatch.setattr(runners, "why_unavailable", lambda *_: "PyTorch is not installed")
    OPTIONS.cache = MeasurementCache(tmp_path, {}, {})
    rows, _ = methods.run(OPTIONS)
    assert "skipped: PyTorch is not installed" in methods.table(rows)
    assert methods.figure(rows, {}, {}) is None


def rows_of(scanning, dense, extrapolated=()):
    shared = {"net": "n", "kind": "backward", "labelled": 16}
    rows = [
        shared
        | {"form": "scanning", "pixels": n, "seconds": s, "sample": n}
        | {"extrapolated": n in extrapolated}
        for n, s in scanning
    ]
    return rows + [
        shared
        | {"form": "dense", "pixels": n, "seconds": dense, "sample": n, "extrapolated": False}
        for n, _ in scanning
    ]


@pytest.mark.parametrize(
    ("scanning", "dense", "extrapolated", "expected"),
    [
        ([(1, 1), (10, 10), (100, 100)], 55, (), (55, False)),
        ([(1, 1), (10, 10), (100, 100)], 55, (100,), (55, True)),
        ([(1, 1), (10, 10)], 50, (), (50, True)),
        ([(1, 5), (10, 50)], 4, (), (1, False)),
    ],
    ids=["between", "between, extrapolated", "beyond", "at once"],
)
def test_the_crossing_point(scanning, dense, extrapolated, expected):
    rows = rows_of(scanning, dense, extrapolated)
    smaller = [row | {"labelled": 8, "seconds": 1000.0} for row in rows]
    rows = smaller + rows  # the largest size counts
    assert crossing(rows, "n", "backward") == pytest.approx(expected)


def test_every_zoo_net_is_measured():
    jobs = []
    cache = SimpleNamespace(measured=lambda parameters, _: jobs.append(parameters) or [])
    options = SimpleNamespace(quick=False, nets=None, cache=cache, backend="cpu", seed=0)
    for experiment in (equality, networks, sampled, methods, against_torch, layers):
        jobs.clear()
        experiment.run(options)
        assert list(dict.fromkeys(job["net"] for job in jobs)) == [*ZOO], experiment.__name__
    assert [*large.NETS] == [*ZOO]


def test_the_authors_net_is_measured_at_1024_besides_and_greenteas_at_its_own_size():
    jobs = {}
    cache = SimpleNamespace(measured=lambda p, _: jobs.update({p["net"]: p["sizes"]}) or [])
    networks.run(SimpleNamespace(quick=False, nets=None, cache=cache, backend="cpu"))
    assert jobs.pop("authors133") == (128, 256, 512, 1024)
    assert jobs.pop("greentea102") == (128,)
    assert set(jobs.values()) == {(128, 256, 512)}


def test_zero_filled_kernels_beyond_memory_are_left_out():
    reasons = {net: methods._why_skipped(net, runners.ZERO_FILLED, "cpu") for net in ZOO}
    reason = reasons.pop("greentea102")
    assert reason.startswith(f"its largest kernel would have {1024 * 192 * 73**2:,} weights")
    assert set(reasons.values()) == {None}


def test_only_hosts_are_spared_what_takes_them_minutes():
    assert affordable("n4", (256, 512), "cuda", 1.0) == (256, 512)


@pytest.mark.parametrize("net", ["authors133", "greentea102"])
def test_the_nets_of_others_are_counted_on_the_kernels_too(net):
    assert net in memory.NETS
    assert net in host.NETS
    rows = stored.load_profile(RESULTS / "model", profile.views()).rows
    assert net in {row["net"] for row in rows}
    rows = stored.load_profile(RESULTS / net, profile.views()).rows
    assert {row["form"] for row in rows} == {"dense", "patch"}
