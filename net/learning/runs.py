"""A whole training run: from images and label images as they were read to a net in a file."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kernels import checks
from kernels.cross_entropy import UNLABELLED
from net.calibration import calibrate
from net.dense import Dense
from net.files import checked_path
from net.graph import LARGEST_SEED, Net
from net.images import channels_first, net_input
from net.learning import checkpoint
from net.learning.augmentation import Augmentation
from net.learning.examples import ExamplePreparer, Examples, check_pair
from net.learning.fitting import fit
from net.learning.metrics import Metrics
from net.learning.optimizers import Adam, Cosine, Stepwise
from net.learning.records import TrainingWarning, best_row
from net.learning.splitting import by_block, by_image
from net.learning.training import Trainer
from net.usage import Normalization, Usage

EPOCHS = 30
"""Epochs of a run, each validated, saved and plotted."""
NET, RUN = "net.safetensors", "run.safetensors"
SCHEDULES = {
    "cosine": Cosine,
    "stepwise": lambda rate, steps: Stepwise(rate, every=-(-steps // 3)),
    "constant": lambda rate, steps: rate,
}
"""By name, the learning rate over a run: half a cosine down to 0, a tenth after each third of the
run, or the same throughout."""
AUGMENTATION = Augmentation(brightness=1.0, noise=0.1)
"""In units of the images' standard deviation, where they are normalised."""


@dataclass(frozen=True)
class Trained:
    """What ``train`` gives.

    Attributes:
        net: the net of the best epoch, or, without a validation, of the last; its ``usage`` says
            how it is used.
        history: a row for each epoch (``net.learning.records``).
        metrics: metrics of the net on the validation's labelled pixels, or None.

    >>> from net import zoo
    >>> Trained(zoo.build("lenet28", backend="cpu"), history=[], metrics=None).net.patch
    (28, 28)
    """

    net: Net
    history: list[dict]
    metrics: Metrics | None


def train(
    net: Net,
    images: list[np.ndarray],
    labels: list[np.ndarray],
    *,
    axes: str | None = None,
    validation: float | Examples | None = None,
    steps: int = 300,
    pixels: int = 60,
    images_a_step: int = 1,
    rate: float = 3e-3,
    schedule: str = "cosine",
    augmentation: Augmentation | None = AUGMENTATION,
    class_weights=None,
    patience: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    client=None,
    progress: bool = True,
) -> Trained:
    """Train a net on images and label images as they were read.

    ``net.usage`` says which value of a label image is which class, and what the border is. Where it
    has no normalisation, the net is new: that of the training images is computed and stored there,
    and batch normalisations get their statistics from them.

    Args:
        net: its parameters are changed.
        images: H x W, C x H x W or H x W x C each, of real numbers.
        labels: a label image of its image's size for each; by default 0 is unlabelled.
        axes: ``"first"`` or ``"last"``: where channels lie; None is where it is clear.
        validation: a share of the images to validate on, or, of a single image, of its labelled
            pixels, in a block a patch away from the others (``net.learning.splitting``); or a pair
            (images, labels) like the others; None is none, which is warned of.
        steps: about how many to take; each image is in as many, and in at least one.
        pixels: how many random pixels of an image a step learns from, as many of each class.
        images_a_step: how many images a step learns from.
        rate: learning rate of ``Adam`` at first.
        schedule: schedule by which it falls, one of ``SCHEDULES``.
        augmentation: how image and labels are changed before each step; None is not at all.
        class_weights: a weight for each class; None is 1 for each.
        patience: epochs without a lower loss of the validation after which to stop. A run has
            ``EPOCHS`` epochs, or fewer with a step on each image.
        seed: seed of all that is random.
        out: a folder for ``net.safetensors``, ``log.csv``, ``curves.png`` and ``run.safetensors``,
            from which a run that was interrupted resumes. None writes nothing.
        client: whose workers share the images of a step, as ``fit`` takes it.
        progress: show a bar.

    Warns:
        TrainingWarning: as ``fit``; there is no validation.
        UserWarning: a run goes on that the folder holds.

    Raises:
        TypeError, ValueError: as ``fit``; labels that the rule does not name; labels that cannot be
            split; a folder with a run of other settings.
        OSError, MemoryError: as ``fit``.

    >>> from net.learning.scales import scales
    >>> image = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    >>> labels = np.where(image > 200, 2, np.where(image < 50, 1, 0))
    >>> trained = train(scales(2, backend="cpu"), [image], [labels], steps=3, progress=False)
    >>> trained.net.usage.label_rule.of(2), len(trained.history)
    ((1, 2), 3)
    """
    checks.instance("net", net, Net)
    steps, seed = checks.count("steps", steps), checks.count("seed", seed, 0, LARGEST_SEED)
    images_a_step = checks.count("images_a_step", images_a_step)
    rate = checks.number("rate", rate, positive=True)
    schedule = SCHEDULES[checks.choice("schedule", schedule, tuple(SCHEDULES))]
    out = out if out is None else checked_path("out", out)
    check_pair("images and labels", (images, labels))
    usage = net.usage or Usage()
    parts = _parts(net, usage, axes, (images, labels), validation, seed)
    is_new = usage.normalization is None
    if is_new:
        usage = replace(usage, normalization=Normalization.of(parts[0][0]))
    net.usage = usage
    examples, validated = (part and _normalised(net, part) for part in parts)
    settings = _settings(examples, validated, pixels, images_a_step, augmentation)
    net.usage = replace(usage, training=settings)
    if is_new:
        calibrate(net, examples[0], usage.border)
    if validated is None:
        message = "there is no validation: nothing will tell if the net learns its labels by heart"
        warnings.warn(message, TrainingWarning, stacklevel=2)
    epochs, repeats, steps_an_epoch = _epochs(steps, images_a_step, len(examples[0]))
    rule = Adam(schedule(rate, epochs * steps_an_epoch))
    settings = {"border": usage.border, "class_weights": class_weights, "seed": seed}
    trainer = _resumed(Trainer(net, rule, **settings), out)
    with TemporaryDirectory() as temporary:
        files = _files(out, temporary, validated)
        fit(
            trainer,
            examples,
            epochs=epochs,
            pixels=pixels,
            repeats=repeats,
            images_a_step=images_a_step,
            augmentation=augmentation,
            validation=validated,
            patience=patience,
            client=client,
            progress=progress,
            **files,
        )
        best = checkpoint.load_net(files["best"], backend="reference") if validated else trainer.net
        net.load_state(best.state())
    metrics = validated and _measured(trainer, net, validated)
    net.usage = replace(usage, training=_record(trainer, examples, metrics))
    if out is not None:
        net.save(out / NET)
    return Trained(net, trainer.history, metrics)


def _parts(net, usage, axes, given, validation, seed):
    """The examples to learn from, and those to validate on or None."""
    given = _classes(net, usage, axes, "", *given)
    if not isinstance(validation, tuple | list):
        return _split(net, given, validation, seed)
    check_pair("validation", validation)
    return given, _classes(net, usage, axes, "validation ", *validation)


def _epochs(steps, images_a_step, images) -> tuple[int, int, int]:
    """(epochs, how often an epoch repeats each image, steps an epoch) of about ``steps`` steps."""
    repeats = max(1, round(steps * images_a_step / (EPOCHS * images)))
    steps_an_epoch = -(-repeats * images // images_a_step)
    return max(1, round(steps / steps_an_epoch)), repeats, steps_an_epoch


def _files(out, temporary, validated) -> dict:
    """The files that ``fit`` writes, by its arguments."""
    files = {"best": Path(out or temporary, NET)} if validated else {}
    if out is not None:
        files |= {"log": out / "log.csv", "picture": out / "curves.png", "checkpoint": out / RUN}
    return files


def _classes(net, usage, axes, name, images, labels) -> Examples:
    """Images C x H x W as they were read, and their labels as classes."""
    count, result = net.output.channels, ([], [])
    for i, (image, label_map) in enumerate(zip(images, labels)):
        image = channels_first(f"{name}images[{i}]", image, axes, net.channels)
        try:
            label_map = usage.label_rule.decoded(label_map, count)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}labels[{i}]: {error}") from None
        if label_map.shape != image.shape[1:]:
            raise ValueError(
                f"{name}labels[{i}] has shape {label_map.shape}; expected {image.shape[1:]}, as "
                "its image"
            )
        if (label_map == UNLABELLED).all():
            raise ValueError(f"{name}labels[{i}] hold no labelled pixel; expected at least one")
        result[0].append(image)
        result[1].append(label_map)
    return result


def _split(net, given, share, seed):
    """Examples to learn from, and those to validate on or None."""
    images, labels = given
    if share is None:
        return given, None
    share = checks.number("validation", share, positive=True, below=1)
    if len(images) > 1:
        rest, validated = (
            ([images[i] for i in numbers], [labels[i] for i in numbers])
            for numbers in by_image(len(images), share, seed)
        )
        missing = sorted(_occurring(validated[1]) - _occurring(rest[1]))
        if missing:
            names = (net.usage or Usage()).names(net.output.channels)
            raise ValueError(
                f"labels to learn from hold no pixel of {', '.join(names[k] for k in missing)}, "
                "which the images drawn for validation hold alone; expected it in more images, "
                "another seed, or no validation (None; --validation 0)"
            )
        return rest, validated
    rest, block = by_block(labels[0], share, (max(net.patch),) * 2)
    return (images, [rest]), (images, [block])


def _occurring(labels) -> set[int]:
    return {k for one in labels for k in np.unique(one).tolist()} - {UNLABELLED}


def _normalised(net, examples) -> Examples:
    return [net_input(net, image, "first") for image in examples[0]], examples[1]


def _resumed(trainer, out) -> Trainer:
    """The run that the folder holds, if it has one; else this new one."""
    if out is None or not (out / RUN).exists():
        return trainer
    earlier = checkpoint.load(out / RUN, backend=trainer.net.backend.name, expected=trainer.net)
    for name in ("optimizer", "seed", "class_weights"):
        old, new = getattr(earlier, name), getattr(trainer, name)
        if not np.array_equal(old, new):
            raise ValueError(
                f"out is {str(out)!r}, which holds a run of {name} {old}; expected {new}, as asked "
                "for now, or another folder"
            )
    for name in ("border", "normalization", "label_rule"):
        old, new = getattr(earlier.net.usage, name, None), getattr(trainer.net.usage, name)
        if old != new:
            raise ValueError(
                f"out is {str(out)!r}, which holds a run of {name} {old}; expected {new}: other "
                "images or another rule; choose another folder"
            )
    begun, asked = earlier.net.usage.training, trainer.net.usage.training
    for name in dict.fromkeys((*asked, *begun)):
        if begun.get(name) != asked.get(name):
            raise ValueError(
                f"out is {str(out)!r}, which holds a run of other {name}; expected those of "
                "now, or another folder"
            )
    warnings.warn(f"{out / RUN} goes on at step {earlier.steps}", stacklevel=3)
    return earlier


def _settings(examples, validation, pixels, images_a_step, augmentation) -> dict:
    """What a run learns from, and how; it resumes only with the same settings. Runs of one image a
    step have not always said so."""
    several = {"images a step": str(images_a_step)} if images_a_step > 1 else {}
    return several | {
        "examples": _checksum(examples),
        "examples to validate on": validation and _checksum(validation),
        "pixels": str(pixels),
        "augmentation": str(augmentation),
    }


def _checksum(examples) -> int:
    """CRC-32 of images and labels."""
    checksum = 0
    for array in chain(*examples):
        checksum = zlib.crc32(
            np.ascontiguousarray(array), zlib.crc32(str(array.shape).encode(), checksum)
        )
    return checksum


def _measured(trainer, net, examples) -> Metrics:
    """Metrics of the net on the labelled pixels of normalised examples."""
    dense, preparer = Dense(net, trainer.dense.border), ExamplePreparer(trainer)
    truths = [preparer.cropped(labels) for labels in examples[1]]
    maps = zip(examples[0], truths)
    predictions = [dense.predict(x, mask=truth != UNLABELLED)[0] for x, truth in maps]
    return Metrics.of(truths, predictions, net.output.channels)


def _record(trainer, examples, metrics) -> dict:
    """What a net's file says of how it learned."""
    labelled = np.concatenate([one[one != UNLABELLED] for one in examples[1]])
    counts = np.bincount(labelled, minlength=trainer.net.output.channels).tolist()
    best = best_row(trainer.history) or trainer.history[-1]
    record = {
        "images": len(examples[0]),
        "labelled_pixels": counts,
        "seed": trainer.seed,
        "epochs": trainer.history[-1]["epoch"],
        "steps": trainer.steps,
        "epoch_kept": best["epoch"],
    }
    if metrics is not None:
        iou = [None if np.isnan(one) else one for one in metrics.iou.tolist()]
        record["validation"] = {"accuracy": metrics.accuracy, "iou": iou}
    return record
