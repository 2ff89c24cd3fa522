"""Paths that are checked, and files written atomically, or so that they outlast a power cut."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

_SUFFIX = ".tmp"


def checked_path(name: str, path: str | Path) -> Path:
    """``path`` as a Path.

    Raises:
        TypeError, ValueError: it is no str or path, is empty, or holds a null character.

    >>> checked_path("log", "run.csv").name
    'run.csv'
    """
    if not isinstance(path, str | Path):
        raise TypeError(f"{name} is a {type(path).__name__}; expected a str or a pathlib.Path")
    if not str(path) or "\0" in str(path):
        raise ValueError(f"{name} is {path!r}; expected the path of a file")
    return Path(path)


def checked_file(name: str, path: str | Path) -> Path:
    """``path`` as the Path of something to read.

    Raises:
        TypeError, ValueError: as ``checked_path``.
        OSError: it is a pipe or a device, which may never end.
    """
    path = checked_path(name, path)
    _refuse_devices(path)
    return path


def _refuse_devices(path):
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "is a pipe or a device; expected a file", str(path))


def check_writable(name: str, path: str | Path) -> None:
    """Refuse a path that ``write_atomically`` cannot write, as far as can be told before.

    A file is made beside it, and the folders that it needs; then they are removed again.

    Args:
        name: the argument's name in messages.

    Raises:
        TypeError, ValueError: as ``checked_path``.
        OSError: it is a folder, a pipe or a device, or no file can be made there.

    >>> check_writable("log", tempfile.gettempdir())
    Traceback (most recent call last):
        ...
    IsADirectoryError: [Errno 21] log cannot be written: Is a directory: ...
    """
    path, made = checked_path(name, path), []
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _refuse_devices(path)
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _locked_temporary(path)
        os.close(handle)
        os.unlink(temporary)
    except FileExistsError as error:  # a file where a folder should be
        reason = f"{name} cannot be written: {os.strerror(errno.ENOTDIR)}"
        raise NotADirectoryError(errno.ENOTDIR, reason, str(path)) from error
    except OSError as error:
        if error.errno is None:
            raise
        reason = f"{name} cannot be written: {error.strerror}"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write ``path`` so that a reader finds the old file or the whole new one, never a part.

    A write that is killed leaves a temporary file ``.NAME.????????.tmp`` beside ``path``. The next
    write of the same path removes it: whoever writes holds a lock on its temporary file, and the
    system drops the lock when the process ends, however that happens.

    Raises:
        OSError: naming ``path``, which may be a pipe or a device, too; the old file is as it was,
            and no temporary file is left.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "greeting.txt"), b"hello")
    ...     Path(folder, "greeting.txt").read_bytes()
    b'hello'
    """
    path = checked_path("path", path)
    with _errors_naming(path):
        _refuse_devices(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, temporary = _locked_temporary(path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def synchronize(path: Path) -> None:
    """Wait until a file, or the names that a folder holds, are on the disk; on file systems that
    cannot tell, do not.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     synchronize(Path(folder))
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def _errors_naming(path):
    """A full disk's error names no file, and others name the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _locked_temporary(path):
    """(handle, name) of a new file beside ``path`` that no other process takes for abandoned."""
    while True:
        handle, temporary = tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)
        with suppress(OSError):  # some file systems have no locks: there nothing is removed either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # removed by another process before it was locked


def _remove_abandoned(path):
    """Remove the temporary files of ``path`` that nobody holds a lock on."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"[^.]{8}" + re.escape(_SUFFIX))
    for name in os.listdir(path.parent):
        if not pattern.fullmatch(name):
            continue
        temporary = path.parent / name
        with suppress(OSError), open(temporary, "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink()
