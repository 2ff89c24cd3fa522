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

from experiments.storing import machine, results
from net import files
from tests.experiments.stored_results import RECORD

ROWS = [
    {"net": "n4", "seconds": 0.25, "pixels": 7, "extrapolated": True, "note": None},
    {"net": 'a, "b"', "seconds": 1e-9, "pixels": 8, "extrapolated": False, "note": "x"},
]


COLUMNS = {"net": str, "seconds": float, "pixels": int, "extrapolated": bool, "note": str | None}
ARRAYS = {"labels": np.arange(6).reshape(2, 3), "image": np.eye(2)}


def save(folder):
    results.save(folder, ROWS, RECORD | {"experiment": "tiny", "seed": 3}, ARRAYS)


def load(folder, **changed):
    return results.load(folder, {"tiny": COLUMNS | changed}, {"seed": int})


def test_what_is_saved_is_loaded(tmp_path):
    save(tmp_path)
    results = load(tmp_path)
    assert results.rows == ROWS
    assert [list(map(type, row.values())) for row in results.rows] == [
        list(map(type, row.values())) for row in ROWS
    ]
    assert results.record["seed"] == 3
    assert results.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(results.arrays[name], array, strict=True)
    assert results.contents == {
        name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)
    }


def test_a_column_that_may_be_empty_may_be_missing_and_others_are_left_out(tmp_path):
    save(tmp_path)
    loaded = load(tmp_path, peak=int | None)
    assert [row["peak"] for row in loaded.rows] == [None, None]
    with pytest.raises(results.BadResults, match=r"measurements.csv is damaged: it has no column"):
        load(tmp_path, peak=int)
    rows = results.load(tmp_path, {"tiny": {"net": str}}, {}).rows
    assert rows == [{"net": row["net"]} for row in ROWS]


@pytest.mark.parametrize("name", ["measurements.csv", "arrays.npz", "record.json"])
def test_a_missing_file_is_named(tmp_path, name):
    save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(results.BadResults, match=f"{name} is missing"):
        load(tmp_path)


def test_a_changed_table_is_refused(tmp_path):
    save(tmp_path)
    table = tmp_path / "measurements.csv"
    table.write_text(table.read_text().replace("0.25", "0.05"))
    with pytest.raises(results.BadResults, match="is not the file that"):
        load(tmp_path)


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
    message = f"--out is x; expected a writable folder, and {blocked} is none: Not a directory"
    with pytest.raises(OSError, match=message):
        results.check_writable("--out is x", blocked / "sub" / "folder")
    results.check_writable("--out is x", tmp_path / "new" / "folder")
    assert os.listdir(tmp_path) == ["file"]


def test_the_record_tells_how_the_figures_were_made():
    from kernels import get_backend

    record = machine.described(get_backend("cpu"))
    assert record["backend"] == "cpu"
    assert record["gpu"] is None
    assert record["command"].startswith("python -m experiments")
    assert set(record["versions"]) >= {"numba", "numba-cuda", "numpy"}
    assert json.dumps(record)


def test_generations_of_processors_with_one_name_are_told_apart(tmp_path):
    names = set()
    for family in (25, 26):
        info = tmp_path / f"{family}"
        told = f"cpu family\t: {family}\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n"
        info.write_text(f"{told}\n{told.replace('EPYC', 'of the second core')}")
        names.add(machine.processor_name(info))
    assert names == {"AMD EPYC (family 25, model 2)", "AMD EPYC (family 26, model 2)"}
    assert machine.processor_name(tmp_path / "none")  # where there is no such file
