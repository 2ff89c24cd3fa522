"""Result files are whole or absent, and a table that is not its record's is found out."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.storing import results
from net import files

ROWS = [
    {"net": "n4", "seconds": 0.25, "pixels": 7, "extrapolated": True, "note": None},
    {"net": 'a, "b"', "seconds": 1e-9, "pixels": 8, "extrapolated": False, "note": "x"},
]


ARRAYS = {"labels": np.arange(6).reshape(2, 3), "image": np.eye(2)}


def test_what_is_saved_is_loaded(tmp_path):
    results.save(tmp_path, ROWS, {"seed": 3}, ARRAYS)
    rows, record, arrays = results.load(tmp_path)
    assert rows == ROWS
    assert record["seed"] == 3
    assert {name: a.tolist() for name, a in arrays.items()} == {
        name: a.tolist() for name, a in ARRAYS.items()
    }


@pytest.mark.parametrize("name", ["measurements.csv", "arrays.npz", "record.json"])
def test_a_missing_file_is_named(tmp_path, name):
    results.save(tmp_path, ROWS, {}, ARRAYS)
    (tmp_path / name).unlink()
    with pytest.raises(results.BadResults, match=f"{name} is missing"):
        results.load(tmp_path)


def test_a_changed_table_is_refused(tmp_path):
    results.save(tmp_path, ROWS, {}, ARRAYS)
    table = tmp_path / "measurements.csv"
    table.write_text(table.read_text().replace("0.25", "0.05"))
    with pytest.raises(results.BadResults, match="is not the file that"):
        results.load(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomically(path, b"old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file"
    whole = {letter * 3_000_000 for letter in (b"a", b"b")}
    program = (
        "import itertools, pathlib, sys; from net.files import write_atomically\n"
        "for letter in itertools.cycle((b'a', b'b')):\n"
        "    write_atomically(pathlib.Path(sys.argv[1]), letter * 3_000_000)\n"
    )
    rng = random.Random(0)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert path.read_bytes() in whole
        path.unlink()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(OSError, match=f"--out is {blocked}/sub"):
        results.check_writable(blocked / "sub")


def test_the_record_tells_how_the_figures_were_made():
    from kernels import get_backend

    record = results.machine(get_backend("cpu"))
    assert record["backend"] == "cpu"
    assert record["gpu"] is None
    assert record["command"].startswith("python -m experiments")
    assert set(record["versions"]) >= {"numba", "numba-cuda", "numpy"}
    assert json.dumps(record)
