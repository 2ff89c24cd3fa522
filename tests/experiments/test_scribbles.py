"""Scribbles: the strokes follow their rules, and a small run has a table and a figure."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from experiments import scribbles
from experiments.inputs.scribbles import BACKGROUND, CASES, FOREGROUND, STROKES, sparse
from experiments.reporting import report, stored
from experiments.storing import results
from experiments.storing.cache import MeasurementCache
from tests.experiments.stored_results import RECORD


@pytest.mark.parametrize("case", CASES)
def test_strokes_lie_in_their_classes_and_follow_their_seed(case):
    of_image, drawn = CASES[case]
    image, truth = of_image()
    assert image.shape[:2] == truth.shape
    left = truth[:, : truth.shape[1] // 2]
    one, same, other = (drawn(left, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()
    for value in (BACKGROUND, FOREGROUND):
        labelled = one == value
        assert (left[labelled] == value).all()
        strokes = ndimage.label(labelled, np.ones((3, 3)))[1]
        assert STROKES / 2 <= strokes <= 2 * STROKES
        assert 40 < labelled.sum() < 400


def test_sparse_strokes_begin_well_inside():
    truth = np.full((60, 60), BACKGROUND, np.uint8)
    truth[20:40, 20:40] = FOREGROUND
    labels = sparse(truth, np.random.default_rng(0))
    assert (labels[truth == FOREGROUND] != BACKGROUND).all()
    middles = ndimage.distance_transform_edt(truth == FOREGROUND)[labels == FOREGROUND]
    assert middles.max() > 5


@pytest.mark.cpu
def test_a_small_run_is_stored_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(scribbles, "QUICK", scribbles.QUICK | {"steps": 2})
    pytest.importorskip("sklearn")
    assert scribbles.unavailable("cpu") is None
    store = MeasurementCache(tmp_path / "cache", {}, {})
    rows, arrays = scribbles.run(
        SimpleNamespace(quick=True, seed=1, backend="cpu", nets=None, cache=store)
    )
    assert [(row["case"], row["learner"]) for row in rows] == [
        (case, learner) for case in CASES for learner in scribbles.LEARNERS
    ]
    for case in CASES:
        for learner in scribbles.LEARNERS:
            predicted, truth = arrays[f"{case}: {learner}"], arrays[f"{case}: truth"]
            asked = truth > 0
            both = ((predicted == FOREGROUND) & (truth == FOREGROUND)).sum()
            either = (((predicted == FOREGROUND) | (truth == FOREGROUND)) & asked).sum()
            (row,) = scribbles._of(rows, case, learner)
            assert row["iou"] == pytest.approx(both / either)
            assert row["scored"] == asked.sum()
    folder = tmp_path / "scribbles"
    results.save(folder, rows, RECORD | {"experiment": "scribbles"}, arrays)
    made = report.shown(scribbles, stored.load(folder, scribbles))
    text = made[folder / "table.md"].decode()
    assert text.count("| forest |") == text.count("| net |") == len(CASES)
