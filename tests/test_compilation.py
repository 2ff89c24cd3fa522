"""Compiling for the host: what is said, what is kept, and what happens where nothing can be."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from kernels.host import compilation

ROOT = Path(__file__).parents[1]
PROGRAM = """
import numpy as np
from kernels.masking import cpu
cpu.apply(np.ones((1, 1, 2, 2)), np.ones((1, 2, 2), bool))
"""


@pytest.mark.cpu
def test_says_once_that_it_compiles(tmp_path):
    said = [_run(tmp_path).count("compiling for this CPU") for _ in range(2)]
    assert said == [1, 0]


def test_without_a_folder_for_the_cache(monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba, "njit", refuse)
    with pytest.warns(UserWarning, match="compiled anew in every process"):
        assert not compilation._can_cache()


def _run(cache):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    return done.stderr
