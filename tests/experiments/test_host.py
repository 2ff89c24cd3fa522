"""The experiment on the host's time counts what a pass launches, in a process of its own."""

import pytest

from experiments import host
from experiments.measuring.host import DIRECTIONS, measured
from experiments.profiling import calls


def test_a_pass_is_counted_and_timed():
    rows = measured("lenet28", 4, quick=True)
    assert [row["direction"] for row in rows] == list(DIRECTIONS)
    for row, backward in zip(rows, (False, True)):
        recorded = calls.of_net("lenet28", 4, "dense", batch=1, backward=backward)
        assert row["launches"] == sum(len(call.launches) for call in recorded)
        assert row["allocations"] == row["allocated"] == row["prepared"] == 0
        assert 0 < row["seconds_p20"] <= row["seconds"] <= row["seconds_p80"]
    line = host.table([{"net": "lenet28", "labelled": 4} | row for row in rows]).splitlines()[-1]
    assert line.startswith("| lenet28 | 4 x 4 | forward + backward | ")
    assert f"| {rows[1]['launches']} |" in line


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"the host's time failed:(.|\n)*name is 'no such net'"):
        measured("no such net", 4, quick=True)
