"""Writes are whole or leave no trace, and clean up behind writes that were killed."""

import errno
import fcntl
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from net import files
from net.files import check_writable, checked_file, checked_path, write_atomically

WRITER = (
    "import itertools, sys; from net.files import write_atomically\n"
    "print('started', flush=True)\n"
    "for letter in itertools.islice(itertools.cycle((b'a', b'b')), int(sys.argv[2])):\n"
    "    write_atomically(sys.argv[1], letter * 3_000_000)\n"
)
WHOLE = {letter * 3_000_000 for letter in (b"a", b"b")}


def writer(path, number):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(number)], stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.long)])
def test_the_next_write_removes_what_killed_ones_left(tmp_path, kills):
    path, rng, left = tmp_path / "file", random.Random(0), 0
    for _ in range(kills):
        process = writer(path, 10**9)
        process.stdout.readline()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.read_bytes() in WHOLE
        left += len(os.listdir(tmp_path)) - 1
        assert len(os.listdir(tmp_path)) <= 2
    assert left > 0, "no writer was killed in the middle of a write"
    write_atomically(path, b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_several_writers_leave_each_other_alone(tmp_path):
    path = tmp_path / "file"
    processes = [writer(path, 30) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert path.read_bytes() in WHOLE
    assert os.listdir(tmp_path) == ["file"]


def test_only_abandoned_files_of_the_same_name_are_removed(tmp_path):
    others = [".run.log.abcdefgh.tmp", ".runs.abcdefgh.tmp", ".run.abc.tmp", "run.abcdefgh.tmp"]
    others += [".run.abcdefgh", ".run.abcdefgh.tmp2", ".xrun.abcdefgh.tmp"]
    abandoned, held = tmp_path / ".run.abcdefgh.tmp", tmp_path / ".run.ijklmnop.tmp"
    for path in (abandoned, held, *(tmp_path / name for name in others)):
        path.write_bytes(b"part")
    with open(held, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomically(tmp_path / "run", b"new")
    assert sorted(os.listdir(tmp_path)) == sorted(["run", held.name, *others])
    write_atomically(tmp_path / "run", b"new")
    assert sorted(os.listdir(tmp_path)) == sorted(["run", *others])


def test_a_file_that_was_taken_for_abandoned_is_made_again(tmp_path, monkeypatch):
    lock, removed = fcntl.flock, []

    def remove_first(handle, operation):
        if not removed:
            removed.extend(tmp_path.glob(".file.*"))
            removed[0].unlink()
        lock(handle, operation)

    monkeypatch.setattr(files.fcntl, "flock", remove_first)
    write_atomically(tmp_path / "file", b"new")
    assert len(removed) == 1
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / ".file.abcdefgh.tmp").write_bytes(b"perhaps another process writes it")
    monkeypatch.setattr(files.fcntl, "flock", fail)
    write_atomically(tmp_path / "file", b"new")
    assert sorted(os.listdir(tmp_path)) == [".file.abcdefgh.tmp", "file"]


def test_a_full_disk(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match=re.escape(str(path))) as refusal:
            write_atomically(path, b"new" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refusal.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_place_that_cannot_be_written(tmp_path):
    """A file where a folder should be, a folder where the file should be, and no permission."""
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    for path in (tmp_path / "file" / "new", tmp_path / "folder", Path("/proc/nothing/new")):
        with pytest.raises(OSError, match=re.escape(str(path))) as refusal:
            write_atomically(path, b"new")
        assert refusal.value.filename == str(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", [None, 3, 1.5, b"bytes", ["a"], True])
def test_what_is_no_path(path):
    kind = type(path).__name__
    with pytest.raises(TypeError, match=f"^log is a {kind}; expected a str or a pathlib.Path"):
        checked_path("log", path)
    with pytest.raises(TypeError, match=f"^path is a {kind}"):
        write_atomically(path, b"")


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_no_path_of_a_file(path):
    with pytest.raises(ValueError, match=r"^log is .*; expected the path of a file"):
        checked_path("log", path)


def test_pipes_and_devices_are_neither_read_nor_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for use in (checked_file, check_writable):
        for path in (pipe, Path("/dev/zero")):
            with pytest.raises(OSError, match="is a pipe or a device; expected a file") as refusal:
                use("path", path)
            assert refusal.value.filename == str(path)
    with pytest.raises(OSError, match="is a pipe or a device; expected a file"):
        write_atomically(pipe, b"new")
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_folders_that_are_tried_are_removed_again(tmp_path):
    (tmp_path / "there").mkdir()
    check_writable("log", tmp_path / "there" / "a" / "b" / "log")
    for path in ("a/" + "n" * 300 + "/log", "a/b/" + "n" * 250):
        with pytest.raises(OSError, match="log cannot be written: File name too long"):
            check_writable("log", tmp_path / "there" / path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
