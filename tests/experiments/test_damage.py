"""Damaged results: one line that names the file and the fault, and nothing is written."""

import csv
import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest

from experiments import __main__
from experiments.reporting.stored import PROFILE
from tests.experiments.stored_results import equality, growth, store, store_profile


@pytest.fixture
def out(tmp_path):
    """Two machines, one of them with arrays, and a profile; all fine."""
    out = tmp_path / "results"
    store(out)
    store(out, growth(), "growth", "another")
    store(out, arrays={"a": np.arange(6.0)}, machine="with-arrays")
    store_profile(out)
    return out


def files(folder):
    """The contents of all files, by their paths."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def report(out):
    return __main__.main(["report", "--out", str(out)])


def resealed(folder, name, content):
    """Replace a file and its digest: as a stranger, or another version, may have made both."""
    (folder / name).write_bytes(content)
    record = json.loads((folder / "record.json").read_text())
    record["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / "record.json").write_text(json.dumps(record))


def changed_record(**changes):
    def damage(folder):
        path = folder / "record.json"
        record = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in record.items() if v is not ...}))

    return damage


def other_record(content):
    return lambda folder: (folder / "record.json").write_bytes(content)


def other_table(content):
    return lambda folder: resealed(folder, "measurements.csv", content)


def other_rows(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return other_table(text.getvalue().encode())


HEAD = ",".join(equality()[0])
LINE = ",".join(str(value) for value in equality()[0].values())
DIGEST = "0" * 64

RECORDS = {
    "empty": (other_record(b""), "is damaged: Expecting value"),
    "cut": (other_record(b'{"utc": "2014'), "is damaged: Unterminated string"),
    "a list": (other_record(b"[]"), "it is no object of JSON"),
    "without anything": (other_record(b"{}"), "it has no utc"),
    "not UTF-8": (other_record(b"\xff\xfe\xfa"), "is damaged: "),
    "too deep": (other_record(b"[" * 200_000), "it is too large or too deep"),
    "too large": (other_record(b" " * (2**20 + 1)), "has more than 1048576 bytes"),
    "without a field": (changed_record(cpu=...), "it has no cpu"),
    "a list as a device": (changed_record(gpu=["x"]), "gpu is ['x']; expected a text or null"),
    "a text as a truth": (changed_record(quick="no"), "quick is 'no'; expected true or false"),
    "no threads": (changed_record(threads=0), "threads is 0; expected at least 1"),
    "a huge number": (changed_record(threads=10**30), "expected an int"),
    "no time": (changed_record(utc="yesterday"), "Invalid isoformat string: 'yesterday'"),
    "half a character": (changed_record(cpu="\ud800"), "expected a text"),
    "another experiment": (changed_record(experiment="growth"), "experiment is 'growth'; expected"),
    "versions as a list": (changed_record(versions=[]), "versions is []; expected texts by name"),
    "no digests": (changed_record(sha256={}), "sha256 names nothing; expected measurements.csv"),
    "a path beyond": (
        changed_record(sha256={"measurements.csv": DIGEST, "../../secret": DIGEST}),
        "sha256 names 'measurements.csv', '../../secret'; expected measurements.csv",
    ),
    "an absolute path": (changed_record(sha256={"/etc/passwd": DIGEST}), "sha256 names '/etc/pass"),
    "a null": (changed_record(sha256={"measurements.csv\0": DIGEST}), "sha256 names"),
}
TABLES = {
    "empty": (other_table(b""), "it has no column net"),
    "without rows": (other_table(f"{HEAD}\n".encode()), "it has no rows"),
    "without a column": (other_rows([{"net": "n4"}]), "it has no column dtype"),
    "a column twice": (other_table(f"{HEAD},net\n{LINE},n4\n".encode()), "have the same name"),
    "a short line": (other_table(f"{HEAD}\n{LINE}\nn4\n".encode()), "line 3 has 1 cells; expected"),
    "a text as a number": (other_rows(equality(rows="many")), "line 2: rows is 'many'; expected"),
    "a number is missing": (other_rows(equality(rows="")), "line 2: rows is ''; expected an int"),
    "an endless number": (other_rows(equality(rows="9" * 5000)), "line 2: rows is '999"),
    "an open quote": (other_table(f'{HEAD}\n"{LINE}'.encode()), "line 2: "),
    "not UTF-8": (other_table(HEAD.encode() + b"\n\xff\xff"), "is damaged: "),
    "nulls": (other_table(HEAD.encode() + b"\n\0\0"), "is damaged: "),
    "a dtype is missing": (
        other_rows(equality(dtype="float32")),
        "measurements.csv holds no results of its experiment: ValueError",
    ),
}


def assert_refused(out, damaged, message, capsys):
    before = files(out)
    assert report(out) == 2
    printed = capsys.readouterr()
    assert not printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith(f"experiments: error: {damaged}")
    assert message in line
    assert files(out) == before


@pytest.mark.parametrize(("damage", "message"), RECORDS.values(), ids=RECORDS)
def test_a_damaged_record(out, damage, message, capsys):
    folder = out / "a-machine" / "equality"
    damage(folder)
    assert_refused(out, folder / "record.json", message, capsys)


@pytest.mark.parametrize(("damage", "message"), RECORDS.values(), ids=RECORDS)
def test_a_damaged_record_of_the_profiler(out, damage, message, capsys):
    if "quick" in message:
        pytest.skip("the profiler has no quick runs")
    folder = out / PROFILE / "here"
    damage(folder)
    assert_refused(out, folder / "record.json", message, capsys)


@pytest.mark.parametrize(("damage", "message"), TABLES.values(), ids=TABLES)
def test_a_damaged_table(out, damage, message, capsys):
    folder = out / "a-machine" / "equality"
    damage(folder)
    assert_refused(out, folder / "measurements.csv", message, capsys)


def test_a_table_whose_bound_is_not_known(out, capsys):
    folder = store_profile(out, [{"target": "speed", "of": "a", "case": "b", "value": 1}])
    message = "holds no results of its experiment: KeyError: 'speed'"
    assert_refused(out, folder / "measurements.csv", message, capsys)


def archive_of(**members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return packed.getvalue()


def npy(array, **options):
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


ARRAYS = {
    "nothing": (b"", "it is no archive of arrays"),
    "no archive": (b"PK", "its arrays cannot be read: File is not a zip file"),
    "no array": (archive_of(a=b"x" * 99), "an array is of no kind that results hold"),
    "a bomb": (archive_of(a=bytes(2**25)), "its arrays cannot be read: more than"),
    "an object": (
        archive_of(a=npy(np.array([{}]), allow_pickle=True)),
        "an array is of no kind that results hold",
    ),
    "cut": (
        archive_of(a=npy(np.ones(9))[:-1]),
        "an array is float64 of shape (9,), and has other bytes",
    ),
    "a huge shape": (
        archive_of(a=npy(np.ones(9)).replace(b"(9,)", b"(9000000000000,)")),
        "its arrays cannot be read",
    ),
}


@pytest.mark.parametrize(("content", "message"), ARRAYS.values(), ids=ARRAYS)
def test_damaged_arrays(out, content, message, capsys):
    folder = out / "with-arrays" / "equality"
    resealed(folder, "arrays.npz", content)
    assert_refused(out, folder / "arrays.npz", message, capsys)


@pytest.mark.parametrize("name", ["record.json", "measurements.csv", "arrays.npz"])
def test_links_are_not_followed(out, name, capsys):
    folder = out / "with-arrays" / "equality"
    elsewhere = out.parent / name
    os.rename(folder / name, elsewhere)
    (folder / name).symlink_to(elsewhere)
    assert_refused(out, folder / name, "is a link; expected a file", capsys)


@pytest.mark.parametrize("place", ["a-machine", "a-machine/equality", PROFILE, f"{PROFILE}/here"])
def test_nor_are_links_to_folders(out, place, capsys):
    os.rename(out / place, out.parent / "elsewhere")
    (out / place).symlink_to(out.parent / "elsewhere")
    assert_refused(out, out / place, "is a link; expected a folder", capsys)


@pytest.mark.parametrize("name", ["record.json", "measurements.csv"])
def test_a_folder_or_a_pipe_in_the_place_of_a_file(out, name, capsys):
    path = out / "a-machine" / "equality" / name
    path.unlink()
    path.mkdir()
    assert_refused(out, path, "is a folder or a device", capsys)
    path.rmdir()
    os.mkfifo(path)
    assert_refused(out, path, "is a folder or a device", capsys)


def test_a_missing_table(out, capsys):
    path = out / "a-machine" / "equality" / "measurements.csv"
    path.unlink()
    assert_refused(out, path, "is missing", capsys)


def test_other_folders_are_passed_over(out):
    (out / "notes").mkdir()
    (out / "link").symlink_to(out.parent)
    assert report(out) == 0
