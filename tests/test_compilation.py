"""Compiling for the host: what is said, what is kept on disk, and when it is thrown away."""

import errno
import fcntl
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numba
import pytest

from kernels import code_cache
from kernels.host import compilation, progress

ROOT = Path(__file__).parents[1]
PROGRAM = """
import numpy as np
from kernels.masking import cpu
cpu.apply(np.ones((1, 1, 2, 2)), np.ones((1, 2, 2), bool))
stats = cpu._apply.dispatcher.stats
print(*(sum(c.values()) for c in (stats.cache_hits, stats.cache_misses)))
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
        assert {"kernels.checks", "kernels.memory.cpu", "kernels.gaps"} <= imported
        assert "kernels.host.compilation" in imported
        assert "kernels.adam.cpu" not in imported

    def test_of_another_module_is_another(self):
        modules = ["kernels.masking.cpu", "kernels.softmax.cpu"]
        assert len({code_cache.digest(module) for module in modules}) == 2


class Terminal(io.StringIO):
    """A terminal, as far as it says so."""

    def isatty(self):
        return True


class TestProgress:
    @pytest.mark.cpu
    def test_says_once_what_it_compiles(self, tmp_path):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", PROGRAM]
        options = {"env": environment, "check": True, "capture_output": True, "text": True}
        said = [subprocess.run(command, **options).stderr for _ in range(2)]
        line = "compiling kernels for this CPU, once: 1 function so far (masking.cpu apply)"
        assert [text.splitlines() for text in said] == [[line], []]

    def said(self, monkeypatch, *names, module="kernels.convolution.cpu_rows", to=None):
        """What a new listener says while the functions ``names`` are compiled, one a second."""

        def function():
            """In their place."""

        function.__module__ = module
        seconds, to = iter(range(10**6)), to or io.StringIO()
        listener = progress._Progress()
        event = mock.Mock(data={"dispatcher": mock.Mock(py_func=function)})
        with monkeypatch.context() as here:
            here.setattr(progress, "time", mock.Mock(monotonic=lambda: next(seconds)))
            here.setattr(sys, "stderr", to)
            for name in names:
                function.__name__ = name
                listener.on_start(event)
            for _ in names:
                listener.on_end(event)
        return to.getvalue()

    def test_a_line_now_and_then(self, monkeypatch):
        said = self.said(monkeypatch, *["fill"] * 25, "_last")
        counts = [line.partition("once: ")[2] for line in said.splitlines()]
        first, *others = counts
        assert first == "1 function so far (convolution.cpu_rows fill)"
        assert 1 <= len(others) <= 3
        assert all(
            line.endswith(" functions so far (convolution.cpu_rows fill)") for line in others
        )

    def test_one_line_on_a_terminal_that_goes_away(self, monkeypatch):
        said = self.said(monkeypatch, "_correlate", "fill", to=Terminal())
        assert "\n" not in said
        _, first, second, last = said.split("\r\033[K")
        assert first.endswith("1 function so far (convolution.cpu_rows correlate)")
        assert second.endswith("2 functions so far (convolution.cpu_rows fill)")
        assert last == ""

    def test_functions_of_others_are_not_counted(self, monkeypatch):
        assert self.said(monkeypatch, "f", module="scipy.special") == ""
        assert self.said(monkeypatch, "f", module="scipy.special", to=Terminal()) == ""
        assert "1 function so far" in self.said(monkeypatch, "f", module="kernels.masking.cpu")

    @pytest.mark.parametrize("closed", [False, True])
    def test_no_standard_error(self, monkeypatch, capsys, closed):
        nowhere = io.StringIO() if closed else None
        if closed:
            nowhere.close()
        monkeypatch.setattr(progress, "sys", mock.Mock(stderr=nowhere))
        assert self.said(monkeypatch, "f") == ""
        assert capsys.readouterr() == ("", "")


@pytest.mark.cpu
class TestWithoutTheFolder:
    """The code is compiled anew, with a warning and the right result."""

    WARNING = "compiled code cannot be kept on disk"

    def test_none_that_can_be_written(self, monkeypatch):
        def refuse(*arguments):
            raise RuntimeError("cannot cache function: no locator available")

        monkeypatch.setattr("numba.core.dispatcher.Dispatcher.enable_caching", refuse)
        code_cache._warn.cache_clear()
        with pytest.warns(UserWarning, match=f"{self.WARNING} .*: it is compiled anew in every"):
            compilation.compiled(lambda x: x)

    @pytest.fixture
    def compile_(self, monkeypatch, tmp_path):
        """A function that compiles another, after ``before`` was called with its folder; returns
        what that gives, and whether its code was found on disk."""
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
        code_cache._warn.cache_clear()

        def compile_(before=lambda folder: None):
            function = compilation.compiled(one_more)
            before(Path(function._cache.cache_path))
            return function(1), bool(function.stats.cache_hits)

        return compile_

    def test_it_vanished(self, compile_):
        assert compile_(shutil.rmtree) == (2, False)
        assert compile_() == (2, True)

    def test_it_cannot_be_written_any_more(self, compile_):
        def close(folder):
            shutil.rmtree(folder)
            folder.write_text("in its place")

        with pytest.warns(UserWarning, match=self.WARNING):
            assert compile_(close) == (2, False)

    def test_it_is_full(self, compile_, monkeypatch):
        def fill(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr(code_cache.uuid, "uuid4", fill)
            with pytest.warns(UserWarning, match="No space left on device"):
                assert compile_() == (2, False)
        assert compile_() == (2, False)
        assert compile_() == (2, True)

    def test_it_has_no_locks(self, compile_, monkeypatch):
        def refuse(*arguments):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(code_cache.fcntl, "flock", refuse)
        assert [compile_() for _ in range(2)] == [(2, False), (2, True)]

    @pytest.mark.parametrize("suffix", ["nbi", "nbc"])
    @pytest.mark.parametrize("text", [b"", b"\x80\x05", bytes(1000)], ids=["no", "cut", "zero"])
    def test_a_damaged_file(self, compile_, suffix, text):
        def damage(folder):
            (file,) = folder.glob(f"*.{suffix}")
            file.write_bytes(text)

        assert compile_() == (2, False)
        assert compile_(damage) == (2, False)
        assert compile_() == (2, True)

    def test_of_another_version_of_numba(self, compile_, monkeypatch):
        """Is compiled again, and does not stay."""
        files = []
        for version in ("0.1", "0.2", "0.2"):
            monkeypatch.setattr(numba, "__version__", version)
            files.append(compile_(lambda folder: files.append(folder)))
        folder = files[0]
        assert files[1::2] == [(2, False), (2, False), (2, True)]
        assert len(list(folder.glob("*.nbc"))) == 1

    def test_a_child_does_not_keep_its_lock(self, compile_, tmp_path):
        """A file's lock lasts until every process that inherited it has closed it."""
        compile_()
        (lock,) = tmp_path.glob("*/.lock")
        function = compilation.compiled(one_more)
        with function._cache._cache_file._alone():
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
        try:
            with open(lock) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def one_more(x):
    """Compiled by the tests above."""
    return x + 1
