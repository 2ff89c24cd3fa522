"""The profiler: the calls that it finds, occupancy, and the roofline model."""

import json
import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from experiments import __main__ as command_line
from experiments.profiling import (
    bounds,
    calls,
    compiled,
    counter,
    facts,
    roofline,
    simulation,
    static,
    tables,
    targets,
)
from experiments.profiling.devices import DEVICES, LIMITS
from experiments.profiling.operators import Arrays, OperatorCase
from experiments.reporting import printed, stored
from kernels.convolution.cuda_tile import Tile
from kernels.convolution.cuda_tiles import TILES
from kernels.device import api
from kernels.device.machine_code import INSTRUCTION_BYTES, MachineCode
from kernels.max_pooling import argmax_dtype
from net import Dense, Scan, zoo
from net.summary import multiply_adds

MISSING = api.why_uncompilable()
compiling = [pytest.mark.compile, pytest.mark.skipif(bool(MISSING), reason=MISSING or "")]
CONVOLUTION = OperatorCase("convolution.forward", (1, 8, 20, 150), 48, (3, 3), (1, 1), (2, 2))


@pytest.mark.parametrize(("form", "labelled"), [("dense", 32), ("patch", 8)])
def test_a_nets_calls_are_its_layers(form, labelled):
    """Their multiply-adds are those of the summary, which counts them from the geometry."""
    net = zoo.build("strided67", backend="cpu")
    net_calls = calls.of_net("strided67", labelled, form, batch=labelled**2, backward=True)
    forward = [call for call in net_calls if call.operator == "convolution.forward"]
    steps = (Dense if form == "dense" else Scan)(net).program.steps
    layers = [step for step in steps if step.node.layer.has_weights]
    assert [call.layer for call in forward] == [" + ".join(step.layers) for step in layers]
    for call, step in zip(forward, layers):
        scanning, dense = multiply_adds(net, step.node, (labelled, labelled))
        assert call.multiply_adds == (dense if form == "dense" else scanning)
    for call in net_calls:
        if call.operator.startswith("convolution.gradient_") and call.multiply_adds:
            forward_call = next(c for c in forward if c.layer == call.layer)
            assert call.multiply_adds == forward_call.multiply_adds
    assert {call.direction for call in net_calls} == {"forward", "backward"}


def test_compulsory_bytes():
    call = calls.of_case(CONVOLUTION)
    x, weights, bias, y = 8 * 20 * 150, 48 * 8 * 9, 48, 48 * 16 * 146
    assert call.compulsory_bytes == 4 * (x + weights + bias + y)
    case = OperatorCase("max_pooling.forward", (2, 3, 10, 12), kernel=(2, 2), stride=(2, 2))
    assert calls.of_case(case).compulsory_bytes == 4 * 2 * 3 * 120 + (4 + 1) * 2 * 3 * 30


def code(threads, sums=256, others=64):
    """Code of a main loop of multiply-adds and others."""
    loop = Counter({"multiply-add": sums, "LDS 128": others})
    made = MachineCode(
        128, 0, 16384, 1, loop, loop if sums else Counter(), 16 * (sums + others), ""
    )
    return static.Code(made, (8, 0), threads)


def test_the_model_counts_whole_tiles_and_the_fullest_multiprocessor():
    call = calls.of_case(CONVOLUTION)
    launch = call.launches[-1]
    executed = roofline.executed_multiply_adds(call, launch)
    assert executed >= call.multiply_adds
    a100, h100 = DEVICES["A100"], DEVICES["H100"]
    # 64 lanes: a multiply-add takes two clocks, in which the others fit; 128 lanes: they do not
    for device, clocks in ((a100, 2 * 256), (h100, 256 + 64)):
        predicted = roofline.predict(call, launch, code(launch.threads), device, 0.0)
        fullest = math.ceil(math.prod(launch.blocks) / device.multiprocessors)
        blocks = min(fullest, code(launch.threads).resident_blocks(device.limits))
        resident = blocks * launch.threads // 32
        least = executed / math.prod(launch.blocks) / 32 / 256 * clocks / 4 * fullest
        expected = least / device.clock * max(1, roofline.LATENCY_HIDING_WARPS / resident)
        assert predicted.instructions == pytest.approx(expected)
        at_peak = executed / math.prod(launch.blocks) * fullest / device.limits.lanes / device.clock
        assert predicted.reached == pytest.approx(at_peak / device.reached.share)
        longest = max(predicted.instructions, predicted.reached, predicted.memory)
        assert predicted.seconds == longest + roofline.LAUNCH_SECONDS


def test_the_model_fetches_a_large_main_loop_anew_in_each_turn():
    call, device = calls.of_case(CONVOLUTION), DEVICES["H100"]
    launch = call.launches[-1]
    blocks = math.prod(launch.blocks)
    executed = roofline.executed_multiply_adds(call, launch) / blocks
    fullest = math.ceil(blocks / device.multiprocessors)
    first, second = (
        size // INSTRUCTION_BYTES for size in (roofline.FIRST_CACHE, roofline.SECOND_CACHE)
    )
    from_l2 = INSTRUCTION_BYTES * device.multiprocessors / device.l2_bytes_per_clock
    in_turn = INSTRUCTION_BYTES * roofline.PARTITIONS / roofline.LINE_BYTES
    for length, clocks in ((first, 0), (first + 1, in_turn), (second, in_turn), (9999, from_l2)):
        made = code(launch.threads, sums=length - 64)
        turns = executed / launch.threads / (length - 64)
        expected = fullest * turns * length * clocks / device.clock
        predicted = roofline.predict(call, launch, made, device, 0.0)
        assert predicted.fetched == pytest.approx(expected)


def test_strided_gradients_are_counted_part_by_part():
    """4 parts of 2 x 8 x 8 pixels, each with 2 x 2 of the 4 x 4 taps, in tiles of 1 x 256."""
    tile = Tile(1, 4, (1, 32), (1, 2))
    case = OperatorCase("convolution.gradient_input", (2, 3, 16, 16), 5, (4, 4), (2, 2), tile=tile)
    call = calls.of_case(case)
    executed = [roofline.executed_multiply_adds(call, launch) for launch in call.launches]
    assert [count for count in executed if count] == [3 * 256 * 5 * 4] * 4


def test_launches_that_share_a_gradients_pixels_share_its_multiply_adds():
    """The first fully connected layer of greentea102: its partial sums take several launches."""
    case = OperatorCase(
        "convolution.gradient_weights", (1, 192, 328, 328), 1024, (10, 10), dilation=(8, 8)
    )
    call = calls.of_case(case)
    executed = [roofline.executed_multiply_adds(call, launch) for launch in call.launches]
    executed = [count for count in executed if count]
    assert len(executed) > 1
    assert call.multiply_adds <= sum(executed) <= 1.1 * call.multiply_adds


def test_the_model_of_a_pointwise_kernel_is_bound_by_memory():
    call = calls.of_case(OperatorCase("activation.forward", (1, 64, 512, 512)))
    device = DEVICES["A100"]
    predicted = roofline.predict(call, call.launches[0], code(256, sums=0), device, 0.0)
    assert predicted.bound == "memory"
    assert predicted.memory == pytest.approx(2 * 4 * 64 * 512 * 512 / device.bandwidth)
    slowed = roofline.predict(call, call.launches[0], code(256, sums=0), device, 1e12)
    assert slowed.bound == "L2"


@pytest.mark.parametrize(
    "case",
    [
        CONVOLUTION,
        replace(CONVOLUTION, operator="convolution.gradient_input"),
        replace(CONVOLUTION, operator="convolution.gradient_weights"),
        OperatorCase("convolution.forward", (1, 50, 268, 268), 500, (4, 4), dilation=(4, 4)),
        OperatorCase("convolution.gradient_weights", (1, 500, 60, 256), 10),
        OperatorCase("convolution.forward", (64, 48, 3, 3), 200, (3, 3)),
        OperatorCase("convolution.gradient_weights", (64, 48, 3, 3), 200, (3, 3)),
        OperatorCase("max_pooling.forward", (1, 8, 20, 150), kernel=(2, 2)),
    ],
    ids=str,
)
def test_shortened_cases_have_the_same_kernels(case):
    call = calls.of_case(case)
    short = simulation.shortened(call)
    assert calls.of_case(short).tile == call.tile
    assert math.prod(short.shape) * (short.filters or 1) <= math.prod(case.shape) * (
        case.filters or 1
    )
    assert short.output[3] >= min(case.output[3], 3)
    kernels = [[x.kernel for x in calls.of_case(c).launches][-1:] for c in (case, short)]
    if case.operator != "convolution.gradient_weights":  # whose last kernel adds partial sums
        assert kernels[0] == kernels[1]


def test_counted_bytes_grow_with_the_launch():
    """Also of a launch that the shortened call does without."""
    call = calls.of_case(OperatorCase("convolution.gradient_weights", (1, 8, 90, 150), 48, (3, 3)))
    short = calls.of_case(simulation.shortened(call))
    fields = {"operator": call.operator, "file": "", "line": 1, "text": "", "array": "x"}
    fields |= {"share": 0.5, "memory": "global", "access": "load", "itemsize": 4, "is_map": True}
    lines = [
        counter.Line(
            **fields, launch=n, kernel=launch.function.__name__, main_loop=True, sectors=10
        )
        for n, launch in enumerate(short.launches)
    ]
    scale = call.multiply_adds / short.multiply_adds
    assert scale > 1
    assert facts.counted_bytes(call, 0, short, lines) == pytest.approx(640 * scale)
    partial = replace(short, launches=short.launches[:1])
    added = call.launches[-1]
    assert added.function.__name__ == "add_partial"
    last = len(call.launches) - 1
    counted = facts.counted_bytes(call, last, partial, lines)
    assert counted == roofline.compulsory_bytes(added)


def test_uninitialised_and_random_arrays():
    random = Arrays(1)
    labels = random.integers((50,), "int32", 3)
    assert labels.dtype == np.int32
    assert set(labels) == {0, 1, 2}
    assert random.floats(2, 3).shape == (2, 3)
    assert Arrays(None).integers((4,), "bool", 2).dtype == bool


def test_model_and_measurement_stand_side_by_side():
    common = {"layer": "conv1", "direction": "forward", "operator": "convolution.forward"}
    common |= {"net": "n4", "form": "dense", "size": 256, "shape": "", "multiply_adds": 3e6}
    common |= {"compulsory_bytes": 1e6, "roofline_share": 0.5, "GFLOP/s": 8.4e3, "GB/s": 310.2}
    rows = [
        common | {"source": "model", "device": "A", "seconds": 1e-3, "stand_in": "", "bound": "L2"},
        common | {"source": "timed", "device": "A", "seconds": 2e-3, "p20": 1e-3, "p80": 3e-3},
    ]
    text = tables.table(rows)
    assert "| A MODEL | A measured |" in text
    measured = "2.000 (1.000 to 3.000; 8400 GFLOP/s, 310 GB/s; 50% of the roofline)"
    assert f"| 3.0 | 1.0 | 1.000 (L2) | {measured} |" in text


def test_every_tile_has_a_case_that_uses_it():
    cases = list(compiled.tile_cases())
    for table, tiles in TILES.items():
        assert {case.tile for case in cases if case.table == table} == set(tiles)
    for case in cases:
        launch = compiled.multiplying_launch(calls.of_case(case.case))
        promised = launch.kernel.targetoptions["launch_bounds"]
        assert promised == (case.tile.threads, case.tile.blocks)


@pytest.mark.parametrize("form", ["dense", "patch"])
def test_a_calls_tile_is_the_one_that_its_launches_use(form):
    net_calls = calls.of_net("strided67", 32, form, batch=16, backward=True)
    convolutions = [call for call in net_calls if call.multiply_adds]
    assert len({call.tile for call in convolutions}) > 2
    for call in convolutions:
        launch = compiled.multiplying_launch(call)
        promised = launch.kernel.targetoptions["launch_bounds"]
        assert promised == (call.tile.threads, call.tile.blocks)


def test_waste_and_workspace_of_a_layer():
    tile = Tile(4, 4, (1, 32), (1, 2), blocks=8)  # 4 x 256
    case = OperatorCase("convolution.forward", (1, 3, 20, 40), 2, (5, 9), tile=tile)
    row = next(targets.waste_facts(calls.of_case(case), "patch", "net, here"))
    assert row["value"] == pytest.approx(1 - 2 * 16 * 32 / (4 * 512))
    gradient = replace(case, operator="convolution.gradient_input")
    call = calls.of_case(gradient)
    (row,) = targets.workspace_facts(call, "dense", "net, here")
    packed = targets.arrays_of(call.launches[-1])["packed"]
    assert row["value"] == pytest.approx(packed.size / (2 * 3 * 5 * 9))
    weights = OperatorCase("convolution.gradient_weights", (1, 8, 90, 150), 48, (3, 3))
    call = calls.of_case(weights)
    (row,) = targets.workspace_facts(call, "dense", "net, here")
    splits = call.launches[0].blocks[2]
    assert splits > 1
    assert row["value"] == pytest.approx(4 * splits * 48 * 8 * 9 / 2**20)


def test_idle_multiprocessors_are_counted_in_both_forms():
    forms = {
        "dense form": ("dense", 1),
        "patch form, 1024 patches": ("patch", 1024),
        "patch form, 4096 patches": ("patch", 4096),
    }
    multiply_adds_a_byte = 132 * 128 * 1.98e9 / 3352e9  # an H100's
    facts = list(targets.idle_facts("lenet28"))
    for of, (form, batch) in forms.items():
        every = calls.of_net("lenet28", targets.SIZE, form, batch=batch, backward=True)
        done = taken = multiplying = 0
        for call, launch in ((one, launch) for one in every for launch in one.launches):
            work, blocks = roofline.executed_multiply_adds(call, launch), math.prod(launch.blocks)
            multiplying += work > 0
            work = work or multiply_adds_a_byte * roofline.compulsory_bytes(launch)
            done += work
            taken += work / blocks * math.ceil(blocks / 132) * 132
        assert multiplying == 11
        of_form = [row for row in facts if row["of"] == of]
        (whole,) = (row["value"] for row in of_form if row["target"] == "idle")
        launches = [row for row in of_form if row["target"] == "idle, launch"]
        assert whole == pytest.approx(1 - done / taken, rel=1e-9)
        assert sum(row["value"] for row in launches) == pytest.approx(whole)
        number = sum(len(call.launches) for call in every)
        assert len({row["case"] for row in launches}) == len(launches) == number
    assert {row["of"] for row in facts} == forms.keys()


def test_targets_are_stored_with_their_record(monkeypatch, tmp_path, capsys):
    rows = [bounds.fact("local", "k", "a", 4)]
    monkeypatch.setattr(static, "check", lambda: None)
    monkeypatch.setattr(targets, "measure", lambda capabilities: rows)
    monkeypatch.setattr(command_line.profile, "perf_counter", iter((7.0, 68.4)).__next__)
    assert command_line.main(["profile", "--targets", "--out", str(tmp_path)]) == 0
    results = stored.load_profile(tmp_path / "targets", command_line.profile.views())
    assert results.rows == rows
    assert results.record["experiment"] == "targets"
    assert results.record["seconds"] == 61.4
    assert "**time:** 61 seconds;" in (tmp_path / "targets" / "table.md").read_text()
    assert "0 of 1 lines are met." in capsys.readouterr().out


@pytest.mark.parametrize("backward", [False, True])
def test_the_hosts_time_and_allocations_are_in_a_nets_profile(backward, tmp_path):
    directions = ["forward", "forward + backward"][: 1 + backward]
    arguments = ["profile", "lenet28", "--form", "dense", "patch", "--size", "16"]
    arguments += ["--backward"] * backward + ["--sources", "host"]
    assert command_line.main([*arguments, "--out", str(tmp_path), "--name", "here"]) == 0
    rows = stored.load_profile(tmp_path / "here", command_line.profile.views()).rows
    assert [row["direction"] for row in rows] == directions
    for row in rows:
        made = calls.of_net("lenet28", 16, "dense", batch=1, backward="back" in row["direction"])
        assert row["launches"] == sum(len(call.launches) for call in made)
        assert row["allocations"] == 0  # from the pool
        assert 0 < row["p20"] <= row["seconds"] <= row["p80"]
    text = (tmp_path / "here" / "table.md").read_text()
    for row in rows:
        assert re.search(
            rf"^\| {re.escape(row['direction'])} \| .+ \| {row['launches']} \|", text, re.M
        )


class TestCompiled:
    """What takes a compiler."""

    pytestmark = compiling

    def test_a_profile_stores_rows_tables_and_figure(self, tmp_path, capsys):
        window = ["--kernel", "2", "2", "--dilation", "2", "2", "--filters", "4"]
        shape = ["--operator", "convolution.forward", "--shape", "1", "1", "4", "40"]
        options = ["--arch", "sm_80,sm_90", "--devices", "K40", "A100", "--name", "here"]
        arguments = ["profile", *shape, *window, *options, "--out", str(tmp_path)]
        if api.why_unavailable():
            arguments += ["--sources", "static", "traced", "model"]
        assert command_line.main(arguments) == 0
        folder = tmp_path / "here"
        page = printed.fitted((folder / "table.md").read_text(), str(folder / "table.md"))
        assert page in capsys.readouterr().out
        results = stored.load_profile(folder, command_line.profile.views())
        rows, record = results.rows, results.record
        assert {row["source"] for row in rows} >= {"static", "traced", "model"}
        assert {row["arch"] for row in rows if row["source"] == "static"} == {"sm_80", "sm_90"}
        stand_ins = {r["device"]: r["stand_in"] for r in rows if r["source"] == "model"}
        assert stand_ins["Tesla K40"].startswith("sm_")
        assert stand_ins["A100 SXM4 40 GB"] is None
        text = (folder / "table.md").read_text()
        assert "Tesla K40* MODEL" in text
        assert "MODEL, not measured" in text
        assert json.loads((folder / "record.json").read_text())["command"]
        assert "<svg" in (folder / "figure.svg").read_text()
        assert tables.caption(record)

    def test_facts_of_a_tile(self):
        (tile,) = (tile for tile in TILES["matrix"] if tile.height == 32)
        case = OperatorCase("convolution.forward", (64, 16, 2, 2), 64, (2, 2), tile=tile)
        case = compiled.TileCase("matrix", case)
        code = compiled.code_of(case, (9, 0))
        rows = {row["target"]: row for row in compiled.facts_of_tile(case, (9, 0), code)}
        assert set(rows) == {"local", "double", "atomics", "registers", "share, small"}
        assert rows["local"]["value"] == rows["double"]["value"] == rows["atomics"]["value"] == 0
        assert 0.5 < code.multiply_add_share < 1
        assert rows["share, small"]["value"] == code.multiply_add_share / TILES["matrix"][tile]
        assert rows["registers"]["value"] <= 1

    def test_the_nearest_target_stands_in(self):
        launch = calls.of_case(OperatorCase("activation.forward", (1, 1, 8, 8))).launches[0]
        reader = static.CodeReader()
        code = reader.read(launch, static.target_of((3, 5)))
        assert code.capability > (3, 5)
        assert static.target_of(code.capability) == code.capability
        with pytest.raises(static.NotReadable, match="no target from sm_990 on"):
            static.target_of((99, 0))
        with pytest.raises(static.NotReadable):
            reader.read(launch, (3, 5))
        again = reader.read(launch, code.capability)
        assert again.machine_code is code.machine_code
        assert code.machine_code.local_bytes == 0
        assert code.occupancy(LIMITS[code.capability]) == 1.0
        smaller = reader.read(launch._replace(threads=32), code.capability)
        assert smaller.machine_code is code.machine_code
        assert smaller.occupancy(LIMITS[code.capability]) < 1.0


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(api, "why_uncompilable", lambda: "no CUDA compiler is installed")
    with pytest.raises(static.NotReadable, match="no CUDA compiler is installed"):
        static.check()


def test_argmax_of_large_windows_is_wide():
    case = OperatorCase("max_pooling.backward", (1, 1, 20, 20), kernel=(17, 17))
    argmax = calls.of_case(case).given["argmax"]
    assert argmax.dtype == argmax_dtype(case.window)
