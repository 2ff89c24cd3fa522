"""Whole runs: from images and label images as they were read to a net in a file."""

import numpy as np
import pytest

from net import Dense, load
from net.images import net_input
from net.learning import fitting, runs
from net.learning.augmentation import Augmentation
from net.learning.optimizers import Adam
from net.learning.records import TrainingWarning
from net.learning.runs import train
from net.usage import LabelRule, Normalization, Usage
from tests.net.test_classifier import tiny

pytestmark = pytest.mark.filterwarnings("ignore:labels are few")
QUICK = {"steps": 20, "rate": 0.03, "progress": False}


def net(backend="reference", **usage):
    made = tiny(2, 1, backend=backend)
    made.usage = Usage(**usage) if usage else None
    return made


def examples(number=3, seed=0):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (16, 13 + i), np.uint8) for i in range(number)]
    return images, [np.where(one > 150, 2, np.where(one < 100, 1, 0)) for one in images]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("cosine", [0.1, 0.05, 0]), ("stepwise", [0.1, 0.01, 1e-4]), ("constant", [0.1] * 3)],
)
def test_schedules_lower_the_rate_to_the_end_of_the_run(monkeypatch, schedule, rates):
    """At the first step, half way, and behind the last one."""
    given = []
    monkeypatch.setattr(runs, "Adam", lambda rate: given.append(rate) or Adam(rate))
    images, labels = examples(1)
    with pytest.warns(TrainingWarning, match="no validation"):
        train(net(), images, labels, steps=12, rate=0.1, schedule=schedule, progress=False)
    scheduled = [given[0](step) if callable(given[0]) else given[0] for step in (0, 6, 12)]
    assert scheduled == pytest.approx(rates)


@pytest.mark.cpu
def test_a_run_writes_its_files_and_resumes_to_the_same_bits(tmp_path, monkeypatch):
    images, labels = examples()
    options = {**QUICK, "validation": 0.4, "augmentation": Augmentation(noise=0.1)}
    whole = train(net("cpu"), images, labels, out=tmp_path / "whole", **options)
    files = {"net.safetensors", "log.csv", "curves.png", "run.safetensors"}
    assert {path.name for path in (tmp_path / "whole").iterdir()} == files

    class Enough(Exception):
        pass

    def interrupted(*arguments):
        save(*arguments)
        if arguments[1].steps >= 8:
            raise Enough

    save = fitting.save
    monkeypatch.setattr(fitting, "save", interrupted)
    with pytest.raises(Enough):
        train(net("cpu"), images, labels, out=tmp_path / "part", **options)
    monkeypatch.setattr(fitting, "save", save)
    train(net("cpu"), images, labels, out=tmp_path / "part", **options)
    for name in files - {"curves.png"}:
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "part"))
        assert one == other, name

    kept = load(tmp_path / "whole" / "net.safetensors", backend="reference")
    best = min(whole.history, key=lambda row: row["validation_loss"])
    assert kept.usage.training["epoch_kept"] == best["epoch"]
    assert kept.usage.training["validation"]["accuracy"] == whole.metrics.accuracy
    assert whole.metrics.accuracy == best["validation_accuracy"]
    for name, array in whole.net.state().items():
        assert (array == kept.state()[name]).all()
    right = total = 0
    for image, label_map in zip(images, labels):
        classes = Dense(kept, "reflect").predict(net_input(kept, image))[0]
        right += (classes + 1 == label_map)[label_map > 0].sum()
        total += (label_map > 0).sum()
    assert right / total > 0.85


def test_a_folder_with_a_run_of_other_settings_is_refused(tmp_path):
    images, labels = examples()
    train(net(), images, labels, out=tmp_path, **QUICK)
    for change, message in (
        ({"rate": 0.1}, "a run of optimizer Adam"),
        ({"seed": 4}, "a run of seed 0; expected 4"),
        ({"class_weights": [1, 2]}, r"a run of class_weights"),
    ):
        with pytest.raises(ValueError, match=message):
            train(net(), images, labels, out=tmp_path, **QUICK | change)
    with pytest.raises(ValueError, match="a run of normalization"):
        train(net(), [255 - one for one in images], labels, out=tmp_path, **QUICK)


def test_several_images_a_step(tmp_path):
    """About as many steps, and a run of its own."""
    options = {**QUICK, "validation": 0.3, "steps": 60, "schedule": "constant"}
    for folder, images_a_step in (("one", 1), ("two", 2)):
        out = tmp_path / folder
        trained = train(net(), *examples(), images_a_step=images_a_step, out=out, **options)
        assert trained.history[-1]["step"] == 60
        with pytest.raises(ValueError, match="holds a run of other images a step"):
            train(net(), *examples(), images_a_step=3 - images_a_step, out=out, **options)


def test_a_net_that_has_a_normalisation_keeps_it():
    images, labels = examples()
    given = Normalization((100.0,), (50.0,))
    assert train(net(normalization=given), images, labels, **QUICK).net.usage.normalization == given
    fresh = train(net(), images, labels, validation=(images[1:], labels[1:]), **QUICK)
    assert fresh.net.usage.normalization == Normalization.of([one[None] for one in images])


@pytest.mark.parametrize("border", ["reflect", "valid"])
def test_a_block_of_one_image_is_validated_on(border):
    images, labels = examples(1)
    trained = train(net(border=border), images, labels, validation=0.3, **QUICK)
    rows = trained.metrics.confusion.sum(axis=1)
    assert 0.1 * (labels[0] > 0).sum() < rows.sum() < 0.4 * (labels[0] > 0).sum()
    learned = trained.net.usage.training["labelled_pixels"]
    assert sum(learned) + rows.sum() < (labels[0] > 0).sum()  # the rest lies between


def test_labels_are_read_by_the_rule_of_the_net():
    images, labels = examples()
    ruled = [np.where(one == 0, 255, one - 1).astype(np.uint8) for one in labels]
    rule = LabelRule(unlabelled=255)
    one = train(net(label_rule=rule), images, ruled, **QUICK).net
    other = train(net(), images, labels, **QUICK).net
    for name, array in one.state().items():
        assert array.tobytes() == other.state()[name].tobytes()
    with pytest.raises(ValueError, match=r"labels\[0\]: labels hold 255; expected 0 .unlabelled"):
        train(net(), images, ruled, **QUICK)


def test_there_is_a_word_where_nothing_validates():
    with pytest.warns(TrainingWarning, match="there is no validation"):
        train(net(), *examples(1), **QUICK)


def test_early_stopping_ends_the_run(tmp_path):
    images, labels = examples()
    noise = [np.random.default_rng(i).integers(1, 3, one.shape) for i, one in enumerate(labels)]
    options = {**QUICK, "steps": 90, "patience": 2, "validation": (images[:1], noise[:1])}
    trained = train(net(), images, labels, out=tmp_path, **options)
    best = min(trained.history, key=lambda row: row["validation_loss"])["epoch"]
    assert len(trained.history) == best + 2 < 30


def test_a_class_that_validation_alone_would_see_is_refused():
    images, labels = examples(2)
    labels[0], labels[1] = (labels[0] > 0) * 1, (labels[1] > 0) * 2
    with pytest.raises(ValueError, match=r"hold no pixel of class [12], which the images drawn"):
        train(net(), images, labels, validation=0.5, **QUICK)


def test_a_folder_with_a_run_of_other_labels_is_refused(tmp_path):
    images, labels = examples()
    options = {**QUICK, "out": tmp_path, "validation": 0.4}
    train(net(), images, labels, **options)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    more = [np.where(one == 0, 1, one) for one in labels]
    with pytest.raises(ValueError, match="holds a run of other examples; expected"):
        train(net(), images, more, **options)
    for name, other in {"pixels": 7, "augmentation": None}.items():
        with pytest.raises(ValueError, match=f"holds a run of other {name}; expected"):
            train(net(), images, labels, **options, **{name: other})
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
