"""Compiled kernels on disk: found by the next process, and dropped when a source changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels import code_cache
from kernels.device import api
from kernels.softmax import cuda as softmax
from tests.compile import cached

MISSING = api.why_uncompilable()
pytestmark = [pytest.mark.compile, pytest.mark.skipif(bool(MISSING), reason=MISSING or "")]
TILED = {
    *("convolution_forward", "convolution_gradient_input", "convolution_gradient_weights"),
    "matrix_product",
}


@pytest.fixture
def compile_afresh(monkeypatch, tmp_path):
    """A function that compiles a kernel as a new process would: (compiled, loaded from disk)."""
    monkeypatch.setattr(api.config, "CACHE_DIR", str(tmp_path))

    def compile_():
        kernel = softmax._forward_kernel.__wrapped__(np.float32)
        x = np.empty(8, np.float32)
        one = np.uint32(1)
        return cached.compiled(kernel, (x, x, one, one, one))

    return compile_


def test_a_second_process_compiles_nothing(compile_afresh):
    assert compile_afresh() == (1, 0)
    assert compile_afresh() == (0, 1)


def test_other_sources_are_compiled_again(compile_afresh, monkeypatch):
    assert compile_afresh() == (1, 0)
    monkeypatch.setattr(code_cache, "digest", lambda module: "changed")
    assert compile_afresh() == (1, 0)
    assert compile_afresh() == (0, 1)


def test_other_launch_bounds_are_compiled_again(monkeypatch, tmp_path):
    """Of the same function: as two tiles that differ in nothing but the blocks have it."""
    monkeypatch.setattr(api.config, "CACHE_DIR", str(tmp_path))

    def compile_(blocks):
        @api.kernel(32, blocks)
        def nothing(x):
            pass

        return cached.compiled(nothing, (np.empty(8, np.float32),))

    assert compile_(2) == (1, 0)
    assert compile_(3) == (1, 0)
    assert compile_(2) == compile_(3) == (0, 1)


def test_a_second_process_finds_every_kernel_of_the_convolutions(tmp_path):
    """The intrinsics that they call, and the closures that they are made of, are the same there."""
    here = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def in_a_process():
        done = subprocess.run(
            [sys.executable, "-m", "tests.compile.cached"],
            cwd=Path(__file__).parents[2],
            env=here,
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout)

    first, second = in_a_process(), in_a_process()
    assert first.keys() > TILED
    assert set(map(tuple, first.values())) == {(1, 0)}
    assert second.keys() == first.keys()
    assert set(map(tuple, second.values())) == {(0, 1)}
