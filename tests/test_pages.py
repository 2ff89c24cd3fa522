"""The Python on the pages runs: the blocks of a page are one program, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
APART = {
    "docs/kernels.md": "quotes tests/operators/test_convolution_ladder.py, which compares them",
    "docs/images.md": "has commands, too: tests/commands/test_page.py",
}
"""Pages whose blocks other tests hold, with the reason."""
ON_A_GPU = "# on a GPU\n"
"""How a block begins that is a program of its own, for a machine with a GPU."""


def blocks(page):
    text = (ROOT / page).read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def programs():
    """(page, program, marks) of every page."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        page = path.relative_to(ROOT).as_posix()
        if page in APART:
            continue
        alone = [block for block in blocks(page) if block.startswith(ON_A_GPU)]
        together = "\n".join(block for block in blocks(page) if block not in alone)
        for program, mark in [(together, pytest.mark.cpu), *((a, pytest.mark.gpu) for a in alone)]:
            if program:
                marks = [mark] + [pytest.mark.torch] * ("import torch" in program)
                yield pytest.param(page, program, marks=marks)


@pytest.mark.parametrize(("page", "program"), list(programs()))
def test_runs(page, program, tmp_path):
    if "import cupy" in program:
        pytest.importorskip("cupy")
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"


def test_pages_have_programs():
    assert {"README.md", "docs/pytorch.md"} <= {page for page, _ in (p.values for p in programs())}
    assert all(blocks(page) for page in APART)
