"""Segmentation trains the nets that were asked for."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from experiments import segmentation
from experiments.reporting import report, stored
from experiments.storing import results
from experiments.storing.cache import MeasurementCache
from net import Net
from net.layers import Convolution, ReLU
from tests.experiments.stored_results import RECORD


def small(channels, patch):
    def build(classes=2, **options):
        layers = [Convolution(classes, patch), ReLU()]
        return Net(layers, channels=channels, patch=patch, **options)

    return build


@pytest.fixture
def zoo(monkeypatch):
    """Three small nets; of grey and of colour images, and with a patch larger than the images."""
    nets = {"grey": small(1, 3), "colour": small(3, 5), "large": small(1, 29)}
    monkeypatch.setattr(segmentation.zoo, "ZOO", nets)
    plan = {"training": 2, "validation": 1, "test": 1, "epochs": 1, "pixels": 9, "size": 24}
    monkeypatch.setattr(segmentation, "QUICK", plan)


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("nets", [["grey"], ["colour"], ["colour", "large"]])
def test_each_net_is_the_one_asked_for(tmp_path, monkeypatch, nets):
    built = []
    build = segmentation.zoo.build

    def noted(name, **options):
        if "classes" in options:
            built.append(name)
        return build(name, **options)

    monkeypatch.setattr(segmentation.zoo, "build", noted)
    store = MeasurementCache(tmp_path / "cache", {}, {})
    options = SimpleNamespace(quick=True, seed=1, backend="reference", nets=nets, cache=store)
    rows, arrays = segmentation.run(options)
    assert built == nets
    assert list(dict.fromkeys(row["net"] for row in rows)) == nets
    size = 29 if "large" in nets else 24
    assert arrays["image"].shape == (size, size)
    predicted = {f"predicted by {who}{name}" for name in nets for who in ("", "the baseline of ")}
    assert arrays.keys() == {"image", "truth", *predicted}
    assert all(arrays[name].shape == (size, size) for name in predicted)

    folder = tmp_path / "segmentation"
    results.save(folder, rows, RECORD | {"experiment": "segmentation", "nets": nets}, arrays)
    made = report.shown(segmentation, stored.load(folder, segmentation))
    text = made[folder / "table.md"].decode()
    assert f"\n{', '.join(nets)} trained on" in text
    assert text.count("over the cells that the pixels need") == len(nets)
    assert text.count("| true \\ predicted |") == len(nets)
    assert "nan" not in text

    drawing = segmentation.figure(rows, RECORD, arrays)
    titles = [axes.get_title() for axes in drawing.get_axes()]
    for kind in ("test image", "truth", "errors, baseline"):
        assert titles.count(kind) == len(nets)
    for who in ("baseline", *nets):
        shown = [title for title in titles if re.fullmatch(rf"{who}: [\d.]+% right", title)]
        assert len(shown) == (len(nets) if who == "baseline" else 1)
    (legend,) = drawing.legends
    assert [text.get_text() for text in legend.get_texts()] == list(segmentation.CLASSES)


def test_the_figure_shows_the_baselines_map_and_its_legend_beside_the_panels():
    rng = np.random.default_rng(1)
    arrays = {"image": rng.random((24, 24))}
    for key in ("truth", "predicted by a", "predicted by the baseline of a"):
        arrays[key] = rng.integers(0, 3, (24, 24))
    epoch = {"step": 1.0, "loss": 1.0, "validation_loss": 1.0, "validation_accuracy": 0.5}
    measures = {"net": {"accuracy": 0.9}, "baseline": {"accuracy": 0.4}, "epoch 1": epoch}
    rows = [
        {"net": "a", "subject": subject, "measure": measure, "value": value}
        for subject, values in measures.items()
        for measure, value in values.items()
    ]
    drawing = segmentation.figure(rows, RECORD, arrays)
    shown = {axes.get_title(): axes.get_images() for axes in drawing.get_axes()}
    (of_net,), (of_baseline,) = shown["a: 90.0% right"], shown["baseline: 40.0% right"]
    for picture, key in ((of_net, "a"), (of_baseline, "the baseline of a")):
        colors = [to_rgb(segmentation.COLORS[k]) for k in arrays[f"predicted by {key}"].ravel()]
        np.testing.assert_allclose(picture.get_array().reshape(-1, 3), colors)
    drawing.draw_without_rendering()
    (legend,) = drawing.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 <= box.x1 <= drawing.bbox.width
    for axes in drawing.get_axes():
        assert not box.overlaps(axes.get_tightbbox()), axes.get_title()
