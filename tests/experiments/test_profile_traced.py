"""The counts of memory accesses: right on kernels that are known, and bounded on those shipped."""

import signal
import subprocess

import numpy as np
import pytest

from experiments.profiling import simulation, targets
from experiments.profiling.bounds import BOUNDS, is_as_known
from experiments.profiling.operators import OPERATORS, OperatorCase, case_of
from experiments.profiling.targets import dense_case
from kernels.convolution.cuda_tile import Tile
from kernels.device import launching
from kernels.device.api import cuda, device, kernel, u32

pytestmark = pytest.mark.simulator

f32 = np.float32
POOLINGS = ("max_pooling", "average_pooling")


@pytest.fixture(scope="module")
def dense():
    """The lines of every operator in the dense form, all blocks of all its launches."""
    cases = [dense_case(operator) for operator in OPERATORS]
    return dict(zip(OPERATORS, simulation.trace(cases, whole=True)))


@pytest.mark.parametrize("operator", OPERATORS)
def test_neighbours_lie_in_the_fewest_sectors(dense, operator):
    """4 sectors hold the 128 bytes of a full warp inside a row; where it begins anywhere, 5 do."""
    lines = [line for line in dense[operator] if line.is_map]
    assert sum(line.full_requests for line in lines) >= 8
    for line in lines:
        assert BOUNDS["beyond"].holds(line.most_beyond), line
    for number in {line.launch for line in lines}:
        of_launch = [line for line in lines if line.launch == number]
        mean = sum(line.sectors for line in of_launch) / sum(line.requests for line in of_launch)
        assert BOUNDS["sectors"].holds(mean)


@pytest.mark.parametrize(
    "operator",
    ["convolution.forward", "convolution.gradient_input", "convolution.gradient_weights"],
)
def test_shared_memory_without_bank_conflicts(dense, operator):
    lines = [line for line in dense[operator] if line.memory == "shared" and line.main_loop]
    assert {line.access for line in lines} == {"load", "store"}
    wavefronts = sum(line.wavefronts for line in lines)
    assert BOUNDS["conflicts"].holds(wavefronts / sum(line.ideal_wavefronts for line in lines))


def test_counts_become_facts_about_targets(dense):
    """A row for each launch; the verdicts are those that the tests above assert."""
    case = dense_case("convolution.forward")
    rows = list(targets.access_facts(case, dense[case.operator]))
    by_target = {row["target"]: row for row in rows}
    assert set(by_target) == {"beyond", "sectors", "conflicts"}
    assert by_target["beyond"]["value"] == 1
    assert 1 < by_target["sectors"]["value"] < 5
    assert by_target["conflicts"]["of"] == "convolution_forward"
    assert all(BOUNDS[name].holds(row["value"]) for name, row in by_target.items())


@pytest.mark.parametrize("operator", OPERATORS)
def test_accesses_are_within_the_bounds(dense, operator):
    case = dense_case(operator)
    rows = list(targets.access_facts(case, dense[operator]))
    assert [row for row in rows if not is_as_known(row)] == []
    passes = [row["value"] for row in rows if row["target"] == "passes"]
    assert bool(passes) == BOUNDS["passes"].applies(case)
    if operator == "activation.backward":
        assert passes == [1, 1, 1]


def test_large_windows_read_the_input_about_twice():
    case = targets.large_pooling((2, 8))
    (lines,) = simulation.trace([case], whole=True)
    facts = {row["target"]: row["value"] for row in targets.access_facts(case, lines)}
    assert facts["reads"] > 2
    assert all(BOUNDS[name].holds(facts[name]) for name in ("reads", "beyond", "sectors")), facts


LIST_CASES = list(targets.list_cases())


@pytest.fixture(scope="module")
def listed():
    """The lines of operators over lists."""
    return dict(zip(LIST_CASES, simulation.trace(LIST_CASES)))


@pytest.mark.parametrize("case", LIST_CASES, ids=str)
def test_lists_are_read_and_written_in_runs(listed, case):
    facts = list(targets.list_facts(case, listed[case]))
    sectors = {row["target"] for row in facts if row["target"].startswith("sectors")}
    assert sectors == {"sectors, isolated" if case.isolated else "sectors, lists"}
    assert all(BOUNDS[row["target"]].holds(row["value"]) for row in facts), facts
    if case.operator.startswith("listed_convolution"):
        assert sum(row["target"] == "conflicts" for row in facts) == 1


def test_places_of_taps_are_found_in_the_main_loop():
    """Not looked for where a window has more than one cell."""
    tile = Tile(4, 4, (1, 32), (1, 2))
    wide = OperatorCase("convolution.forward", (1, 8, 3, 150), 4, (3, 3), tile=tile)
    (lines,) = simulation.trace([wide])
    as_if_one = OperatorCase("convolution.forward", (1, 8, 3, 150), 4, tile=tile)
    assert not [row for row in targets.access_facts(wide, lines) if row["target"] == "taps"]
    (row,) = [row for row in targets.access_facts(as_if_one, lines) if row["target"] == "taps"]
    assert row["value"] > 0


def test_a_tile_of_choice_is_traced():
    tile = Tile(4, 4, (4, 8), (1, 1), depth=16)
    case = OperatorCase("convolution.forward", (2, 12, 2, 2), 5, kernel=(2, 2), tile=tile)
    assert OperatorCase.of_json(case.to_json()) == case
    (lines,) = simulation.trace([case])
    reads = [line for line in lines if line.main_loop and line.memory == "global"]
    assert {line.array for line in reads} == {"first", "second"}
    # 16 rows, and 32 columns, of the third slice of 16 steps, by 32 threads
    assert [line.requests for line in reads] == [8, 16]


def test_a_process_ends_where_nobody_waits_for_its_cases(monkeypatch):
    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            processes.append(self)

    processes = []
    monkeypatch.setattr(subprocess, "Popen", Noted)
    cases = [OperatorCase("activation.forward", (1, 1, rows, 150)) for rows in (1, 10000)]
    traced = simulation.trace(cases, whole=True)
    next(traced)
    traced.close()
    assert [process.returncode for process in processes] == [-signal.SIGKILL]


def test_the_strided_patch_form_takes_more_sectors(dense):
    """What the dense form avoids is there to be counted."""
    strided = OperatorCase("max_pooling.forward", (4, 2, 66, 66), kernel=(2, 2), stride=(2, 2))
    (patch,) = simulation.trace([strided])
    limit = BOUNDS["sectors"].limit
    for lines, least, most in ((dense["max_pooling.forward"], 0, limit), (patch, 8, 16)):
        loads = [line for line in lines if line.is_map and line.access == "load"]
        assert least < sum(x.sectors for x in loads) / sum(x.requests for x in loads) < most


@device
def four_neighbours(values, at):
    total = f32(0)
    for i in range(4):
        total += values[u32(at + u32(i))]
    return total


@kernel(64)
def known(x, y, count):
    shared = cuda.shared.array(256, f32)
    t = u32(cuda.threadIdx.x)
    value = x[t]
    for i in range(4):
        shared[u32(u32(4) * t + u32(i))] = value
    cuda.syncthreads()
    total = four_neighbours(shared, u32(u32(4) * t))
    total += shared[u32(u32(2) * t)]
    turn = u32(0)
    while turn < u32(count):
        if t % u32(2) == turn % u32(2):
            total += x[u32(u32(2) * t + u32(64) * turn)]
        turn = u32(turn + u32(1))
    y[t] = total


@pytest.fixture(scope="module")
def known_lines():
    """By text: the lines of ``known`` for one block of 64 threads."""
    x, y = np.zeros(1024, f32), np.zeros(64, f32)
    launch = launching.Launch(known, (1, 1, 1), 64, (x, y, 4), False)
    widths = {x.__array_interface__["data"][0]: 1024}
    return {line.text: line for line in simulation.launch_lines(launch, "known", 0, widths, True)}


def test_neighbours_are_one_access(known_lines):
    store = known_lines["shared[u32(u32(4) * t + u32(i))] = value"]
    assert (store.requests, store.wavefronts, store.ideal_wavefronts) == (2, 8, 8)
    load = known_lines["total += values[u32(at + u32(i))]"]
    assert (load.requests, load.wavefronts, load.ideal_wavefronts) == (2, 8, 8)


def test_bank_conflicts(known_lines):
    load = known_lines["total += shared[u32(u32(2) * t)]"]
    assert (load.requests, load.wavefronts, load.ideal_wavefronts) == (2, 4, 2)


def test_threads_that_part_meet_again_at_the_next_turn(known_lines):
    """Even threads read in even turns, odd ones in odd turns: 16 at a time, every fourth word."""
    load = known_lines["total += x[u32(u32(2) * t + u32(64) * turn)]"]
    assert (load.requests, load.asked, load.sectors) == (8, 8 * 64, 8 * 8)
    assert load.full_requests == 0
    assert not load.main_loop


def test_a_full_warp_on_a_row(known_lines):
    store = known_lines["y[t] = total"]
    assert (store.requests, store.sectors, store.asked) == (2, 8, 256)
    assert not store.is_map


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_call_is_told_from_its_arguments(operator):
    from experiments.profiling import calls

    case = dense_case(operator)
    call = calls.of_case(case)
    assert call.operator == operator
    told = case_of(operator, call.given)
    assert told.shape == case.shape
    if operator.startswith(("convolution", *POOLINGS, "patches")):
        assert told == case
    assert call.launches
    assert OperatorCase.of_json(case.to_json()) == case


def test_a_failing_simulation_says_why():
    bad = OperatorCase("max_pooling.forward", (1, 1, 2, 2), kernel=(3, 3))
    with pytest.raises(RuntimeError, match="input size is 2 x 2"):
        list(simulation.trace([bad]))
