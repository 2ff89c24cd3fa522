"""A cache of compiled code on disk, stale as soon as a source that it was made of changes.

Numba's own cache is keyed by the file of one function: a change of a helper in another file goes
unnoticed, wherever the cache lies. Here the key is the digest of a module's sources and of those
of all modules of this package that it imports, directly or not.

Numba numbers its files of code, so that of two processes that compile at once one can be given the
other's code. Here each file of code has a name of its own, and the index is changed under a lock.

Where the code cannot be kept or read, it is compiled anew, after a warning.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import re
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

PACKAGE = Path(__file__).parent
_IMPORT = re.compile(
    r"^\s*(?:from (kernels[\w.]*) import (\([^)]*\)|.+)|import (kernels[\w.]*))", re.MULTILINE
)


def keep_on_disk(dispatcher) -> None:
    """Cache the compiled code of a function that Numba was told to compile.

    Args:
        dispatcher: what Numba's ``njit`` or ``cuda.jit`` returned, nothing of it compiled yet.
    """
    try:
        stamp = digest(dispatcher.py_func.__module__)
        dispatcher.enable_caching()
    except (OSError, RuntimeError):
        _warn("no folder beside the sources, in the user's cache or at NUMBA_CACHE_DIR will do")
        return
    cache = dispatcher._cache
    bounds = dispatcher.targetoptions.get("launch_bounds")
    cache._cache_file = _CodeFiles(cache._cache_file, stamp, bounds)
    cache._guard_against_spurious_io_errors = _without_the_folder_if_need_be


@contextmanager
def _without_the_folder_if_need_be():
    """Only warn of what fails in a folder that is full, or has been moved or closed."""
    try:
        yield
    except OSError as error:
        _warn(error.strerror or str(error))


@functools.cache
def _warn(reason: str) -> None:
    warnings.warn(
        f"compiled code cannot be kept on disk ({reason}): it is compiled anew in every process; "
        "NUMBA_CACHE_DIR names another folder",
        stacklevel=2,
    )


@functools.cache
def digest(module: str) -> str:
    """A digest of the sources of ``module`` and of all modules of this package that it imports."""
    seen, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= _imports(name) - seen
    contents = (f"{name}\n".encode() + _path(name).read_bytes() for name in sorted(seen))
    return hashlib.sha256(b"".join(contents)).hexdigest()


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """The modules of this package that ``module`` imports, anywhere in its text."""
    imported = set()
    for package, names, direct in _IMPORT.findall(_path(module).read_text("utf-8")):
        names = re.findall(r"\w+", names)
        submodules = {f"{package}.{name}" for name in names if _path(f"{package}.{name}").exists()}
        imported |= submodules
        if direct or len(submodules) < len(names):
            imported.add(direct or package)
    return frozenset(imported)


def _path(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class _CodeFiles:
    """The files of one function: an index of its overloads, and the code of each.

    Args:
        files: Numba's own, which knows their formats.
        stamp: what the code is made of, part of every file's name.
        bounds: launch bounds, which change the code of the same function.
    """

    def __init__(self, files, stamp: str, bounds):
        self._files, self._bounds = files, bounds
        self._folder = Path(files._cache_path)
        self._function, _, line = files._index_name.removesuffix(".nbi").rpartition("-")
        self._name, self._stamp = f"{self._function}-{line}.{stamp[:16]}", stamp[:16]
        files._index_name = f"{self._name}.nbi"
        files._index_path = str(self._folder / files._index_name)
        files._source_stamp = stamp

    def load(self, key):
        """The code kept for ``key``; None if there is none, or it cannot be read any more."""
        code = self._overloads().get((key, self._bounds))
        try:
            return code and self._files._load_data(code)
        except Exception:  # removed by another process, or damaged: unpickling raises anything
            return None

    def save(self, key, data):
        code = f"{self._name}.{uuid.uuid4().hex}.nbc"
        with self._alone() as alone:
            self._files._save_data(code, data)
            overloads = self._overloads() | {(key, self._bounds): code}
            self._files._save_index(overloads)
            if alone:
                self._remove_stale(set(overloads.values()))

    def _overloads(self) -> dict:
        """The name of the file of each overload's code."""
        try:
            return self._files._load_index()
        except OSError:
            raise
        except Exception:  # damaged, as after a power cut
            return {}

    @contextmanager
    def _alone(self):
        """Wait until no other process changes the folder; False where there are no locks."""
        with open(self._folder / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except (AttributeError, OSError):
                yield False
                return
            try:
                yield True
            finally:  # a process forked meanwhile has the file open, too
                fcntl.flock(lock, fcntl.LOCK_UN)

    def _remove_stale(self, codes: set[str]):
        """Remove what was made of other sources, what no index knows (of another version of Numba),
        and what a process that died left half-written."""
        for path in self._folder.glob(f"{glob.escape(self._function)}-*.nb*"):
            mine = path.name.startswith(f"{self._name}.") and path.suffix == ".nbc"
            stale = f".{self._stamp}." not in path.name or ".tmp." in path.name
            if stale or (mine and path.name not in codes):
                path.unlink(missing_ok=True)
