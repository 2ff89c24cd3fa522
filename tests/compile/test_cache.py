"""Compiled kernels on disk: found by the next process, and dropped when a source changes."""

from unittest import mock

import numpy as np
import pytest
from numba.cuda.typing.typeof import typeof

from kernels import code_cache
from kernels.device import api
from kernels.softmax import cuda as softmax

MISSING = api.why_uncompilable()
pytestmark = [pytest.mark.compile, pytest.mark.skipif(bool(MISSING), reason=MISSING or "")]


@pytest.fixture
def compile_afresh(monkeypatch, tmp_path):
    """A function that compiles a kernel as a new process would: (compiled, loaded from disk)."""
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import devices

    monkeypatch.setattr(api.config, "CACHE_DIR", str(tmp_path))
    device = mock.Mock(compute_capability=(9, 0))
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    monkeypatch.setattr(devices, "get_context", lambda: mock.Mock(device=device))
    # Loading the code onto the device
    monkeypatch.setattr(dispatcher._Kernel, "bind", lambda self: None)

    def compile_():
        kernel = softmax._forward_kernel.__wrapped__(np.float32)
        x = np.empty(8, np.float32)
        one = np.uint32(1)
        kernel.compile(tuple(map(typeof, (x, x, one, one, one))))
        stats = kernel.stats
        return sum(stats.cache_misses.values()), sum(stats.cache_hits.values())

    return compile_


def test_a_second_process_compiles_nothing(compile_afresh):
    assert compile_afresh() == (1, 0)
    assert compile_afresh() == (0, 1)


def test_other_sources_are_compiled_again(compile_afresh, monkeypatch):
    assert compile_afresh() == (1, 0)
    monkeypatch.setattr(code_cache, "digest", lambda module: "changed")
    assert compile_afresh() == (1, 0)
    assert compile_afresh() == (0, 1)
