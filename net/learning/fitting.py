"""The training loop: epochs over images, validation, a log and checkpoints."""

from __future__ import annotations

import csv
import io
import time
from numbers import Integral
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kernels import checks
from kernels.cross_entropy import UNLABELLED
from net.files import check_writable, write_atomically
from net.images import checked, checked_image, output_size
from net.learning.checkpoint import of_run, save
from net.learning.sampling import balanced_mask
from net.learning.training import Trainer, checked_labels

Examples = tuple[list[np.ndarray], list[np.ndarray]]
"""Images C x H x W of the net's dtype, and for each a map of int labels of the output's shape."""

COLUMNS = ("epoch", "step", "loss")
VALIDATION_COLUMNS = ("validation_loss", "validation_accuracy")


def fit(
    trainer: Trainer,
    examples: Examples,
    *,
    epochs: int,
    pixels: int | list[np.ndarray],
    validation: Examples | None = None,
    log: str | Path | None = None,
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
    progress: bool = True,
) -> None:
    """Train until ``epochs`` epochs are done, counting those of a resumed run.

    An epoch takes one step on each image, in a random order. An image whose pixels are all
    unlabelled or of classes of weight 0 is left out.

    Args:
        trainer: a new one, or a resumed one (``net.learning.checkpoint.load``).
        examples: what to learn from.
        epochs: of the whole run. Where all are done, nothing happens; fewer are refused.
        pixels: how many random pixels of an image a step learns from, balanced over its classes; or
            a mask for each image (bool, the shape of its labels).
        validation: what to ``measure`` after each epoch.
        log: CSV file of ``trainer.history``, written whole after each epoch.
        checkpoint: file to save the run to: after each epoch, and after ``save_every`` steps.
        progress: show a bar with the loss and the labelled pixels a second.

    Everything is checked before the first step.

    Raises:
        TypeError, ValueError: nothing to learn from, NaN in an image, labels outside of the
            classes, a class without a pixel, fewer epochs than are done, a log with other columns,
            a net or an optimiser that no checkpoint can hold.
        MemoryError: a step or a validation would take more memory than is free.
        OSError: a file that cannot be written.

    >>> from net import zoo
    >>> from net.learning.optimizers import Adam
    >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), Adam(1e-3))
    >>> image = np.random.default_rng(0).random((1, 9, 8), np.float32)
    >>> examples = [image], [(image[0] > 0.5).astype(int)]
    >>> fit(trainer, examples, epochs=2, pixels=20, progress=False)
    >>> trainer.steps, len(trainer.history)
    (2, 2)
    """
    checks.instance("trainer", trainer, Trainer)
    epochs, progress = checks.count("epochs", epochs), checks.flag("progress", progress)
    if save_every is not None:
        save_every = checks.count("save_every", save_every)
    order = _check_data(trainer, examples, pixels, validation)
    steps_an_epoch = len(order)
    _check_epochs(trainer, epochs, steps_an_epoch)
    columns = COLUMNS + (VALIDATION_COLUMNS if validation is not None else ())
    _check_files(trainer, columns, log, checkpoint)
    end = epochs * steps_an_epoch
    with tqdm(total=end, initial=trainer.steps, unit="step", disable=not progress) as bar:
        while trainer.steps < end:
            bar.set_postfix_str(_step(trainer, examples, pixels, order))
            bar.update()
            epoch_ends = trainer.steps % steps_an_epoch == 0
            if epoch_ends:
                _end_epoch(trainer, trainer.steps // steps_an_epoch, validation)
                if log is not None:
                    write_atomically(log, _as_csv(columns, trainer.history))
            due = epoch_ends or (save_every and trainer.steps % save_every == 0)
            if checkpoint is not None and due:
                save(checkpoint, trainer)


def measure(trainer: Trainer, examples: Examples) -> dict[str, float]:
    """Loss and accuracy over all labelled pixels of all images, as a row of the history holds them.

    Pixels of a class of weight 0 count for neither. The others count by the weight of their class
    for the loss, wherever they lie, and equally for the accuracy.

    Raises:
        TypeError, ValueError: as ``fit``, or no pixel counts.
        MemoryError: a pass would take more memory than is free.

    >>> from net import zoo
    >>> from net.learning.optimizers import Adam
    >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), Adam(1e-3))
    >>> examples = [np.zeros((1, 4, 4), np.float32)], [np.zeros((4, 4), int)]
    >>> measure(trainer, examples)["validation_accuracy"]
    1.0
    """
    checks.instance("trainer", trainer, Trainer)
    loss, weight, right, pixels = 0.0, 0.0, 0, 0
    _check_pair("examples", examples)
    for i, (image, labels) in enumerate(zip(*examples)):
        image, labels = _checked_example(trainer, "examples", i, image, labels)
        counting = trainer.counting(labels)
        if not counting.any():
            continue
        scores = trainer.dense.forward(image)
        of_image = float(trainer.class_weights[labels[counting]].sum())
        loss += trainer.loss(scores, labels, counting) * of_image
        weight += of_image
        right += int((scores.argmax(axis=0) == labels)[counting].sum())
        pixels += int(counting.sum())
    if pixels == 0:
        raise ValueError("examples hold no labelled pixel of a class with a weight above 0")
    return dict(zip(VALIDATION_COLUMNS, (loss / weight, right / pixels)))


def _step(trainer, examples, pixels, order) -> str:
    """One step; returns its loss and its speed in words."""
    images, labels = examples
    started = time.perf_counter()
    epoch, place = divmod(trainer.steps, len(order))
    i = order[np.random.default_rng((trainer.seed, 0, epoch)).permutation(len(order))[place]]
    if _are_masks(pixels):
        mask = pixels[i]
    else:
        rng = np.random.default_rng((trainer.seed, 1, trainer.steps))
        mask = balanced_mask(_counting_labels(trainer, labels[i]), pixels, rng)
    loss = trainer.step(images[i], labels[i], mask)
    trainer.losses.append(loss)
    rate = int(mask.sum()) / (time.perf_counter() - started)
    return f"loss {loss:.3f}, {rate:.0f} labelled pixels/s"


def _counting_labels(trainer, labels):
    """The labels, those of classes of weight 0 taken for unlabelled."""
    return np.where(trainer.counting(labels), labels, UNLABELLED)


def _end_epoch(trainer, epoch, validation):
    """Add a row to the history; the losses that it sums up are forgotten."""
    row = dict(zip(COLUMNS, (epoch, trainer.steps, float(np.mean(trainer.losses)))))
    if validation is not None:
        row |= measure(trainer, validation)
    trainer.history.append(row)
    trainer.losses.clear()


def _check_data(trainer, examples, pixels, validation) -> list[int]:
    """Refuse what cannot be learned from.

    Returns:
        the numbers of the images that have a pixel to learn from.
    """
    masks = pixels if _are_masks(pixels) else None
    if masks is None and not isinstance(pixels, Integral):
        kind = checks.kind_of(pixels)
        raise TypeError(f"pixels is {kind}; expected an int, or a list of a mask for each image")
    if masks is None:
        checks.count("pixels", pixels)
    _check_pair("examples", examples)
    if masks is not None and len(masks) != len(examples[1]):
        raise ValueError(
            f"pixels holds {len(masks)} masks; expected {len(examples[1])}, one an image"
        )
    occurring, learnable = set(), []
    for i, (image, labels) in enumerate(zip(*examples)):
        image, labels = _checked_example(trainer, "examples", i, image, labels)
        occurring |= set(np.unique(labels).tolist())
        chosen = trainer.counting(labels)
        if masks is not None:
            mask = checked(f"pixels mask {i}", masks[i], "bool", labels.shape)
            if not (mask & (labels != UNLABELLED)).any():
                raise ValueError(
                    f"pixels mask {i} chooses no labelled pixel; expected at least one"
                )
            chosen &= mask
        number = int(chosen.sum())
        if number:
            learnable.append(i)
            trainer.check_memory(image, number if masks is not None else min(number, pixels))
    missing = sorted(set(range(trainer.net.output.channels)) - occurring)
    if missing:
        raise ValueError(
            f"examples hold no pixel of class {', '.join(map(str, missing))}; expected every class "
            "of the net"
        )
    if not learnable:
        raise ValueError("pixels choose no labelled pixel of a class with a weight above 0")
    if validation is not None:
        _check_validation(trainer, validation)
    return learnable


def _are_masks(pixels) -> bool:
    return isinstance(pixels, list | tuple) or getattr(pixels, "ndim", 0) == 3


def _check_validation(trainer, validation):
    _check_pair("validation", validation)
    counting = False
    for i, (image, labels) in enumerate(zip(*validation)):
        image, labels = _checked_example(trainer, "validation", i, image, labels)
        trainer.dense.check_memory(labels.shape)
        counting |= bool(trainer.counting(labels).any())
    if not counting:
        raise ValueError("validation holds no labelled pixel of a class with a weight above 0")


def _check_pair(name, examples):
    """Refuse anything but images and as many label maps."""
    expected = "expected a pair (images, label maps), two lists of equal length"
    lists = list | tuple | np.ndarray
    if not isinstance(examples, list | tuple):
        raise TypeError(f"{name} is {checks.kind_of(examples)}; {expected}")
    if examples and all(_is_image_and_labels(example) for example in examples):
        raise TypeError(
            f"{name} is a list of pairs (image, label map); {expected}: pass tuple(zip(*{name}))"
        )
    if len(examples) != 2 or not all(isinstance(part, lists) for part in examples):
        kinds = ", ".join(map(checks.kind_of, examples[:4])) or "nothing"
        more = ", ..." if len(examples) > 4 else ""
        raise TypeError(f"{name} holds {kinds}{more}; {expected}")
    images, label_maps = examples
    if len(images) == 0 or len(images) != len(label_maps):
        raise ValueError(
            f"{name} holds {len(images)} images and {len(label_maps)} label maps; expected at "
            "least one image, and a map for each"
        )


def _is_image_and_labels(example) -> bool:
    return isinstance(example, list | tuple) and [getattr(part, "ndim", 0) for part in example] == [
        3,
        2,
    ]


def _checked_example(trainer, name, i, image, labels):
    """An image and its labels, both checked; some pixel is labelled."""
    net = trainer.net
    image = checked_image(net, f"{name} image {i}", image, finite=True)
    size = output_size(net, image.shape[1:], trainer.dense.border, f"{name} image {i}")
    labels = checked_labels(f"{name} labels {i}", labels, net.output.channels, size)
    if (labels == UNLABELLED).all():
        raise ValueError(f"{name} labels {i} hold no labelled pixel; expected at least one")
    return image, labels


def _check_epochs(trainer, epochs, steps_an_epoch):
    """Refuse to train up to where a resumed run has been before."""
    if trainer.steps > epochs * steps_an_epoch:
        raise ValueError(
            f"epochs is {epochs}; expected at least {-(-trainer.steps // steps_an_epoch)}, as the "
            f"run has taken {trainer.steps} steps of {steps_an_epoch} an epoch, and those count"
        )


def _check_files(trainer, columns, log, checkpoint):
    """Refuse files that could not be written after an epoch."""
    if log is not None:
        log = check_writable("log", log)
        _check_log(trainer.history, columns, log)
    if checkpoint is not None:
        checkpoint = check_writable("checkpoint", checkpoint)
        of_run(trainer)
    if log is not None and checkpoint is not None and log.resolve() == checkpoint.resolve():
        raise ValueError(f"log and checkpoint are both {str(log)!r}; expected two files")


def _check_log(history, columns, log):
    """Refuse a run whose rows so far have other columns, and a file that is no log."""
    for row in history:
        if row.keys() != set(columns):
            raise ValueError(
                f"log: the run's epochs so far have the columns {', '.join(row)}; expected "
                f"{', '.join(columns)} (train with or without validation as before, or without a "
                "log)"
            )
    if log.exists():
        with log.open(errors="replace") as file:
            found = file.readline(1000).rstrip("\n")
        if found and not found.startswith(",".join(COLUMNS)):
            raise ValueError(
                f"log is {str(log)!r}, which begins with {found[:80]!r}; expected a new file, or "
                "the log of a run"
            )


def _as_csv(columns, history):
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
