"""Thousands of damaged and crafted files, read in a process of little memory."""

import json
import subprocess
import sys

import pytest


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
