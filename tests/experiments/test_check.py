"""``python -m experiments check``: what it finds, and what it says where there is no GPU."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments import check
from experiments.checking import equality, operators, timing
from experiments.profiling.operators import OPERATORS
from kernels import backends
from kernels.average_pooling import cpu as average_pooling
from tests.experiments.test_command_line import experiments


def test_without_a_device_it_says_what_is_missing():
    done = experiments("check", NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 2
    assert not done.stdout
    assert "backend 'cuda' cannot run here: NUMBA_ENABLE_CUDASIM=1 is set" in done.stderr
    assert "docs/gpu.md" in done.stderr


def test_every_operator_is_among_the_checks():
    """Those that work on lists of cells belong to the check of a net at chosen pixels."""
    checked = {name.split(".")[0] for name in OPERATORS}
    listed = {name for name in backends.OPERATORS if name.startswith("listed_")}
    assert checked | listed | {"memory"} == set(backends.OPERATORS)


def run(backend, capsys):
    status = check.main(SimpleNamespace(backend=backend))
    return status, capsys.readouterr().out.splitlines()


@pytest.mark.cpu
def test_all_is_well_on_the_host(capsys, monkeypatch):
    monkeypatch.setattr(timing, "_on_host", lambda ops, call: 1e-9 * call.multiply_adds)
    status, lines = run("cpu", capsys)
    assert status == 0, lines
    verdicts = [line.split(": ")[0].split(None, 1) for line in lines if line[:5] != "found"]
    assert {verdict for verdict, _ in verdicts} == {"ok"}
    assert [name for _, name in verdicts][: len(OPERATORS)] == list(OPERATORS)
    assert len(verdicts) == len(OPERATORS) + 3


@pytest.mark.gpu
def test_all_is_well_on_the_device(capsys):
    status, lines = run("cuda", capsys)
    assert status == 0, lines


@pytest.mark.cpu
def test_a_wrong_operator_is_named_and_the_others_are_still_checked(capsys, monkeypatch):
    def wrong(*arguments, **options):
        return 1.001 * forward(*arguments, **options)

    def refuses(*arguments, **options):
        raise RuntimeError("no such\nkernel")

    forward = average_pooling.forward
    monkeypatch.setattr(average_pooling, "forward", wrong)
    monkeypatch.setattr(average_pooling, "backward", refuses)
    for module in (equality, timing):
        monkeypatch.setattr(module, "checks", lambda ops: ())
    status, lines = run("cpu", capsys)
    assert status == 1
    failed = [line for line in lines if line.startswith("FAILED")]
    assert [line.split()[1] for line in failed] == [
        "average_pooling.forward:",
        "average_pooling.backward:",
    ]
    assert "differs from the reference by 1.0e-03" in failed[0]
    assert failed[1].endswith("RuntimeError: no such kernel")


@pytest.mark.parametrize(
    ("own", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([0.0], [0.0], 0.0),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([1.0, 1.0], [np.nan, 1.0], np.inf),
        ([np.inf], [1.0], np.inf),
    ],
)
def test_differences(own, expected, difference):
    assert operators.difference(np.array(own), np.array(expected)) == difference


def test_a_time_that_makes_no_sense_is_refused():
    assert "50% of the peak" in timing.judged(1e12, 2.0, 4e12)
    with pytest.raises(ValueError, match="more than the device's peak"):
        timing.judged(3e12, 2.0, 4e12)
    for ratio in (1.0, 5.0):
        with pytest.raises(ValueError, match=f"{ratio:.2f} times as long; expected"):
            timing.judged(1e12, ratio, None)


def test_a_time_that_was_not_measured_is_a_fault(monkeypatch):
    monkeypatch.setattr(timing, "_on_device", lambda call: None)
    ((_, measure),) = timing.checks(SimpleNamespace(name="cuda"))
    with pytest.raises(ValueError, match="not measured"):
        measure()
