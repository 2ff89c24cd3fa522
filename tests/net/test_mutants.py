"""Thousands of damaged and crafted files, read in a process of little memory."""

import json
import subprocess
import sys

import pytest

from tests.net.mutants import LARGE


@pytest.mark.parametrize("number", [200, pytest.param(5000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["run", "npz"])
def test_each_is_refused_or_loaded_as_what_it_holds(tmp_path, kind, number):
    command = [sys.executable, "-m", "tests.net.mutants", kind, tmp_path, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["refused"] + counts["loaded"] == number
    assert counts["refused"] > number / 2
    assert counts["loaded"] > number / 100


@pytest.mark.long
def test_large_headers_are_refused(tmp_path):
    number = len(LARGE)
    command = [sys.executable, "-m", "tests.net.mutants", "large", tmp_path, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"refused": number, "loaded": 0}
