"""``python -m experiments check``: what it finds, and what it says where there is no GPU."""

from functools import partial, wraps
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import check
from experiments.checking import equality, operators, place, timing
from experiments.profiling.operators import OPERATORS
from kernels import get_backend
from kernels.average_pooling import cpu as average_pooling
from net import needed_choice
from tests import operator_arguments
from tests.experiments.test_command_line import experiments

LISTED = [name for name in operator_arguments.OPERATORS if name.startswith("listed_")]


def test_without_a_device_it_says_what_is_missing():
    done = experiments("check", NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 2
    assert not done.stdout
    assert "backend 'cuda' cannot run here: NUMBA_ENABLE_CUDASIM=1 is set" in done.stderr
    assert "docs/gpu.md" in done.stderr


def run(backend, capsys):
    status = check.main(SimpleNamespace(backend=backend))
    return status, capsys.readouterr().out.splitlines()


def replace(monkeypatch, backend, name, replaced):
    """Put what ``replaced`` makes of an operator in its place."""
    folder, function = name.split(".")
    module = getattr(get_backend(backend), folder)
    monkeypatch.setattr(module, function, replaced(getattr(module, function)))


def noted(monkeypatch, backend):
    """The set of the operators that run from now on."""
    ran = set()

    def noting(name, operator):
        @wraps(operator)
        def call(*arguments, **options):
            ran.add(name)
            return operator(*arguments, **options)

        return call

    for name in operator_arguments.OPERATORS:
        replace(monkeypatch, backend, name, partial(noting, name))
    return ran


@pytest.mark.cpu
def test_all_is_well_on_the_host(capsys, monkeypatch):
    """And every operator runs, also where lists cost as much as anywhere."""
    ran = noted(monkeypatch, "cpu")
    monkeypatch.setitem(needed_choice.COST, "cpu", max(needed_choice.COST.values()))
    monkeypatch.setattr(timing, "_on_host", lambda ops, call: 1e-9 * call.multiply_adds)
    status, lines = run("cpu", capsys)
    assert status == 0, lines
    verdicts = [line.split(": ")[0].split(None, 1) for line in lines if line[:5] != "found"]
    assert {verdict for verdict, _ in verdicts} == {"ok"}
    assert [name for _, name in verdicts][: len(OPERATORS)] == list(OPERATORS)
    assert len(verdicts) == len(OPERATORS) + 4
    assert ran == operator_arguments.OPERATORS.keys()


@pytest.mark.gpu
def test_all_is_well_on_the_device(capsys, monkeypatch):
    ran = noted(monkeypatch, "cuda")
    status, lines = run("cuda", capsys)
    assert status == 0, lines
    assert ran == operator_arguments.OPERATORS.keys()


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


@pytest.mark.cpu
@pytest.mark.parametrize("name", LISTED)
def test_a_wrong_operator_on_lists_is_found(name, monkeypatch):
    def wrong(operator):
        @wraps(operator)
        def call(*arguments, **options):
            result = operator(*arguments, **options)
            array = result[0] if isinstance(result, tuple) else result
            array[...] = np.flip(array).copy()
            return result

        return call

    replace(monkeypatch, "cpu", name, wrong)
    _, *chosen = equality.checks(get_backend("cpu"))
    with pytest.raises(ValueError, match=r"chosen pixels|gradients differ"):
        [judged() for _, judged in chosen]


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


def test_compilers_are_told_as_pip_knows_them(monkeypatch):
    """Of CUDA 13, of CUDA 12, and where a toolkit brought them."""

    def version(package):
        if package not in installed:
            raise metadata.PackageNotFoundError(package)
        return installed[package]

    record = {"python": "3.11.7", "versions": {}, "commit": "unknown", "dirty": False}
    monkeypatch.setattr(place.machine, "described", lambda ops: record)
    monkeypatch.setattr(place, "_device", lambda record: ())
    monkeypatch.setattr(place.metadata, "version", version)
    installed = {"nvidia-nvvm": "13.5.37", "nvidia-nvjitlink": "13.5.38"}
    installed["nvidia-cuda-nvrtc"] = "13.5"
    lines = [*place.found(SimpleNamespace(name="cuda"))]
    assert "nvvm 13.5.37, nvJitLink 13.5.38, nvrtc 13.5" in lines
    installed = {"nvidia-cuda-nvcc-cu12": "12.9.86", "nvidia-nvjitlink-cu12": "12.9.87"}
    assert place.compilers() == "nvvm 12.9.86, nvJitLink 12.9.87, nvrtc not from pip"
