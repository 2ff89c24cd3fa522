"""Comparisons on AVX2 on a processor that has AVX-512: both sides are held to it, or none."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import llvmlite.binding
import pytest

from experiments import __main__
from experiments.storing import instructions

ROOT = Path(__file__).parents[2]
RECORD = (
    "from experiments.storing import machine; from kernels import get_backend; "
    "print(machine.described(get_backend('cpu'))['cpu'])"
)
without_more = pytest.mark.skipif(
    not llvmlite.binding.get_host_cpu_features().get("avx512f"), reason="no AVX-512"
)


def recorded(variables):
    environment = os.environ | variables | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RECORD]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@without_more
def test_the_record_says_so():
    done = recorded(instructions.AVX2)
    assert done.stdout.strip().endswith(", AVX2 alone"), done.stderr


@without_more
@pytest.mark.parametrize("side", ["NUMBA", "ONEDNN"])
def test_one_side_alone_is_refused(side):
    done = recorded({k: v for k, v in instructions.AVX2.items() if k.startswith(side)})
    assert "ValueError: only" in done.stderr
    assert "is held to AVX2; expected none, or all by NUMBA_CPU_NAME=haswell" in done.stderr


@pytest.mark.parametrize(
    ("subcommand", "backend", "quick", "runs"),
    [
        ("against_torch", "cpu", False, True),
        ("layers", "cpu", False, True),
        ("pooling", "cpu", False, True),
        ("all", "cpu", False, False),
        ("against_torch", "cuda", False, False),
        ("against_torch", "cpu", True, False),
        ("networks", "cpu", False, False),
    ],
)
def test_the_same_command_runs_once_more(subcommand, backend, quick, runs, monkeypatch):
    commands = []
    monkeypatch.setattr(instructions, "narrower", lambda: {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    monkeypatch.setattr(
        __main__.subprocess,
        "run",
        lambda command, env: commands.append((command, env)) or SimpleNamespace(returncode=3),
    )
    arguments = ["against_torch", "--nets", "n4"]
    options = SimpleNamespace(
        subcommand=subcommand, backend=backend, quick=quick, arguments=arguments
    )
    assert __main__._run_with_avx2(options) == (3 if runs else 0)
    again = [sys.executable, "-m", "experiments", *arguments]
    assert commands == ([(again, {"ONEDNN_MAX_CPU_ISA": "AVX2"})] if runs else [])
