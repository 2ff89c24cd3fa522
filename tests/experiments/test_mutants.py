"""Thousands of damaged and crafted result files, read in a process of little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.mutants import KINDS

ROOT = Path(__file__).parents[2]


def read(kind, folder, number):
    command = [sys.executable, "-m", "tests.experiments.mutants", kind, str(folder), str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("number", [200, pytest.param(5000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_each_is_refused_or_read_as_what_it_holds(tmp_path, kind, number):
    counts = read(kind, tmp_path, number)
    assert counts["refused"] + counts["read"] == number
    assert counts["refused"] > number / 4
    assert counts["read"] > number / 100


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_large_files_take_little_memory(tmp_path, kind):
    counts = read(kind, tmp_path, "large")
    assert counts["refused"] > 0
