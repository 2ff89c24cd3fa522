"""Image files changed at random are read, or refused by name, in little memory."""

import json
import subprocess
import sys

import pytest

NAMES = (
    "grey.png",
    "rgb.bmp",
    "rgb.webp",
    "rgb.jpg",
    "tiled.tif",
    "deflate.tif",
    "lzw.tif",
    "jpeg.tif",
)


@pytest.mark.parametrize("number", [200, pytest.param(5000, marks=pytest.mark.long)])
def test_each_is_refused_or_an_image(tmp_path, number):
    command = [sys.executable, "-m", "tests.pictures.mutants", tmp_path, str(number), *NAMES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    for counts in json.loads(done.stdout).values():
        assert counts["refused"] + counts["read"] == number
        assert counts["refused"] > number / 10
