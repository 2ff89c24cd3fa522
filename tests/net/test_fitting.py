"""The training loop: its log, its bar, and what it refuses."""

import csv

import numpy as np
import pytest

from net.fitting import fit
from net.optimizers import SGD
from net.training import Trainer
from tests.net.crafted import spoiled
from tests.net.learning import examples, run_for, small_net


def test_the_log_holds_the_history(tmp_path):
    trainer = run_for(2, log=tmp_path / "log.csv")
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == trainer.history
    assert [row["step"] for row in rows] == ["4", "8"]
    assert set(rows[0]) == {"epoch", "step", "loss", "validation_loss", "validation_accuracy"}


def test_the_bar_shows_loss_and_speed(capfd):
    run_for(1, progress=True)
    shown = capfd.readouterr().err
    assert "loss " in shown
    assert "labelled pixels/s" in shown


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: ([], []), ValueError, "examples holds 0 images and 0 label maps"),
        (lambda x, y: (x, y[:-1]), ValueError, "examples holds 4 images and 3 label maps"),
        (
            lambda x, y: (x, [y[0] + 1, *y[1:]]),
            ValueError,
            "examples labels 0 reach from 0 to 3",
        ),
        (lambda x, y: (x, [y[0] - 1, *y[1:]]), ValueError, "expected classes 0 to 2, or -1"),
        (lambda x, y: (x, [m * np.nan for m in y]), TypeError, "examples labels 0 is float64"),
        (lambda x, y: (x, [m[1:] for m in y]), ValueError, "labels 0 has shape"),
        (lambda x, y: ([x[0] * np.nan, *x[1:]], y), ValueError, "examples image 0 holds NaN"),
        (lambda x, y: (x, [np.minimum(m, 1) for m in y]), ValueError, "no pixel of class 2"),
        (lambda x, y: (x, [y[0] * 0 - 1, *y[1:]]), ValueError, "labels 0 hold no labelled"),
        (
            lambda x, y: ([i.astype(float) for i in x], y),
            TypeError,
            "image 0 has dtype float64",
        ),
    ],
)
def test_bad_examples_are_refused_before_any_step(tmp_path, change, error, message):
    trainer = Trainer(small_net(), SGD(0.1))
    path = tmp_path / "run.safetensors"
    with pytest.raises(error, match=message):
        fit(trainer, change(*examples()), epochs=1, pixels=9, checkpoint=path)
    assert trainer.steps == 0
    assert not path.exists()


def test_what_no_checkpoint_can_hold_is_refused_before_any_step(tmp_path):
    trainer = Trainer(small_net(), spoiled(SGD(0.1), rate=np.float32(0.1)))
    path = tmp_path / "run.safetensors"
    with pytest.raises(ValueError, match=r"^optimizer.rate is np.float32\(0.1\)"):
        fit(trainer, examples(), epochs=1, pixels=9, checkpoint=path)
    assert trainer.steps == 0
    assert not path.exists()


@pytest.mark.parametrize("name", ["epochs", "pixels", "save_every"])
def test_bad_numbers(name):
    options = {"epochs": 1, "pixels": 9} | {name: -1}
    with pytest.raises(ValueError, match=f"{name} is -1; expected an int of at least 1"):
        fit(Trainer(small_net(), SGD(0.1)), examples(), **options)


class TestMasks:
    """Pixels that the caller chooses."""

    def test_each_image_learns_from_its_own_mask(self):
        images, labels = examples()
        masks = [(own >= 0) & (np.arange(own.size).reshape(own.shape) % 7 == 0) for own in labels]
        trainer = Trainer(small_net(), SGD(0.1), seed=3)
        fit(trainer, (images, labels), epochs=1, pixels=masks, progress=False)
        by_hand = Trainer(small_net(), SGD(0.1), seed=3)
        for i in np.random.default_rng((3, 0, 0)).permutation(4):
            by_hand.step(images[i], labels[i], masks[i])
        for name, array in trainer.net.state().items():
            assert array.tobytes() == by_hand.net.state()[name].tobytes()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda masks: masks[:-1], "pixels holds 3 masks; expected 4"),
            (lambda masks: [m[1:] for m in masks], "pixels mask 0 has shape 23 x 21; expected 24"),
            (lambda masks: [~m for m in masks], "pixels mask 0 chooses no labelled pixel"),
        ],
    )
    def test_bad_masks(self, change, message):
        trainer, (images, labels) = Trainer(small_net(), SGD(0.1)), examples()
        masks = [own >= 0 for own in labels]
        with pytest.raises(ValueError, match=message):
            fit(trainer, (images, labels), epochs=1, pixels=change(masks))
        assert trainer.steps == 0
