"""Finished measurements are cached whole, read again, and made again only for a reason."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.storing import cache
from experiments.storing.cache import MeasurementCache, code_digest

ROOT = Path(__file__).parents[2]
PROVENANCE = {"utc": "2014-12-15T00:00:00+00:00", "commit": "abc", "dirty": False}

MEASURING = """
import sys, time
from pathlib import Path
from experiments.storing.cache import MeasurementCache
folder, log = Path(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
store = MeasurementCache(folder, {"experiment": "tiny"}, {})
def measure(i):
    print("begun", i, file=log)
    time.sleep(0.01)
    return [{"i": i, "square": i * i, "text": "x" * 5000}]
values = [store.measured({"i": i}, lambda i=i: measure(i)) for i in range(30)]
print("finished", sum(v[0]["square"] for v in values), file=log)
"""


def store(folder, shared=None, **options):
    return MeasurementCache(folder, shared or {"code": 1}, PROVENANCE, **options)


def test_a_measurement_is_made_once(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return [{"seconds": np.float64(0.1) / 3, "n": np.int64(3), "none": None}]

    first = store(tmp_path).measured({"net": "n4"}, measure)
    again = store(tmp_path)
    assert again.measured({"net": "n4"}, measure) == first
    assert first == [{"seconds": 0.1 / 3, "n": 3, "none": None}]
    assert (len(calls), again.reused, again.provenances[0]["commit"]) == (1, 1, "abc")


@pytest.mark.parametrize(
    ("shared", "parameters", "options"),
    [
        ({"code": 2}, {"net": "n4"}, {}),
        ({"code": 1}, {"net": "n5"}, {}),
        ({"code": 1}, {"net": "n4"}, {"fresh": True}),
    ],
    ids=["other code", "other parameters", "fresh"],
)
def test_a_measurement_is_made_again_for_a_reason(tmp_path, shared, parameters, options):
    store(tmp_path).measured({"net": "n4"}, lambda: 1)
    other = store(tmp_path, shared, **options)
    assert other.measured(parameters, lambda: 2) == 2
    assert other.reused == 0


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "is damaged: "),
        (lambda path: path.write_bytes(b"{}"), "is damaged: it has no sha256"),
        (lambda path: path.write_bytes(b"[]"), "is damaged: it is no object of JSON"),
        (lambda path: path.write_bytes(b""), "is damaged: "),
        (lambda path: path.write_bytes(b"\xff"), "is damaged: "),
        (lambda path: path.write_bytes(b"[" * 10**6), "is damaged: it is too large or too deep"),
        (lambda path: path.write_bytes(b" " * (2**23 + 1)), "has more than 8388608 bytes"),
        (lambda path: replace(path, b'"value": 1', b'"value": 7'), "is not the one that was"),
        (lambda path: replace(path, b'"net"', b'"nut"'), "it holds another measurement"),
        (lambda path: replace(path, b'"commit"', b'"comet"'), "it has no commit"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "is a link"),
    ],
)
def test_a_damaged_file_is_named_and_its_measurement_made_anew(tmp_path, capsys, damage, fault):
    store(tmp_path).measured({"net": "n4"}, lambda: 1)
    (path,) = tmp_path.iterdir()
    damage(path)
    again = store(tmp_path)
    assert not again.holds({"net": "n4"})
    assert again.measured({"net": "n4"}, lambda: 2) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"experiments: {path} ")
    assert line.endswith("; it is measured anew")
    assert fault in line
    assert again.reused == 0
    third = store(tmp_path)
    assert third.holds({"net": "n4"})
    assert third.measured({"net": "n4"}, lambda: 3) == 2
    assert not capsys.readouterr().err


def replace(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def test_numbers_that_are_none_are_read_again(tmp_path):
    store(tmp_path).measured({}, lambda: [np.nan, np.inf])
    again = store(tmp_path)
    value = again.measured({}, lambda: None)
    assert again.reused == 1
    np.testing.assert_array_equal(value, [np.nan, np.inf])


def test_a_failed_measurement_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        store(tmp_path / "cache").measured({}, lambda: 1 / 0)
    assert not (tmp_path / "cache").exists()


def test_killing_at_random_moments_loses_at_most_the_measurement_in_progress(tmp_path):
    folder, log = tmp_path / "cache", tmp_path / "log"
    rng, kills = random.Random(0), 0
    command = [sys.executable, "-c", MEASURING, str(folder), str(log)]
    while "finished" not in (log.read_text() if log.exists() else ""):
        before = len(list(folder.glob("*.json"))) if folder.exists() else 0
        process = subprocess.Popen(command, cwd=ROOT)
        while process.poll() is None and len(list(folder.glob("*.json"))) < before + 2:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    lines = log.read_text().split("\n")
    begun = [int(line.split()[1]) for line in lines if line.startswith("begun")]
    assert kills > 1
    assert set(begun) == set(range(30))
    assert len(begun) <= 30 + kills
    assert f"finished {sum(i * i for i in range(30))}" in lines
    files = list(folder.glob("*.json"))
    assert len(files) == 30
    for path in files:
        (row,) = json.loads(path.read_text())["value"]
        assert row["square"] == row["i"] ** 2


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("kernels/convolution/cpu.py", True),
        ("net/dense.py", True),
        ("experiments/growth.py", True),
        ("experiments/measuring/compare.py", True),
        ("experiments/pooling.py", False),
        ("experiments/reporting/report.py", False),
    ],
)
def test_the_digest_is_that_of_the_code_that_is_measured(path, counts, monkeypatch):
    before, read = code_digest("growth"), Path.read_bytes

    def changed(self):
        return read(self) + (b"#" if self == cache.ROOT / path else b"")

    monkeypatch.setattr(Path, "read_bytes", changed)
    assert (code_digest("growth") != before) == counts
