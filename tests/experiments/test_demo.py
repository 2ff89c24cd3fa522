"""The demo: weights that ship, one pass held to patch by patch, and no door to the network."""

import hashlib
import json
import socket
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import demo
from experiments.inputs import trained
from experiments.inputs.arithmetic import saved
from experiments.measuring.exactness import NotEqual
from net import Scan, zoo

RECORD = {"gpu": None, "cpu": "A CPU", "threads": 2}


def options(**changed):
    return SimpleNamespace(**{"quick": True, "train": False, "seed": 0, "backend": "cpu"} | changed)


@pytest.fixture
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the demo opens a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_the_weights_are_small_and_those_of_their_record():
    record = json.loads(trained.RECORD.read_text())
    content = trained.NET.read_bytes()
    assert len(content) < 200_000
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["command"] == "python -m experiments demo --train"
    assert not record["dirty"]
    net = trained.trained("reference")
    assert str(net) == str(zoo.build(trained.NAME, classes=2, backend="reference"))


@pytest.mark.cpu
@pytest.mark.usefixtures("_no_network")
def test_it_labels_the_coins_and_tells_what_was_checked():
    (row,), arrays = demo.run(options())
    recorded = json.loads(trained.RECORD.read_text())["scores"]["never seen"]
    assert row["accuracy"] == pytest.approx(recorded["accuracy"], abs=1e-3)
    assert row["iou"] == pytest.approx(recorded["iou"], abs=1e-3)
    assert row["iou"] > 0.95
    assert row.keys() == demo.COLUMNS.keys()
    same, faster, *_ = demo.sentences(row)
    assert same == f"same bits as patch by patch at {demo.QUICK_CHECKED} pixels: yes"
    assert f"extrapolated from {row['timed_pixels']} timed patches" in faster
    assert row["timed_pixels"] >= demo.QUICK_SAMPLE
    counted = saved(trained.trained("reference"), (row["rows"], row["columns"]))
    assert row["multiply_adds_saved"] == pytest.approx(counted)
    assert row["speedup_p20"] <= row["speedup"] <= row["speedup_p80"]
    ratio = row["scanning_seconds"] / row["seconds"]  # of medians, where that is of rounds
    assert row["speedup"] == pytest.approx(ratio, rel=0.5)
    assert f"{row['speedup']:.0f} times faster" in faster
    assert f"; {row['multiply_adds_saved']:.0f} times fewer multiply-adds" in faster
    assert (arrays["classes"] == (arrays["coin"] >= 50)).mean() > 0.999
    assert len(demo.figure([row], RECORD, arrays).get_axes()) == 5


@pytest.mark.cpu
def test_one_wrong_bit_of_one_score_is_an_error(monkeypatch):
    forward = Scan.forward

    def wrong(self, image, pixels=None):
        scores = forward(self, image, pixels)
        scores[-1, 0] = np.nextafter(scores[-1, 0], np.float32(np.inf))
        return scores

    monkeypatch.setattr(Scan, "forward", wrong)
    with pytest.raises(NotEqual, match="same bits as patch by patch at 50 pixels: no"):
        demo.run(options())


def test_the_pixels_are_distinct_and_hold_corners_and_the_one_that_is_drawn():
    pixels = [tuple(pixel) for pixel in demo._pixels((303, 384), 500, options())]
    assert len(set(pixels)) == 500
    assert {(0, 0), (0, 383), (302, 0), (302, 383), demo.SHOWN} <= set(pixels)
