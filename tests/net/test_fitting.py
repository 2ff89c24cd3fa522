"""The training loop: its log, its bar, and what it refuses."""

import csv
import os

import numpy as np
import pytest

from kernels.memory import cpu as memory
from net import free_memory
from net.learning.checkpoint import load
from net.learning.fitting import fit
from net.learning.optimizers import SGD
from net.learning.targets import Share
from net.learning.training import Trainer
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
            lambda x, y: list(zip(x, y)),
            TypeError,
            r"examples is a list of pairs \(image, label map\); expected a pair \(images, label "
            r"maps\), two lists of equal length: pass tuple\(zip\(\*examples\)\)",
        ),
        (lambda x, y: list(zip(x, y))[:2], TypeError, "examples is a list of pairs"),
        (lambda x, y: [x[0], y[0]], ValueError, "examples holds 1 images and 24 label maps"),
        (lambda x, y: zip(x, y), TypeError, "examples is a zip; expected a pair"),
        (lambda x, y: None, TypeError, "examples is a NoneType; expected a pair"),
        (lambda x, y: (x, y, x), TypeError, "examples holds a list, a list, a list; expected a"),
        (lambda x, y: (x, 3), TypeError, "examples holds a list, an int; expected a pair"),
        (lambda x, y: (np.ma.masked_less(x, 0), y), TypeError, "image 0 is a masked array"),
        (
            lambda x, y: (x, [np.ma.masked_equal(m, 2) for m in y]),
            TypeError,
            "labels 0 is a masked array",
        ),
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


class TestBeforeAnyStep:
    """What would fail after an epoch, and lose it."""

    def refused(self, error, message, *, trainer=None, data=None, **options):
        trainer = trainer or Trainer(small_net(), SGD(0.1))
        steps = trainer.steps
        with pytest.raises(error, match=message):
            fit(
                trainer,
                data or examples(),
                **{"epochs": 1, "pixels": 9, "progress": False} | options,
            )
        assert trainer.steps == steps

    @pytest.mark.parametrize("name", ["log", "checkpoint"])
    def test_a_path_that_is_none(self, name):
        self.refused(TypeError, f"{name} is an? int; expected a str", **{name: 3})

    @pytest.mark.parametrize("name", ["log", "checkpoint"])
    def test_a_folder(self, tmp_path, name):
        self.refused(OSError, f"{name} cannot be written: Is a directory", **{name: tmp_path})

    @pytest.mark.parametrize("name", ["log", "checkpoint"])
    def test_a_file_in_the_place_of_a_folder(self, tmp_path, name):
        (tmp_path / "file").write_text("")
        path = str(tmp_path / "file" / "further" / "run")
        self.refused(OSError, f"{name} cannot be written: Not a directory", **{name: path})

    @pytest.mark.parametrize("name", ["log", "checkpoint"])
    def test_a_name_that_is_too_long(self, tmp_path, name):
        path = tmp_path / ("n" * 250)
        self.refused(OSError, f"{name} cannot be written: File name too long", **{name: path})

    @pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
    @pytest.mark.parametrize("name", ["log", "checkpoint"])
    def test_a_folder_that_cannot_be_written(self, name):
        self.refused(OSError, f"{name} cannot be written", **{name: "/proc/self/run"})

    def test_one_file_for_both(self, tmp_path):
        both = {"log": tmp_path / "run", "checkpoint": str(tmp_path / "x" / ".." / "run")}
        self.refused(ValueError, "log and checkpoint are both", **both)

    def test_nothing_is_left_where_files_were_tried(self, tmp_path):
        paths = {"log": tmp_path / "a" / "log", "checkpoint": tmp_path / "b" / "run"}
        self.refused(ValueError, "reach from", data=(examples()[0], [m + 1 for m in examples()[1]]))
        bad = Trainer(small_net(), spoiled(SGD(0.1), rate=np.float32(0.1)))
        self.refused(ValueError, "optimizer.rate", trainer=bad, **paths)
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("pixels", "kind"), [(None, "a NoneType"), ("all", "a str"), (1.5, "a float")]
    )
    def test_pixels_that_are_neither_a_number_nor_masks(self, pixels, kind):
        message = f"pixels is {kind}; expected an int, or a list of a mask for each image"
        self.refused(TypeError, message, pixels=pixels)

    def test_an_image_that_is_too_small_is_named(self):
        images, labels = examples()
        small = [image[:, :2] for image in images], [label_map[:2] for label_map in labels]
        trainer = Trainer(small_net(), SGD(0.1), border="valid")
        self.refused(ValueError, "examples image 0 is 2 x", trainer=trainer, data=small)

    def test_fewer_epochs_than_are_done(self):
        trainer = run_for(2)
        message = "epochs is 1; expected at least 2, as the run has taken 8 steps of 4 an epoch"
        self.refused(ValueError, message, trainer=trainer)
        run_for(2, trainer=trainer)
        assert trainer.steps == 8

    def test_a_resumed_log_with_other_columns(self, tmp_path):
        trainer = run_for(1, validation=None, log=tmp_path / "log.csv")
        with pytest.raises(
            ValueError, match="log: the run's epochs so far have the columns epoch, "
        ):
            run_for(2, trainer=trainer, log=tmp_path / "log.csv")
        assert trainer.steps == 4
        run_for(2, trainer=trainer)

    def test_a_file_that_is_no_log(self, tmp_path):
        (tmp_path / "data.csv").write_text("x,y\n1,2\n")
        self.refused(ValueError, "which begins with 'x,y'", log=tmp_path / "data.csv")
        assert (tmp_path / "data.csv").read_text() == "x,y\n1,2\n"

    def test_examples_that_do_not_fit(self, monkeypatch):
        monkeypatch.setattr(free_memory, "SMALLEST", 0)
        monkeypatch.setattr(memory, "free_bytes", lambda: 100_000)
        self.refused(MemoryError, "labelling 24 x 21 pixels and learning takes")

    def test_validation_that_does_not_fit(self, monkeypatch):
        monkeypatch.setattr(free_memory, "SMALLEST", 0)
        monkeypatch.setattr(memory, "free_bytes", lambda: 2_000_000)
        self.refused(
            MemoryError, "labelling 400 x 500 pixels takes", validation=examples(1, size=(400, 500))
        )

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda x, y: (x, [m + 1 for m in y]), ValueError, "validation labels 0 reach from 0"),
            (lambda x, y: ([i * np.nan for i in x], y), ValueError, "validation image 0 holds NaN"),
            (
                lambda x, y: (x, [np.ma.masked_equal(m, -1).filled(255) for m in y]),
                ValueError,
                "validation labels 0 reach from 0 to 255",
            ),
            (
                lambda x, y: (x, [np.ma.masked_equal(m, -1) for m in y]),
                TypeError,
                "validation labels 0 is a masked array",
            ),
            (lambda x, y: list(zip(x, y)), TypeError, "validation is a list of pairs"),
        ],
    )
    def test_validation(self, change, error, message):
        self.refused(error, message, validation=change(*examples(2)))

    def test_validation_of_a_class_of_weight_0_alone(self):
        images, labels = examples(1)
        trainer = Trainer(small_net(), SGD(0.1), class_weights=[0, 1, 1])
        message = "validation holds no labelled pixel of a class with a weight above 0"
        self.refused(ValueError, message, trainer=trainer, validation=(images, [labels[0] * 0]))

    @pytest.mark.parametrize("trainer", [None, small_net("reference"), Trainer])
    def test_no_trainer(self, trainer):
        with pytest.raises(TypeError, match=r"trainer is .*; expected a Trainer"):
            fit(trainer, examples(), epochs=1, pixels=9)


@pytest.mark.parametrize("dtype", ["int8", "uint64", ">i2"])
def test_labels_of_any_ints(dtype):
    images, labels = examples()
    results = []
    for given_labels in (labels, [abs(one).astype(dtype) for one in labels]):
        trainer = Trainer(small_net(), SGD(0.1), seed=3)
        masks = [one >= 0 for one in labels]
        pair = images, given_labels
        fit(trainer, pair, epochs=1, pixels=9, validation=pair, progress=False)
        fit(trainer, pair, epochs=2, pixels=masks, progress=False)
        results.append([row["step"] for row in trainer.history])
    assert results[0] == results[1] == [4, 8]


def test_paths_may_be_strings(tmp_path):
    log, checkpoint = str(tmp_path / "new" / "log.csv"), str(tmp_path / "other" / "run")
    trainer = run_for(1, checkpoint, log=log)
    assert load(checkpoint, backend="reference").history == trainer.history
    run_for(2, checkpoint, trainer=trainer, log=log)
    with open(log) as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["4", "8"]


class TestWeight0:
    """Pixels of a class of weight 0 count for nothing."""

    def test_they_are_not_chosen(self):
        data = examples()
        trainer = Trainer(small_net(), SGD(0.1), class_weights=[0, 1, 1], seed=3)
        fit(trainer, data, epochs=3, pixels=1, progress=False)
        assert trainer.steps == 12

    @pytest.mark.parametrize("masks", [False, True])
    def test_an_image_of_them_alone_is_left_out(self, masks):
        images, labels = examples()
        labels[2] = 0 * labels[2]
        pixels = [label_map >= 0 for label_map in labels] if masks else 9
        trainer = Trainer(small_net(), SGD(0.1), class_weights=[0, 1, 1], seed=3)
        validation = images, labels
        fit(
            trainer,
            (images, labels),
            epochs=2,
            pixels=pixels,
            validation=validation,
            progress=False,
        )
        assert [row["step"] for row in trainer.history] == [3, 6]
        assert all(np.isfinite(value) for row in trainer.history for value in row.values())

    def test_nothing_else(self):
        images, labels = examples()
        masks = [label_map == 0 for label_map in labels]
        trainer = Trainer(small_net(), SGD(0.1), class_weights=[0, 1, 1])
        with pytest.raises(ValueError, match="pixels choose no labelled pixel of a class with a"):
            fit(trainer, (images, labels), epochs=1, pixels=masks)


@pytest.mark.parametrize("name", ["epochs", "pixels", "save_every", "images_a_step"])
def test_bad_numbers(name):
    options = {"epochs": 1, "pixels": 9} | {name: -1}
    with pytest.raises(ValueError, match=f"{name} is -1; expected an int of at least 1"):
        fit(Trainer(small_net(), SGD(0.1)), examples(), **options)


class TestSeveralImages:
    """Steps on several images at a time."""

    @pytest.mark.parametrize("form", ["needed", "dense", "patch"])
    def test_the_loss_is_the_mean_over_all_pixels(self, form):
        images, labels = examples(3)
        masks = [
            (label_map >= 0)
            & (np.arange(label_map.size).reshape(label_map.shape) % (5 + label_map[0, 0]) == 0)
            for label_map in labels
        ]
        options = {"form": form, "class_weights": [1, 3, 0.3], "seed": 3}
        trainer, by_hand = (Trainer(small_net(), SGD(0.1), **options) for _ in range(2))
        fit(trainer, (images, labels), epochs=2, pixels=masks, images_a_step=2, progress=False)
        weights = [
            trainer.class_weights[label_map[mask]].sum() for label_map, mask in zip(labels, masks)
        ]
        orders = [np.random.default_rng((3, 0, epoch)).permutation(3) for epoch in range(2)]
        losses = []
        for draws in ((0, 1), (2,), (3, 4), (5,)):
            chosen = [orders[draw // 3][draw % 3] for draw in draws]
            share, loss, total = sum(weights[i] for i in chosen), 0, {}
            for draw, i in zip(draws, chosen):
                image_loss, gradients = by_hand.gradients(
                    images[i], labels[i], masks[i], share=Share(draw)
                )
                loss += image_loss * weights[i] / share
                for name, gradient in gradients.items():
                    total[name] = total.get(name, 0) + gradient * np.float32(weights[i] / share)
            by_hand.update(total)
            losses.append(loss)
        assert [row["loss"] for row in trainer.history] == pytest.approx(
            [np.mean(losses[:2]), np.mean(losses[2:])], rel=1e-5
        )
        for name, array in trainer.net.state().items():
            np.testing.assert_allclose(array, by_hand.net.state()[name], rtol=1e-4, atol=1e-5)

    def test_dropout_tells_images_apart(self):
        (image, *_), (labels, *_) = examples(1)
        trainer = Trainer(small_net(), SGD(0.1))
        first, same, other = (
            trainer.gradients(image, labels, share=share)[0] for share in (None, Share(0), Share(1))
        )
        assert first == same != other

    def test_resumes_within_an_epoch(self, tmp_path):
        path = tmp_path / "run.safetensors"
        whole = run_for(2, images_a_step=3)
        assert whole.steps == 4

        def stop(*_):
            raise KeyboardInterrupt

        run_for(1, path, images_a_step=3)
        trainer = load(path, backend="cpu")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("net.learning.fitting.measure", stop)
            with pytest.raises(KeyboardInterrupt):
                run_for(2, path, trainer, images_a_step=3, save_every=1)
        stopped = load(path, backend="cpu")
        assert stopped.steps == 3
        resumed = run_for(2, trainer=stopped, images_a_step=3)
        assert resumed.history == whole.history
        for name, array in whole.net.state().items():
            assert array.tobytes() == resumed.net.state()[name].tobytes()


class TestMasks:
    """Pixels that the caller chooses."""

    @pytest.mark.parametrize("kind", [list, tuple, np.array])
    def test_each_image_learns_from_its_own_mask(self, kind):
        images, labels = examples()
        masks = [
            (label_map >= 0) & (np.arange(label_map.size).reshape(label_map.shape) % 7 == 0)
            for label_map in labels
        ]
        trainer = Trainer(small_net(), SGD(0.1), seed=3)
        fit(trainer, (images, labels), epochs=1, pixels=kind(masks), progress=False)
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
        masks = [label_map >= 0 for label_map in labels]
        with pytest.raises(ValueError, match=message):
            fit(trainer, (images, labels), epochs=1, pixels=change(masks))
        assert trainer.steps == 0


@pytest.mark.parametrize("changed", [{"images_a_step": 2}, {"repeats": 2}])
def test_epochs_of_another_length_are_refused(changed):
    """They would be numbered as if all had it."""
    trainer = run_for(1, trainer=Trainer(small_net("reference"), SGD(0.01)), validation=None)
    with pytest.raises(ValueError, match=r"4 steps in 1 epochs; expected [28] an epoch"):
        run_for(4, trainer=trainer, validation=None, **changed)
    assert trainer.steps == 4
