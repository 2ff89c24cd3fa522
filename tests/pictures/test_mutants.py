"""Image files changed at random are read, or refused by name, in little memory."""

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("number", [200, pytest.param(5000, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["grey.png", "rgb.bmp", "rgb.webp", "tiled.tif", "deflate.tif"])
def test_each_is_refused_or_an_image(tmp_path, name, number):
    command = [sys.executable, "-m", "tests.pictures.mutants", name, tmp_path, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["refused"] + counts["read"] == number
    assert counts["refused"] > number / 4
