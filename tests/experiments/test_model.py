"""The model: it runs without a GPU, its terms add up, and its pages say what it is."""

from collections import Counter
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from experiments import __main__, model
from experiments.inputs.arithmetic import saved
from experiments.modelling import counted, page, predicted
from experiments.modelling.predicted import TERMS
from experiments.profiling import calls, static
from experiments.profiling.devices import DEVICES
from experiments.profiling.roofline import LAUNCH_SECONDS, PARTS, Prediction
from experiments.reporting import claims, pages, printed, stored
from experiments.reporting.derived import CLAIMED_SPEEDUP
from experiments.reporting.numbers import short
from experiments.storing import cache as storing_cache
from kernels.convolution.cuda_tiles import modelled_tile
from kernels.device.limits import MAX_ELEMENTS
from kernels.device.machine_code import MachineCode
from kernels.memory import cpu as cpu_memory
from net import planning, zoo
from net.ledger import UNINDEXABLE
from net.program import Program
from tests.experiments.test_command_line import experiments

NETS, SIZE = ("lenet28", "rcnn25"), 24
H100 = DEVICES["H100"]
PASSES = cache(counted.passes)


@pytest.fixture
def counted_before(monkeypatch):
    """What takes a compiler, a simulator and a process of its own, made up."""
    loop = Counter({"multiply-add": 256, "LDS 128": 64})
    made = MachineCode(64, 0, 16384, 1, loop, loop, 16 * loop.total(), "")

    class Codes(nullcontext):
        def __init__(self, cache, nets, size, devices):
            super().__init__(self)

        def of(self, net, device):
            every = PASSES(net, SIZE, device)
            number = (sum(len(call.launches) for call in one.calls) for one in every)
            return [[static.Code(made, (7, 5), 128)] * launches for launches in number]

    def lines(cache, cases):
        return {case: [] for case in cases}

    monkeypatch.setattr(static, "check", lambda: None)
    monkeypatch.setattr(counted, "passes", PASSES)
    monkeypatch.setattr(counted, "Codes", Codes)
    monkeypatch.setattr(counted, "lines", lines)
    monkeypatch.setattr(counted, "host_seconds", lambda cache, net, size: (2e-5, 3e-5))


def rows_of(devices=("A100", "K40")):
    return model.modelled(list(NETS), SIZE, {name: DEVICES[name] for name in devices}, None)


def test_the_command_stores_tables_and_a_figure(counted_before, tmp_path, capsys):
    options = SimpleNamespace(nets=NETS, devices=["H100", "K40"], size=SIZE, fresh=False)
    options.out, options.name = tmp_path, "model"
    assert model.main(options) == 0
    folder = tmp_path / "model"
    text = (folder / "table.md").read_text()
    assert printed.fitted(text, str(folder / "table.md")) in capsys.readouterr().out
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    rows = stored.load_profile(folder, __main__.profile.views()).rows
    assert {(row["net"], row["device"]) for row in rows} == {
        (net, device) for net in NETS for device in ("H100", "K40")
    }
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == 6
    assert all("MODEL" in line for line in headings)
    for line in text.splitlines():  # heads of columns with times or speedups
        assert "MODEL" in line or not line.startswith("| net")


def test_the_record_and_the_page_say_what_it_took(counted_before, tmp_path, monkeypatch):
    """With what was measured in an earlier run, and read from the cache in this one."""
    now = [0.0]

    def host_seconds(cache, net, size):
        def measure():
            now[0] += 100
            return [2e-5, 3e-5]

        return cache.measured({"host": net}, measure)

    monkeypatch.setattr(counted, "host_seconds", host_seconds)
    monkeypatch.setattr(model, "perf_counter", lambda: now[0])
    monkeypatch.setattr(storing_cache, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    options = SimpleNamespace(nets=NETS, devices=["H100"], size=SIZE, fresh=False)
    options.out, options.name = tmp_path, "model"
    for run in (1, 2):
        assert model.main(options) == 0
        assert now[0] == 200, f"run {run}"
        results = stored.load_profile(tmp_path / "model", __main__.profile.views())
        assert results.record["seconds"] == 200.0
        assert "**time:** 3 minutes;" in (tmp_path / "model" / "table.md").read_text()


def test_the_figure_says_model_in_every_part(counted_before):
    drawing = page.figure(rows_of(), {}, {})
    for axes in drawing.axes:
        assert "MODEL" in axes.get_title()
        assert "MODEL" in axes.get_ylabel()
        assert all("MODEL" in name for name in axes.get_legend_handles_labels()[1])


def test_terms_add_up_and_the_best_batch_is_chosen(counted_before):
    rows = rows_of()
    for row in rows:
        assert sum(row[term] for term in TERMS) == pytest.approx(row["seconds"])
        assert min(row[term] for term in TERMS) >= 0
        assert row["launch"] == pytest.approx(row["launches"] * LAUNCH_SECONDS)
    by_form = page._by_form(rows)
    assert len(by_form) == 2 * 2 * 2
    for forms in by_form.values():
        best, alone, dense = (forms[name] for name in (page.BEST, page.BATCH_OF_ONE, page.DENSE))
        assert best["seconds"] <= alone["seconds"]
        assert best["speedup"] == best["seconds"] / dense["seconds"]
        assert alone["launches"] > best["launches"] > dense["launches"]
        assert best["batch"] <= SIZE**2


def test_what_does_not_fit_is_left_out(counted_before, monkeypatch):
    monkeypatch.setattr(predicted, "memory_of", lambda net, size, one: 1e9 * one.batch)
    rows = rows_of(["V100"])
    assert {row["batch"] for row in rows} == {1}
    monkeypatch.setattr(predicted, "memory_of", lambda net, size, one: 1e15)
    assert not rows_of(["V100"])


def test_batches_are_those_whose_maps_kernels_can_index(monkeypatch):
    """As the planner says of a GPU."""
    monkeypatch.setattr(counted.calls, "of_net", lambda *_, **__: [])
    monkeypatch.setattr(cpu_memory, "MOST_ELEMENTS", MAX_ELEMENTS)
    largest = {}
    for name in zoo.ZOO:
        program = Program(zoo.build(name, backend="cpu"), "patch")
        place = program, "valid", (256, 256), 256 * 256
        planned = {n: planning.scan_bytes(*place, n, learning=True) for n in counted.BATCHES}
        every = counted.passes(name, 256, H100)
        batches = {one.batch for one in every if one.form == counted.PATCH}
        assert batches == {n for n, taken in planned.items() if taken < UNINDEXABLE}
        largest[name] = max(batches)
    assert largest["lenet28"] == 16384
    assert largest["n4"] == 4096


def convolutions(net, device):
    every = PASSES(net, SIZE, device)
    return [(one, call) for one in every for call in one.calls if call.multiply_adds]


def test_each_device_has_launches_of_its_own():
    """With the tiles that the kernels would choose there, and as many parts of the sums."""
    tiles, parts = {}, {}
    for name, device in DEVICES.items():
        seen = device.seen_by_kernels
        assert seen == (device.multiprocessors, device.limits.shared_bytes)
        made = convolutions("lenet28", device)
        for one, call in made:
            chosen = modelled_tile(*calls.product_of(call.case), 4, seen)
            assert call.tile == chosen, f"{name}, {one.form} {one.batch}: {call.case}"
        tiles[name] = [call.tile for _, call in made]
        parts[name] = [launch.blocks for _, call in made for launch in call.launches]
    assert tiles["H100"] == [call.tile for _, call in convolutions("lenet28", H100)]
    assert tiles["K40"] != tiles["V100"] != tiles["H100"]
    assert parts["H100"] != parts["RTX4090"]


def test_a_compiler_compiles_for_all_devices_of_its_target(monkeypatch):
    """Net after net, so that the caller waits for none that comes later, and what is kept not."""
    submitted = {}

    class Pool:
        def __init__(self, workers, mp_context):
            assert workers == 1
            submitted[self] = []

        def submit(self, function, *arguments):
            submitted[self].append(arguments)
            return SimpleNamespace(result=lambda: {"codes": [], "passes": []})

        def shutdown(self, cancel_futures):
            assert cancel_futures

    def target_of(capability):
        return max(capability, (7, 5))

    cache = Mock(holds=lambda key: key["net"] == NETS[0] and key["target"] == (9, 0))
    cache.measured = lambda key, measure: measure()
    monkeypatch.setattr(counted, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(static, "target_of", target_of)
    with counted.Codes(cache, NETS, SIZE, DEVICES.values()) as codes:
        old, new = [DEVICES["K40"], DEVICES["V100"]], [DEVICES["A100"], H100, DEVICES["RTX4090"]]
        each = [[(net, SIZE, device) for net in NETS for device in old]]
        each += [[(net, SIZE, device) for net in NETS] for device in new]
        each[2].pop(0)
        assert sorted(submitted.values(), key=str) == sorted(each, key=str)
        assert codes.of(NETS[0], DEVICES["K40"]) == []


def test_sectors_are_counted_with_the_tiles_of_each_batch():
    """Of as few batches as there are tiles."""
    every = PASSES("lenet28", SIZE, H100)
    counted_for = {}
    for one, cases in zip(every, counted.traced_cases(every), strict=True):
        for number, (call, case) in enumerate(zip(one.calls, cases, strict=True)):
            assert case.operator == call.operator
            assert calls.of_case(case).tile == call.tile
            if one.form == counted.PATCH and one.batch >= counted.LEAST_TRACED:
                like = one.backward, number, call.tile
                assert counted_for.setdefault(like, case) == case
            elif call.operator == "convolution.forward":
                assert case.shape[0] == one.batch
    batches = {case.shape[0] for case in counted_for.values()}
    assert min(batches) < counted.LEAST_TRACED < max(batches)  # that of the gradient by weights


def prediction(seconds, part=0):
    parts = [0.0] * len(PARTS)
    parts[part] = seconds
    return Prediction(seconds + LAUNCH_SECONDS, *parts)


def test_a_device_that_is_the_slower_one_waits_for_the_first_launch_only():
    total = predicted.repeated([prediction(1e-3), prediction(2e-3, 4)], 10, 1e-5)
    assert total.launches == 20
    assert total.terms["instructions"] == pytest.approx(1e-2)
    assert total.terms["memory"] == pytest.approx(2e-2)
    assert total.terms["launch"] == pytest.approx(20 * LAUNCH_SECONDS)
    assert total.terms["host"] == pytest.approx(1e-5)


def test_a_host_that_is_the_slower_one_sets_the_pace():
    total = predicted.repeated([prediction(1e-6)] * 4, 10, 1e-4)
    assert total.seconds == pytest.approx(40 * 1e-4 + 1e-6 + LAUNCH_SECONDS)


def row(**changed):
    """As the model makes it."""
    base = dict.fromkeys(TERMS, 0.0) | {"net": "n4", "size": 256, "stand_in": "", "batch": 64}
    base |= {"device": "A100", "direction": "forward", "launches": 7, "host_seconds": 1e-5}
    base |= {"multiply_adds": 10**9, "speedup": None}
    return base | changed


def rows_with(speedup, alone):
    dense = row(form=page.DENSE, seconds=1e-3)
    best = row(form=page.BEST, seconds=1e-3 * speedup, speedup=speedup, multiply_adds=10**11)
    one = row(form=page.BATCH_OF_ONE, seconds=1e-3 * alone, speedup=alone, batch=1)
    return [dense, best, one]


@pytest.mark.parametrize(("speedup", "alone"), [(321.0, 4567.0), (1777.0, 1888.0), (12.0, 34.0)])
def test_the_page_shows_the_rows_and_nothing_else(speedup, alone):
    text = page.table(rows_with(speedup, alone))
    assert f"| {short(speedup)}, A100 | {CLAIMED_SPEEDUP / speedup:.3g} |" in text
    assert f"| {alone:.4g} |" in text
    over = f"exceeds {CLAIMED_SPEEDUP} for n4, forward, A100"
    assert (over in text) == (speedup > CLAIMED_SPEEDUP)
    nets = "1 of 1 nets (n4)" if alone > CLAIMED_SPEEDUP else "0 of 1 nets (none)"
    assert nets in text


@pytest.mark.parametrize("direction", page.DIRECTIONS)
def test_the_limit_of_arithmetic_is_that_of_the_direction(direction):
    rows = [one | {"direction": direction} for one in rows_with(321.0, 4567.0)]
    limit = saved(zoo.build("n4", backend="reference"), None, direction)
    text = page.table(rows)
    assert f"| n4 | {direction} | 100 x | {limit:.3g} x |" in text
    assert f"saves at most {limit:.3g} times" in text


@pytest.mark.parametrize("name", NETS)
def test_arithmetic_counts_what_the_calls_do(name):
    """In each direction; scanning one by one does all that scanning does, pixel after pixel."""
    net = zoo.build(name, backend="reference")
    for backward, direction in enumerate(page.DIRECTIONS):
        done = {
            one.form: sum(call.multiply_adds for call in one.calls)
            for one in PASSES(name, SIZE, H100)
            if one.backward == backward and one.batch == 1
        }
        ratio = SIZE**2 * done[counted.PATCH] / done[counted.DENSE]
        assert saved(net, SIZE, direction) == pytest.approx(ratio, rel=1e-12)


def test_a_stand_in_is_named():
    rows = [each | {"stand_in": "sm_75", "device": "K40"} for each in rows_with(10.0, 20.0)]
    assert "| K40 (sm_75)* MODEL |" in page.table(rows)
    assert "K40 (code for sm_75) 10 (n4)" in page.note(rows, "forward")


def test_a_note_stands_beside_each_claim_and_is_no_verdict():
    forward = rows_with(321.0, 4567.0)
    rows = forward + [one | {"direction": page.DIRECTIONS[1]} for one in rows_with(654.0, 4567.0)]
    results = SimpleNamespace(
        record={"experiment": "model", "commit": "a" * 40}, folder=Path("m"), rows=rows
    )
    without, text = pages.reproduction([]), pages.reproduction([], page.notes([results]))
    for direction, speedup in zip(page.DIRECTIONS, (321, 654)):
        note = page.note(rows, direction)
        assert "MODEL" in note
        assert "no verdict" in note
        assert f"A100 {speedup} (n4)" in note
        assert text.count(note) == 1
        text = text.replace(
            f"\n{note} [Tables](../results/profile/m/table.md), of commit aaaaaaaaaaaa.\n", ""
        )
    assert text == without
    assert [claim.modelled for claim in claims.CLAIMS if claim.modelled] == [*page.DIRECTIONS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nets", "alexnet"), "--nets names alexnet; expected some of lenet28"),
        (("--devices", "K80"), "--devices names K80; expected some of K40"),
        (("--out", "/proc/here"), "--out is /proc/here; expected a writable folder"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    done = experiments("model", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
