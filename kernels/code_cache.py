"""Compiled code kept on disk, and found again only while all that it was made of is the same.

Numba's own cache is keyed by the file of one function: a change of a helper in another file goes
unnoticed, wherever the cache lies. Here the key is the digest of a module's sources and of those
of all modules of this package that it imports, directly or not.

Numba numbers its files of code, so that of two processes that compile at once one can be given the
other's code. Here each file of code has a name of its own, and the index is changed under a lock.
"""

from __future__ import annotations

import fcntl
import functools
import glob
import hashlib
import re
import uuid
from pathlib import Path

PACKAGE = Path(__file__).parent
_IMPORT = re.compile(
    r"^\s*(?:from (kernels[\w.]*) import (\([^)]*\)|.+)|import (kernels[\w.]*))", re.MULTILINE
)


def keep_on_disk(dispatcher) -> bool:
    """Cache the compiled code of a function that Numba was told to compile.

    Args:
        dispatcher: what Numba's ``njit`` or ``cuda.jit`` returned, nothing of it compiled yet.

    Returns:
        False where no folder can be written, beside the sources, in the user's cache folder or at
        NUMBA_CACHE_DIR: the code is compiled anew in every process then.
    """
    try:
        dispatcher.enable_caching()
    except RuntimeError:
        return False
    stamp = digest(dispatcher.py_func.__module__)
    dispatcher._cache._cache_file = _CodeFiles(dispatcher._cache._cache_file, stamp)
    return True


@functools.cache
def digest(module: str) -> str:
    """Of the sources of ``module`` and of all modules of this package that it imports."""
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
    found = set()
    for package, names, direct in _IMPORT.findall(_path(module).read_text()):
        names = re.findall(r"\w+", names)
        submodules = {f"{package}.{name}" for name in names if _path(f"{package}.{name}").exists()}
        found |= submodules
        if direct or len(submodules) < len(names):
            found.add(direct or package)
    return frozenset(found)


def _path(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class _CodeFiles:
    """The files of one function: an index of its overloads, and the code of each.

    Args:
        files: Numba's own, which knows their formats.
        stamp: what the code is made of, part of every file's name.
    """

    def __init__(self, files, stamp: str):
        self._files = files
        self._folder = Path(files._cache_path)
        self._function, _, line = files._index_name.removesuffix(".nbi").rpartition("-")
        self._name, self._stamp = f"{self._function}-{line}.{stamp[:16]}", stamp[:16]
        files._index_name = f"{self._name}.nbi"
        files._index_path = str(self._folder / files._index_name)
        files._source_stamp = stamp

    def load(self, key):
        return self._files.load(key)

    def save(self, key, data):
        code = f"{self._name}.{uuid.uuid4().hex}.nbc"
        with open(self._folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._files._save_data(code, data)
            overloads = self._files._load_index()
            overloads[key] = code
            self._files._save_index(overloads)
            self._remove_stale()

    def _remove_stale(self):
        """Remove what was made of other sources, or left half-written by a process that died."""
        for path in self._folder.glob(f"{glob.escape(self._function)}-*.nb*"):
            if f".{self._stamp}." not in path.name or ".tmp." in path.name:
                path.unlink(missing_ok=True)
