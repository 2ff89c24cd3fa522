"""The training loop: epochs over images, validation, a log and checkpoints."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kernels import checks
from kernels.cross_entropy import UNLABELLED
from net.checkpoint import of_run, save
from net.files import write_atomically
from net.images import checked
from net.sampling import balanced_mask
from net.training import Trainer, checked_labels

Examples = tuple[list[np.ndarray], list[np.ndarray]]
"""Images C x H x W of the net's dtype, and for each a map of int labels of the output's shape."""


def fit(
    trainer: Trainer,
    examples: Examples,
    *,
    epochs: int,
    pixels: int | list[np.ndarray],
    validation: Examples | None = None,
    log: Path | None = None,
    checkpoint: Path | None = None,
    save_every: int | None = None,
    progress: bool = True,
) -> None:
    """Train until ``epochs`` epochs are done, counting those of a resumed run.

    An epoch takes one step on each image, in a random order.

    Args:
        trainer: a new one, or a resumed one (``net.checkpoint.load``).
        examples: what to learn from.
        pixels: how many random pixels of an image a step learns from, balanced over its classes; or
            a mask for each image (bool, the shape of its labels).
        validation: what to measure loss and accuracy on after each epoch.
        log: CSV file of ``trainer.history``, written whole after each epoch.
        checkpoint: file to save the run to: after each epoch, and after ``save_every`` steps.
        progress: show a bar with the loss and the labelled pixels a second.

    Raises:
        TypeError, ValueError: before any step: nothing to learn from, NaN in an image, labels
            outside of the classes, a class without a pixel.

    >>> from net import zoo
    >>> from net.optimizers import Adam
    >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), Adam(1e-3))
    >>> image = np.random.default_rng(0).random((1, 9, 8), np.float32)
    >>> examples = [image], [(image[0] > 0.5).astype(int)]
    >>> fit(trainer, examples, epochs=2, pixels=20, progress=False)
    >>> trainer.steps, len(trainer.history)
    (2, 2)
    """
    checks.count("epochs", epochs)
    if save_every is not None:
        checks.count("save_every", save_every)
    _check_data(trainer, examples, pixels, validation)
    if checkpoint is not None:
        of_run(trainer)  # what no file can hold is refused now, not after an epoch
    steps_an_epoch = len(examples[0])
    end = epochs * steps_an_epoch
    with tqdm(total=end, initial=trainer.steps, unit="step", disable=not progress) as bar:
        while trainer.steps < end:
            bar.set_postfix_str(_step(trainer, examples, pixels))
            bar.update()
            epoch_ends = trainer.steps % steps_an_epoch == 0
            if epoch_ends:
                _end_epoch(trainer, trainer.steps // steps_an_epoch, validation)
                if log is not None:
                    write_atomically(log, _as_csv(trainer.history))
            due = epoch_ends or (save_every and trainer.steps % save_every == 0)
            if checkpoint is not None and due:
                save(checkpoint, trainer)


def measure(trainer: Trainer, examples: Examples) -> dict[str, float]:
    """Loss and accuracy over all labelled pixels, as a row of the history holds them.

    >>> from net import zoo
    >>> from net.optimizers import Adam
    >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), Adam(1e-3))
    >>> examples = [np.zeros((1, 4, 4), np.float32)], [np.zeros((4, 4), int)]
    >>> measure(trainer, examples)["validation_accuracy"]
    1.0
    """
    loss, right, known = 0.0, 0, 0
    for image, labels in zip(*examples):
        scores = trainer.dense.forward(image)
        mask = labels != UNLABELLED
        loss += trainer.loss(scores, labels, mask) * mask.sum()
        right += int((scores.argmax(axis=0) == labels)[mask].sum())
        known += int(mask.sum())
    return {"validation_loss": loss / known, "validation_accuracy": right / known}


def _step(trainer, examples, pixels) -> str:
    """One step; returns its loss and its speed in words."""
    images, labels = examples
    started = time.perf_counter()
    epoch, place = divmod(trainer.steps, len(images))
    i = np.random.default_rng((trainer.seed, 0, epoch)).permutation(len(images))[place]
    if isinstance(pixels, list):
        mask = pixels[i]
    else:
        rng = np.random.default_rng((trainer.seed, 1, trainer.steps))
        mask = balanced_mask(labels[i], pixels, rng)
    loss = trainer.step(images[i], labels[i], mask)
    trainer.losses.append(loss)
    rate = int(mask.sum()) / (time.perf_counter() - started)
    return f"loss {loss:.3f}, {rate:.0f} labelled pixels/s"


def _end_epoch(trainer, epoch, validation):
    """Add a row to the history; the losses that it sums up are forgotten."""
    row = {"epoch": epoch, "step": trainer.steps, "loss": float(np.mean(trainer.losses))}
    if validation is not None:
        row |= measure(trainer, validation)
    trainer.history.append(row)
    trainer.losses.clear()


def _check_data(trainer, examples, pixels, validation):
    """Refuse what cannot be learned from."""
    if not isinstance(pixels, list):
        checks.count("pixels", pixels)
    occurring = _occurring_classes(trainer, "examples", examples)
    if isinstance(pixels, list):
        _check_masks(pixels, examples[1])
    if validation is not None:
        _occurring_classes(trainer, "validation", validation)
    missing = sorted(set(range(trainer.net.output.channels)) - occurring)
    if missing:
        raise ValueError(
            f"examples hold no pixel of class {', '.join(map(str, missing))}; expected every class "
            "of the net"
        )


def _occurring_classes(trainer, name, examples) -> set[int]:
    """The classes that occur in the checked ``examples``."""
    images, label_maps = examples
    if len(images) == 0 or len(images) != len(label_maps):
        raise ValueError(
            f"{name} holds {len(images)} images and {len(label_maps)} label maps; expected at "
            "least one image, and a map for each"
        )
    net, occurring = trainer.net, set()
    for i, (image, labels) in enumerate(zip(images, label_maps)):
        image = checked(f"{name} image {i}", image, net.dtype, (net.channels, None, None))
        if not np.isfinite(image).all():
            raise ValueError(f"{name} image {i} holds NaN or infinities; expected finite values")
        size = trainer.dense.output_size(image.shape[1:])
        labels = checked_labels(f"{name} labels {i}", labels, net.output.channels, size)
        if (labels == UNLABELLED).all():
            raise ValueError(f"{name} labels {i} hold no labelled pixel; expected at least one")
        occurring |= set(np.unique(labels).tolist())
    return occurring


def _check_masks(masks, label_maps):
    if len(masks) != len(label_maps):
        raise ValueError(
            f"pixels holds {len(masks)} masks; expected {len(label_maps)}, one an image"
        )
    for i, (mask, labels) in enumerate(zip(masks, label_maps)):
        mask = checked(f"pixels mask {i}", mask, "bool", labels.shape)
        if not (mask & (labels != UNLABELLED)).any():
            raise ValueError(f"pixels mask {i} chooses no labelled pixel; expected at least one")


def _as_csv(history):
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
