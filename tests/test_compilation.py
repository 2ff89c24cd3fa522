"""Compiling for the host: what is said, what is kept on disk, and when it is thrown away."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import code_cache
from kernels.host import compilation

ROOT = Path(__file__).parents[1]
PROGRAM = """
import numpy as np
from kernels.masking import cpu
cpu.apply(np.ones((1, 1, 2, 2)), np.ones((1, 2, 2), bool))
print(*(sum(c.values()) for c in (cpu._apply.stats.cache_hits, cpu._apply.stats.cache_misses)))
"""


@pytest.fixture(params=["beside the sources", "NUMBA_CACHE_DIR"])
def process(request, tmp_path):
    """A function that starts PROGRAM on a copy of the sources, and the copy."""
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kernels", tree / "kernels", ignore=ignored)
    environment = os.environ | {"PYTHONPATH": str(tree)}
    environment.pop("NUMBA_CACHE_DIR", None)
    if request.param == "NUMBA_CACHE_DIR":
        environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")

    def start():
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True, cwd=tree)

    return start, tree


def _found(process) -> str:
    """``1 0`` where the code was found on disk, ``0 1`` where it was compiled."""
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out.strip()


def _append(path, text):
    path.write_text(path.read_text() + text)


@pytest.mark.cpu
class TestOnDisk:
    def test_the_next_process_finds_it(self, process):
        start, _ = process
        assert [_found(start()) for _ in range(2)] == ["0 1", "1 0"]

    def test_a_changed_helper_discards_it_and_another_module_does_not(self, process):
        start, tree = process
        assert _found(start()) == "0 1"
        _append(tree / "kernels" / "adam" / "cpu.py", "\n# not imported by masking\n")
        assert _found(start()) == "1 0"
        _append(tree / "kernels" / "checks.py", "\n# imported by masking\n")
        assert [_found(start()) for _ in range(2)] == ["0 1", "1 0"]
        kept = list(tree.parent.rglob("cpu._apply-*.nb*"))
        assert len(kept) == 2, f"stale code stays: {kept}"

    def test_processes_that_compile_at_once(self, process):
        start, _ = process
        assert [_found(p) for p in [start(), start(), start()]] != ["1 0"] * 3
        assert _found(start()) == "1 0"


class TestDigest:
    def test_covers_what_is_imported_directly_or_not(self):
        imported = {"kernels.masking.cpu"}
        for _ in range(9):
            imported = imported.union(*map(code_cache._imports, imported))
        assert {"kernels.checks", "kernels.memory.cpu", "kernels.memory.gaps"} <= imported
        assert "kernels.host.compilation" in imported
        assert "kernels.adam.cpu" not in imported

    def test_of_another_module_is_another(self):
        modules = ["kernels.masking.cpu", "kernels.softmax.cpu"]
        assert len({code_cache.digest(module) for module in modules}) == 2


@pytest.mark.cpu
def test_says_once_that_it_compiles(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    options = {"env": environment, "check": True, "capture_output": True, "text": True}
    said = [subprocess.run(command, **options).stderr for _ in range(2)]
    assert [text.count("compiling for this CPU") for text in said] == [1, 0]


def test_without_a_folder_for_the_cache(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("numba.core.dispatcher.Dispatcher.enable_caching", refuse)
    compilation._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="compiled anew in every process"):
        compilation.compiled(lambda x: x)
