"""The training loop: epochs over images, validation, early stopping, and the files of a run."""

from __future__ import annotations

import time
from contextlib import nullcontext
from itertools import combinations
from numbers import Integral
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kernels import checks
from kernels.cross_entropy import UNLABELLED
from net.files import check_writable, checked_path, write_atomically
from net.images import checked
from net.learning import records
from net.learning.augmentation import Augmentation
from net.learning.checkpoint import of_run, save
from net.learning.curves import Picture
from net.learning.examples import ExamplePreparer, Examples, ListedLabels, check_pair
from net.learning.records import COLUMNS, VALIDATION_COLUMNS
from net.learning.training import Trainer
from net.learning.training_steps import Order, Sampler, are_masks

FILES = ("log", "picture", "best", "checkpoint")
"""What ``fit`` can write."""


def fit(
    trainer: Trainer,
    examples: Examples,
    *,
    epochs: int,
    pixels: int | list[np.ndarray],
    repeats: int = 1,
    images_a_step: int = 1,
    augmentation: Augmentation | None = None,
    validation: Examples | None = None,
    patience: int | None = None,
    best: str | Path | None = None,
    log: str | Path | None = None,
    picture: str | Path | None = None,
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
    client=None,
    progress: bool = True,
) -> None:
    """Train until ``epochs`` epochs are done, counting those of a resumed run.

    An epoch takes each image ``repeats`` times, in a random order. An image whose labelled pixels
    are all of classes of weight 0 is left out; one without any is refused.

    Args:
        trainer: a new one, or a resumed one (``net.learning.checkpoint.load``).
        examples: what to learn from. Labels have the size of their image; with the border
            ``valid`` those of pixels without a whole patch count for nothing. Where few pixels of a
            large image are labelled, ``ListedLabels`` take the place of the map; such an image is
            read, and checked for NaN and for memory, at each step.
        epochs: number of epochs of the whole run. Where all are done, nothing happens; fewer are
            refused.
        pixels: number of random pixels of an image that a step learns from, balanced over its
            classes; or a mask for each image (bool, the shape of its labels).
        repeats: number of times that an epoch takes each image: more where images are few.
        images_a_step: number of images of a step; the last one of an epoch may have fewer. Its loss
            is the mean over the chosen pixels of all of them by weight.
        augmentation: how image and labels are changed before each step; not with
            ``ListedLabels``.
        validation: what to ``measure`` after each epoch; it is never augmented.
        patience: epochs without a lower loss of the validation after which to stop.
        best: file of the net of the epoch with the lowest loss of the validation so far.
        log: CSV file of ``trainer.history``, written whole after each epoch.
        picture: PNG file of the curves and of an image (of the validation, if there is one),
            renewed at the end and, every few seconds, after an epoch.
        checkpoint: file to save the run to: after each epoch, and after ``save_every`` steps.
        client: a ``distributed.Client``, or the address of its scheduler, whose workers share the
            images of a step; on one kind of processor the result has the same bits
            (docs/large-images.md). None is this process alone.
        progress: show a bar with the loss and the labelled pixels a second.

    Everything is checked before the first step. A run that is resumed with the same arguments goes
    on as if it had not been interrupted, early stopping and augmentation included.

    Warns:
        TrainingWarning: few pixels of a class are labelled, or loss and validation part.

    Raises:
        TypeError, ValueError: nothing to learn from, NaN in an image, labels outside of the
            classes, a class without a pixel, fewer epochs than are done, epochs of other lengths
            than those, a log with other columns, a net or an optimiser that no checkpoint can hold,
            ``patience`` or ``best`` without a validation.
        MemoryError: a step or a validation would take more memory than is free.
        OSError: a file that cannot be written, or workers that do not see the files of images.

    >>> from net import zoo
    >>> from net.learning.optimizers import Adam
    >>> trainer = Trainer(zoo.build("lenet28", classes=2, backend="cpu"), Adam(1e-3))
    >>> image = np.random.default_rng(0).random((1, 19, 18), np.float32)
    >>> examples = [image], [(image[0] > 0.5).astype(int)]
    >>> fit(trainer, examples, epochs=2, pixels=20, progress=False)
    >>> trainer.steps, len(trainer.history)
    (2, 2)
    """
    checks.instance("trainer", trainer, Trainer)
    epochs, progress = checks.count("epochs", epochs), checks.flag("progress", progress)
    if save_every is not None:
        save_every = checks.count("save_every", save_every)
    if augmentation is not None:
        checks.instance("augmentation", augmentation, Augmentation)
    _check_stopping(patience, best, validation)
    repeats = checks.count("repeats", repeats)
    images_a_step = checks.count("images_a_step", images_a_step)
    preparer = ExamplePreparer(trainer, augmentation)
    learnable = _learnable(preparer, examples, pixels, validation)
    order = Order(learnable * repeats, images_a_step, trainer.seed)
    steps_an_epoch = order.steps_an_epoch
    _check_epochs(trainer, epochs, steps_an_epoch)
    columns = COLUMNS + (VALIDATION_COLUMNS if validation is not None else ())
    files = dict(zip(FILES, (log, picture, best, checkpoint)))
    _check_files(trainer, columns, {name: f for name, f in files.items() if f is not None})
    if picture is not None and isinstance((validation or examples)[1][0], ListedLabels):
        raise ValueError(f"picture is {picture!r}; expected None, as there is no map to draw")
    drawn = picture and Picture(picture, trainer, validation or examples)
    end = epochs * steps_an_epoch
    bar = tqdm(total=end, initial=trainer.steps, unit="step", disable=not progress)
    with _learner(Sampler(preparer, examples, pixels), client) as learner, bar:
        while trainer.steps < end and not _is_stopped(trainer, patience):
            bar.set_postfix_str(_step(trainer, order, learner))
            bar.update()
            epoch_ends = trainer.steps % steps_an_epoch == 0
            if epoch_ends:
                _end_epoch(trainer, trainer.steps // steps_an_epoch, validation)
                if log is not None:
                    write_atomically(log, records.as_csv(columns, trainer.history))
                if best is not None and records.best_row(trainer.history) is trainer.history[-1]:
                    trainer.net.save(best)
                if drawn:
                    drawn.renew()
            due = epoch_ends or (save_every and trainer.steps % save_every == 0)
            if checkpoint is not None and due:
                save(checkpoint, trainer)
        if drawn:
            drawn.renew(last=True)


def measure(trainer: Trainer, examples: Examples) -> dict[str, float]:
    """Loss and accuracy over all labelled pixels of all images, as a row of the history holds them.

    Pixels of a class of weight 0 count for neither. The others count by the weight of their class
    for the loss, wherever they lie, and equally for the accuracy. Only what the labelled pixels
    need is computed.

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
    check_pair("examples", examples)
    preparer = ExamplePreparer(trainer)
    for i, (image, given) in enumerate(zip(*examples)):
        image, labels = preparer.checked("examples", i, image, given)
        labels = preparer.cropped(labels)
        counting = trainer.counting(labels)
        if not counting.any():
            continue
        if labels.ndim == 1:
            labels, chosen = labels[counting], np.asarray(given.pixels)[counting]
            scores, counting = trainer.dense.forward(image, pixels=chosen), counting[counting]
        else:
            scores = trainer.dense.forward(image, counting)
        of_image = float(trainer.class_weights[labels[counting]].sum())
        loss += trainer.loss(scores, labels, counting) * of_image
        weight += of_image
        right += int((scores.argmax(axis=0) == labels)[counting].sum())
        pixels += int(counting.sum())
    if pixels == 0:
        raise ValueError("examples hold no labelled pixel of a class with a weight above 0")
    return dict(zip(VALIDATION_COLUMNS, (loss / weight, right / pixels)))


def _learner(sampler, client):
    """What works out the gradients of steps, for as long as it is needed."""
    if client is None:
        return nullcontext(sampler)
    # Imports what reads and writes files of images, which one process alone does without
    from net.learning.learners import learners

    return learners(client, sampler)


def _step(trainer, order, learner) -> str:
    """One step; returns its loss and its speed in words."""
    started = time.perf_counter()
    loss, gradients, pixels = learner.gradients(order.draws(trainer.steps))
    trainer.update(gradients)
    trainer.losses.append(loss)
    rate = pixels / (time.perf_counter() - started)
    return f"loss {loss:.3f}, {rate:.0f} labelled pixels/s"


def _is_stopped(trainer, patience):
    return patience is not None and records.is_stopped(trainer.history, patience)


def _end_epoch(trainer, epoch, validation):
    """Add a row to the history; the losses that it sums up are forgotten."""
    row = dict(zip(COLUMNS, (epoch, trainer.steps, float(np.mean(trainer.losses)))))
    if validation is not None:
        row |= measure(trainer, validation)
    trainer.history.append(row)
    trainer.losses.clear()
    records.warn_of_parting(trainer.history)


def _check_stopping(patience, best, validation):
    if patience is not None:
        checks.count("patience", patience)
    for name, value in (("patience", patience), ("best", best)):
        if value is not None and validation is None:
            raise ValueError(f"{name} is {value!r} without a validation; expected one to judge by")


def _learnable(preparer, examples, pixels, validation) -> list[int]:
    """The numbers of the images that have a pixel to learn from; refuses what cannot be learned
    from, and warns where it is little."""
    trainer, masks = preparer.trainer, pixels if are_masks(pixels) else None
    if masks is None and not isinstance(pixels, Integral):
        kind = checks.kind_of(pixels)
        raise TypeError(f"pixels is {kind}; expected an int, or a list of a mask for each image")
    if masks is None:
        checks.count("pixels", pixels)
    check_pair("examples", examples)
    if masks is not None and len(masks) != len(examples[1]):
        raise ValueError(
            f"pixels holds {len(masks)} masks; expected {len(examples[1])}, one an image"
        )
    classes = trainer.net.output.channels
    occurring, counts, learnable = set(), np.zeros(classes, int), []
    for i, (image, labels) in enumerate(zip(*examples)):
        given = getattr(labels, "shape", None)
        image, labels = preparer.checked("examples", i, image, labels)
        preparer.check_sizes("examples", i, image)
        occurring |= set(np.unique(labels).tolist())
        mask = None
        if masks is not None:
            mask = checked(f"pixels mask {i}", masks[i], "bool", given)
            if not preparer.masked(labels, mask).max() >= 0:
                raise ValueError(
                    f"pixels mask {i} chooses no labelled pixel; expected at least one"
                )
        chosen = preparer.to_learn_from(labels, mask)
        chosen = chosen[chosen != UNLABELLED]
        if len(chosen):
            learnable.append(i)
            counts += np.bincount(chosen, minlength=classes)
            number = len(chosen) if masks is not None else min(len(chosen), pixels)
            if labels.ndim == 2:
                trainer.check_memory(image, number)
    missing = sorted(set(range(classes)) - occurring)
    usage = trainer.net.usage
    names = [f"class {k}" for k in range(classes)] if usage is None else usage.names(classes)
    if missing:
        raise ValueError(
            f"examples to learn from hold no pixel of {', '.join(names[k] for k in missing)}; "
            "expected every class of the net"
        )
    if not learnable:
        raise ValueError("pixels choose no labelled pixel of a class with a weight above 0")
    if validation is not None:
        _check_validation(trainer, validation)
    weighted = np.flatnonzero(trainer.class_weights).tolist()
    records.warn_of_few({names[k]: int(counts[k]) for k in weighted})
    return learnable


def _check_validation(trainer, validation):
    check_pair("validation", validation)
    preparer, counting = ExamplePreparer(trainer), False
    for i, (image, labels) in enumerate(zip(*validation)):
        labels = preparer.cropped(preparer.checked("validation", i, image, labels)[1])
        if labels.ndim == 2:
            trainer.dense.check_memory(labels.shape)
        counting |= bool(trainer.counting(labels).any())
    if not counting:
        raise ValueError("validation holds no labelled pixel of a class with a weight above 0")


def _check_epochs(trainer, epochs, steps_an_epoch):
    """Refuse fewer epochs than a resumed run has done, and epochs of another length."""
    if trainer.steps > epochs * steps_an_epoch:
        raise ValueError(
            f"epochs is {epochs}; expected at least {-(-trainer.steps // steps_an_epoch)}, as the "
            f"run has taken {trainer.steps} steps of {steps_an_epoch} an epoch, and those count"
        )
    if trainer.history:
        epoch, step = (trainer.history[-1][name] for name in COLUMNS[:2])
        if step != epoch * steps_an_epoch:
            raise ValueError(
                f"trainer has taken {step} steps in {epoch} epochs; expected {steps_an_epoch} an "
                "epoch, as of these examples, repeats and images_a_step"
            )


def _check_files(trainer, columns, files):
    """Refuse files that could not be written after an epoch."""
    for name, path in files.items():
        check_writable(name, path)
    paths = {name: checked_path(name, path) for name, path in files.items()}
    if "log" in paths:
        records.check_log(trainer.history, columns, paths["log"])
    if paths.keys() & {"best", "checkpoint"}:
        of_run(trainer)
    for (one, path), (other, its) in combinations(paths.items(), 2):
        if path.resolve() == its.resolve():
            raise ValueError(f"{one} and {other} are both {str(path)!r}; expected two files")
