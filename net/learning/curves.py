"""A picture of a run: its curves, and what the net makes of one image, renewed as it learns."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kernels.cross_entropy import UNLABELLED
from net.files import write_atomically
from net.learning.examples import ExamplePreparer, Examples
from net.learning.training import Trainer

SIDE = 384
"""Rows and columns of an image that are shown at most."""
RENEWED = 5.0
"""Seconds that pass at least between two drawings."""


class Picture:
    """A PNG file of a trainer's curves and of the example with the most labelled pixels.

    Of a large image it shows the part around the middle of these pixels. The net sees no more of it
    than this part, with the trainer's border.

    Args:
        path: the file.
        examples: checked ones.
    """

    def __init__(self, path: str | Path, trainer: Trainer, examples: Examples):
        self.path, self.trainer = path, trainer
        self._drawn_at, self._steps = -RENEWED, -1
        preparer = ExamplePreparer(trainer)
        i = int(np.argmax([(labels != UNLABELLED).sum() for labels in examples[1]]))
        image, labels = preparer.checked("examples", i, examples[0][i], examples[1][i])
        side = max(SIDE, *trainer.net.patch)
        middle = np.median(np.argwhere(labels != UNLABELLED), axis=0)
        ends = [np.clip(m + side / 2, side, max(n, side)) for m, n in zip(middle, labels.shape)]
        place = tuple(slice(int(end) - side, int(end)) for end in ends)
        self.image = np.ascontiguousarray(image[:, *place])
        self.labels = preparer.cropped(labels[place])
        self._photograph = _grey_or_colour(preparer.cropped(self.image))

    def renew(self, *, last: bool = False) -> None:
        """Draw what was learned since, if ``RENEWED`` seconds have passed, or for the ``last``."""
        is_due = last or time.monotonic() - self._drawn_at >= RENEWED
        if is_due and self._steps < self.trainer.steps:
            file = io.BytesIO()
            FigureCanvasAgg(self._figure()).print_png(file)
            write_atomically(self.path, file.getvalue())
            self._drawn_at, self._steps = time.monotonic(), self.trainer.steps

    def _figure(self):
        figure = Figure(figsize=(15, 4), layout="constrained")
        curves, *maps = figure.subplots(1, 4, width_ratios=(1.4, 1, 1, 1))
        _draw_curves(curves, self.trainer.history)
        nothing = np.full_like(self.labels, UNLABELLED)
        predicted = self.trainer.dense.predict(self.image)[0]
        shown = {"image": nothing, "labels": self.labels, "prediction": predicted}
        for panel, (title, classes) in zip(maps, shown.items()):
            panel.imshow(self._photograph, cmap="gray")
            alpha = 1 if title == "labels" else 0.5
            labelled = np.ma.masked_equal(classes, UNLABELLED)
            panel.imshow(
                labelled % 10, "tab10", vmin=0, vmax=9, alpha=alpha, interpolation="nearest"
            )
            panel.set_title(title)
            panel.set_axis_off()
        return figure


def _draw_curves(panel, history):
    names = {"loss": "C0-", "validation_loss": "C1-", "validation_accuracy": "k--"}
    for name, style in names.items():
        if history and name in history[0]:
            panel.plot(
                [row["epoch"] for row in history],
                [row[name] for row in history],
                style,
                label=name.replace("_", " "),
                marker="." if len(history) < 20 else None,
            )
    panel.set_xlabel("epoch")
    panel.set_ylim(bottom=0)
    if history:
        panel.legend(fontsize=8)


def _grey_or_colour(image):
    """Rows x columns of grey, or x 3 of colour, from 0 to 1: the first channels of an image."""
    channels = image[:3] if len(image) >= 3 else image[:1]
    low, high = np.percentile(channels, (1, 99))
    scaled = np.clip((channels - low) / max(high - low, 1e-6), 0, 1)
    return np.moveaxis(scaled, 0, -1) if len(scaled) == 3 else scaled[0]
