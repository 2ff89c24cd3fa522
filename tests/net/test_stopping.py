"""Early stopping, the best epoch, the picture, and what a run warns of."""

import warnings

import numpy as np
import pytest

from net import load
from net.learning import curves, fitting, records
from net.learning.fitting import fit, measure
from net.learning.optimizers import SGD, Adam
from net.learning.records import TrainingWarning
from net.learning.training import Trainer
from tests.net.learning import examples, run_for, small_net


def validated(*losses, loss=(3, 2, 1, 0.5, 0.2, 0.1)):
    return [
        {"epoch": i, "step": i, "loss": of_training, "validation_loss": of_validation}
        for i, (of_validation, of_training) in enumerate(zip(losses, loss), 1)
    ]


@pytest.mark.cpu
def test_it_stops_and_the_best_net_is_kept(tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0])

    def measured(*_):
        return {"validation_loss": next(losses), "validation_accuracy": 0.5}

    monkeypatch.setattr(fitting, "measure", measured)
    trainer, weights = Trainer(small_net(), SGD(0.1)), []
    monkeypatch.setattr(records, "as_csv", lambda *_: weights.append(_bits(trainer.net)) or b"")
    run_for(9, trainer=trainer, patience=2, best=tmp_path / "best", log=tmp_path / "log")
    assert [row["validation_loss"] for row in trainer.history] == [3, 2, 2.5, 2]
    assert _bits(load(tmp_path / "best", backend="cpu")) == weights[1]
    assert len(set(weights)) == 4


def _bits(net):
    return b"".join(array.tobytes() for array in net.state().values())


def test_epochs_without_a_validation_do_not_count_for_stopping():
    history = [{"epoch": 1, "loss": 1.0}, *validated(1.0, 2.0)]
    history[1]["epoch"], history[2]["epoch"] = 2, 3
    assert records.best_row(history)["epoch"] == 2
    assert not records.is_stopped(history[:1], 1)
    assert records.is_stopped(history, 1)
    assert not records.is_stopped(history, 2)


def test_a_loss_that_is_nan_is_never_the_best():
    assert records.best_row(validated(np.nan, 5.0))["epoch"] == 2


@pytest.mark.parametrize(("name", "value"), [("patience", 3), ("best", "best.safetensors")])
def test_what_needs_a_validation(name, value):
    trainer = Trainer(small_net(), SGD(0.1))
    with pytest.raises(ValueError, match=f"{name} is .* without a validation"):
        fit(trainer, examples(), epochs=1, pixels=9, **{name: value})


class TestWarnings:
    def test_loss_and_validation_part_once(self):
        history = validated(1.0, 0.8, 0.9, 1.1, 1.3, 0.9)
        for end in range(1, 7):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                records.warn_of_parting(history[:end])
            assert len(caught) == (end == 4)
        assert caught == []
        with pytest.warns(TrainingWarning, match="since epoch 2 the loss fell from 2 to 0.5"):
            records.warn_of_parting(history[:4])

    def test_not_where_the_loss_rises_too(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            records.warn_of_parting(validated(1.0, 2.0, loss=(1, 1.5)))

    def test_few_labels(self):
        images, labels = examples()
        few = [
            np.where((label_map == 1) & (np.arange(21) > 1), 0, label_map) for label_map in labels
        ]
        weights, number = [1, 1, 0], sum(int((label_map == 1).sum()) for label_map in few)
        trainer = Trainer(small_net("reference"), SGD(0.1), class_weights=weights)
        with pytest.warns(TrainingWarning, match=f"are few: class 1 has {number} labelled pixels;"):
            fit(trainer, (images, few), epochs=1, pixels=3, progress=False)


@pytest.mark.cpu
@pytest.mark.parametrize("border", ["reflect", "valid"])
def test_measuring_computes_what_the_labelled_pixels_need(border):
    """The same numbers as from the scores of all pixels."""
    images, labels = examples(2)
    trainer = Trainer(small_net(), SGD(0.1), border=border, class_weights=[1, 2, 3])
    sparse = [np.where(np.random.default_rng(4).random(o.shape) < 0.1, o, -1) for o in labels]
    measured = measure(trainer, (images, sparse))
    loss = weight = right = number = 0
    for image, label_map in zip(images, sparse):
        label_map = label_map if border == "reflect" else label_map[8:-8, 8:-8]
        counts = label_map >= 0
        if not counts.any():
            continue
        scores = trainer.dense.forward(image)
        of_image = trainer.class_weights[label_map[counts]].sum()
        loss += trainer.loss(scores, label_map, counts) * of_image
        weight, number = weight + of_image, number + counts.sum()
        right += (scores.argmax(axis=0) == label_map)[counts].sum()
    assert measured["validation_accuracy"] == right / number
    assert measured["validation_loss"] == pytest.approx(loss / weight, rel=1e-6)


@pytest.mark.cpu
@pytest.mark.parametrize("border", ["reflect", "valid"])
def test_the_picture_is_renewed_as_it_learns(tmp_path, monkeypatch, border):
    path, seen = tmp_path / "run.png", []
    monkeypatch.setattr(curves, "RENEWED", 0)
    monkeypatch.setattr(records, "as_csv", lambda *_: seen.append(_content(path)) or b"")
    trainer = Trainer(small_net(), Adam(0.01), border=border)
    run_for(3, trainer=trainer, picture=path, log=tmp_path / "log")
    assert seen[0] is None
    assert len({*seen, _content(path)}) == 4
    assert _content(path).startswith(b"\x89PNG")


def _content(path):
    return path.read_bytes() if path.exists() else None


def test_a_large_image_is_shown_in_part():
    image, labels = np.zeros((1, 900, 20), np.float32), np.full((900, 20), -1)
    labels[700:720] = 1
    trainer = Trainer(small_net("reference"), SGD(0.1))
    drawn = curves.Picture("run.png", trainer, ([image], [labels]))
    assert drawn.image.shape == (1, curves.SIDE, 20)
    assert (drawn.labels >= 0).sum() == 400
