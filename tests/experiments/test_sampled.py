"""Learning from some pixels, measured in three ways."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments import sampled
from experiments.inputs.strokes import DRAWN, chosen_pixels
from experiments.measuring.chosen import work_of
from experiments.reporting import report, stored
from experiments.storing import results
from experiments.storing.cache import MeasurementCache
from net import Net
from net.layers import Convolution, FullyConnected, MaxPool
from tests.experiments.stored_results import RECORD


@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("number", [1, 40, 300, 23 * 17, 1000])
def test_pixels_are_different_and_the_first_of_more(drawn, number):
    size = (23, 17)
    pixels = chosen_pixels(drawn, size, number, seed=3)
    assert len(np.unique(pixels, axis=0)) == len(pixels) == min(number, 23 * 17)
    assert (pixels >= 0).all()
    assert (pixels < size).all()
    more = chosen_pixels(drawn, size, number + 5, seed=3)
    np.testing.assert_array_equal(more[: len(pixels)], pixels)


def test_scribbles_hang_together():
    """Most pixels have a neighbour beside them; of random ones hardly any has."""
    shares = []
    for drawn in ("scribbles", "random"):
        mask = np.zeros((200, 200), bool)
        mask[*chosen_pixels(drawn, (200, 200), 500, seed=0).T] = True
        beside = mask[:, 1:] & mask[:, :-1]
        shares.append(beside.sum() / mask.sum())
    assert shares[0] > 0.5
    assert shares[1] < 0.1


def test_work_is_counted_by_hand():
    """Conv 2 x 2, pool, full connection: of one pixel 3 x 3, 2 x 2 and 1 cells."""
    layers = [Convolution(2, 2), MaxPool(2, 1), FullyConnected(3)]
    net = Net(layers, channels=1, patch=4, backend="reference")
    mask = np.zeros((6, 6), bool)
    mask[2, 2] = mask[2, 3] = True
    work = work_of(net, 6, mask)
    conv, full = 2 * 4, 3 * 2 * 4
    assert work["needed", "forward"] == 12 * conv + 2 * full
    assert work["needed", "backward"] == 12 * conv + 2 * 2 * full
    assert work["scanning", "forward"] == 2 * (9 * conv + full)
    assert work["dense", "forward"] == 64 * conv + 36 * full


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """The experiment on a tiny net; no process measures memory."""

    def prepared(name, *, seed, backend, dtype="float32"):
        layers = [Convolution(2, 3), MaxPool(2), FullyConnected(3)]
        return Net(layers, channels=1, patch=6, seed=seed, backend=backend, dtype=dtype)

    told = {"peak_bytes": 9, "peak_method": "none"}
    monkeypatch.setattr(sampled, "prepared", prepared)
    monkeypatch.setattr(sampled, "QUICK_SIZES", (6, 9))
    monkeypatch.setattr(sampled, "peak_memory", lambda job: {sampled.PASSES[1]: told})
    peaks = lambda job, cases: {case: {sampled.PASSES[1]: told} for case in cases}  # noqa: E731
    monkeypatch.setattr(sampled, "masked_peaks", peaks)
    once = lambda jobs, longest, min_rounds: {key: [job()] for key, job in jobs.items()}  # noqa: E731
    monkeypatch.setattr(sampled, "interleaved", once)
    cache = MeasurementCache(tmp_path / "cache", {}, {})
    return SimpleNamespace(quick=True, seed=1, backend="cpu", nets=["tiny"], cache=cache)


@pytest.mark.cpu
@pytest.mark.parametrize("forms", [None, ("scanning", "dense"), ("needed",), ("dense",)])
def test_measures_the_forms_asked_for_and_shows_them(quick, forms, tmp_path):
    quick.forms = forms
    rows, _ = sampled.run(quick)
    ways = {(r["form"], r["drawn"]) for r in rows}
    assert ways == {way for way in sampled.WAYS if way[0] in (forms or sampled.FORMS)}
    for row in rows:
        assert row["multiply_adds"] > 0
        assert row["seconds"] > 0
        assert (row["plan_seconds"] is not None) == (row["form"] == "needed")
        if row["form"] == "needed" and row["kind"] == "forward + backward":
            assert 0 < row["plan_seconds"] < row["seconds"]
    for form, drawn in ways:
        chosen = [
            r for r in rows if (r["form"], r["drawn"], r["kind"]) == (form, drawn, "backward")
        ]
        assert [(r["labelled"], r["pixels"]) for r in chosen] == [
            *((6, n) for n in (1, 16, 36)),
            *((9, n) for n in (1, 16, 81)),
        ]
    folder = tmp_path / "sampled"
    results.save(folder, rows, RECORD | {"experiment": "sampled", "quick": True}, {})
    made = report.shown(sampled, stored.load(folder, sampled))
    text = made[folder / "table.md"].decode()
    assert text.count("\n| tiny | ") == 1 + 6
    assert made[folder / "figure.png"].startswith(b"\x89PNG")
    assert ("not measured" in text) == (forms is not None)


@pytest.mark.parametrize(
    ("plans", "told"),
    [
        (((4e-4, 1e-3), (5e-4, 1e-3)), "none takes more than 0.5 ms"),
        (((4e-4, 1e-3), (6e-4, 4e-3), (9e-4, 1e-2)), "15.0%, 0.6 ms (2 pixels of 9, random)"),
        (((None, 1e-3), (None, 1e-3)), "not measured"),
    ],
)
def test_plans_count_where_they_take_more_than_half_a_millisecond(plans, told):
    row = {"net": "n", "form": "needed", "kind": "forward + backward", "labelled": 9}
    rows = [
        row | {"drawn": "random", "pixels": n, "plan_seconds": plan, "seconds": seconds}
        for n, (plan, seconds) in enumerate(plans, start=1)
    ]
    rows.append(rows[0] | {"form": "dense", "plan_seconds": None})
    assert sampled._plan(rows, "n") == told


@pytest.mark.cpu
def test_needed_cells_count_no_more_than_either_other_way(quick):
    rows, _ = sampled.run(quick)
    counted = {(r["labelled"], r["pixels"], r["kind"], r["form"]): r["multiply_adds"] for r in rows}
    for (*case, form), count in counted.items():
        if form == "needed":
            assert count <= min(counted[*case, other] for other in ("scanning", "dense"))
