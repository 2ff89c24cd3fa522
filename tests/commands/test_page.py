"""docs/images.md does what it says: its blocks run in their order, in an empty folder."""

import re
import shlex
from glob import glob
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from net.__main__ import main

PAGE = Path(__file__).parents[2] / "docs" / "images.md"


@pytest.mark.cpu
def test_every_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, lines = {}, 0
    for language, block in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if language == "python":
            exec(compile(block, PAGE, "exec"), names)
        for line in block.splitlines() if language == "sh" else ():
            assert line.startswith("python -m net ")
            words = shlex.split(line)[3:]
            words = [found for word in words for found in (glob(word) if "*" in word else [word])]
            assert main(words) == 0, line
            lines += 1
    assert lines == 4
    by_hand = np.asarray(Image.open("by-hand.png"))
    np.testing.assert_array_equal(np.asarray(Image.open("found/coins.png")), by_hand)
    chosen = np.where(names["strokes"] > 0, by_hand, 0)
    np.testing.assert_array_equal(np.asarray(Image.open("some/coins.png")), chosen)
