"""What a run tells: its history as a CSV log, its best epoch, and warnings where it goes wrong."""

from __future__ import annotations

import csv
import io
import math
import warnings
from pathlib import Path

COLUMNS = ("epoch", "step", "loss")
VALIDATION_COLUMNS = ("validation_loss", "validation_accuracy")
"""The columns of a row of the history."""

FEW = 100
"""Fewer labelled pixels of a class than these are few."""
RISEN = 1.25
"""Last validation loss over the least one: above this, it has parted from the training loss."""


class TrainingWarning(UserWarning):
    """What is learned may be worth less than the loss says.

    >>> import pytest
    >>> with pytest.warns(TrainingWarning, match="labels are few: class 1 has 3"):
    ...     warn_of_few({"class 1": 3})
    """


def best_row(history: list[dict]) -> dict | None:
    """The epoch of the least loss of the validation, the first of equals; None before the first.

    >>> best_row([{"epoch": 1, "validation_loss": 2.0}, {"epoch": 2, "validation_loss": 1.0}])
    {'epoch': 2, 'validation_loss': 1.0}
    """
    validated = [row for row in history if "validation_loss" in row]
    return min(validated, key=_validation_loss, default=None)


def _validation_loss(row):
    loss = row["validation_loss"]
    return math.inf if math.isnan(loss) else loss


def is_stopped(history: list[dict], patience: int) -> bool:
    """Whether the last ``patience`` epochs were no better than one before them.

    >>> is_stopped([{"epoch": n, "validation_loss": n} for n in (1, 2, 3)], patience=2)
    True
    """
    best = best_row(history)
    return best is not None and history[-1]["epoch"] - best["epoch"] >= patience


def warn_of_parting(history: list[dict]) -> None:
    """Warn where, with this epoch, the validation has begun to get worse while the loss falls."""
    if _parts(history) and not _parts(history[:-1]):
        best, last = best_row(history), history[-1]
        warnings.warn(
            f"loss and validation part: since epoch {best['epoch']} the loss fell from "
            f"{best['loss']:.3g} to {last['loss']:.3g}, and that of the validation rose from "
            f"{best['validation_loss']:.3g} to {last['validation_loss']:.3g}: the net learns its "
            "examples by heart. More labels, augmentation, dropout, decay or a smaller net help; "
            "patience keeps the best epoch",
            TrainingWarning,
            stacklevel=3,
        )


def _parts(history):
    if not history or "validation_loss" not in history[-1]:
        return False
    best, last = best_row(history), history[-1]
    return last["validation_loss"] > RISEN * best["validation_loss"] and last["loss"] < best["loss"]


def warn_of_few(counts: dict[str, int]) -> None:
    """Warn of classes of which fewer than ``FEW`` pixels are labelled; their numbers by name."""
    few = {name: n for name, n in counts.items() if n < FEW}
    if few:
        told = ", ".join(f"{name} has {n}" for name, n in few.items())
        warnings.warn(
            f"labels are few: {told} labelled pixels; with fewer than {FEW} of a class, what is "
            "learned depends on which ones they are",
            TrainingWarning,
            stacklevel=4,
        )


def check_log(history: list[dict], columns: tuple[str, ...], log: Path) -> None:
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
            head = file.readline(1000).rstrip("\n")
        if head and not head.startswith(",".join(COLUMNS)):
            raise ValueError(
                f"log is {str(log)!r}, which begins with {head[:80]!r}; expected a new file, or "
                "the log of a run"
            )


def as_csv(columns: tuple[str, ...], history: list[dict]) -> bytes:
    """The log of a history."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
