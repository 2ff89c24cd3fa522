"""Which images a training step takes, what it learns from each, and its loss and gradients over
all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.cross_entropy import UNLABELLED
from net.learning.examples import ExamplePreparer, Examples
from net.learning.sampling import balanced_mask
from net.learning.targets import Share
from net.program import added


class Draw(NamedTuple):
    """An image that a step takes.

    Attributes:
        number: its number among all images that the run's steps take; with the run's seed it
            decides what is random.
        image: number of the example.
    """

    number: int
    image: int


@dataclass(frozen=True)
class Order:
    """The images of each step: an epoch takes all of them, in a random order.

    Attributes:
        images: numbers of the examples, each as often as an epoch takes it.
        images_a_step: number of images of a step; the last step of an epoch may take fewer.
        seed: seed of the run.

    >>> order = Order([0, 1, 2], images_a_step=2, seed=0)
    >>> [[draw.number for draw in order.draws(step)] for step in range(4)]
    [[0, 1], [2], [3, 4], [5]]
    """

    images: list[int]
    images_a_step: int
    seed: int

    @property
    def steps_an_epoch(self) -> int:
        """Steps that take each image once."""
        return -(-len(self.images) // self.images_a_step)

    def draws(self, step: int) -> list[Draw]:
        """The images of a step of the run."""
        epoch, place = divmod(step, self.steps_an_epoch)
        count, first = len(self.images), place * self.images_a_step
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(count)
        taken = order[first : first + self.images_a_step]
        numbers = range(epoch * count + first, (epoch + 1) * count)
        return [Draw(number, self.images[i]) for number, i in zip(numbers, taken)]


class Sample(NamedTuple):
    """What a step learns from one image: arguments of ``Trainer.gradients``."""

    image: object
    labels: np.ndarray
    mask: np.ndarray | None
    pixels: np.ndarray | None

    @property
    def chosen(self) -> np.ndarray:
        """Labels of the chosen pixels."""
        return self.labels if self.mask is None else self.labels[self.mask]


class Result(NamedTuple):
    """Loss and gradients (on the backend) of a step, and how many pixels it learned from."""

    loss: float
    gradients: dict
    pixels: int


@dataclass(frozen=True, eq=False)
class Sampler:
    """Chooses the pixels that steps learn from, and computes loss and gradients.

    Attributes:
        preparer: prepares examples.
        examples, pixels: as ``fit`` takes them, checked.
    """

    preparer: ExamplePreparer
    examples: Examples
    pixels: int | list[np.ndarray]

    def sample(self, draw: Draw) -> Sample:
        """What a step learns from an image."""
        image, given = (part[draw.image] for part in self.examples)
        mask = self.pixels[draw.image] if are_masks(self.pixels) else None
        image, labels = self.preparer.of_step(image, given, mask, *draw)
        if mask is None:
            rng = np.random.default_rng((self.preparer.trainer.seed, 1, draw.number))
            mask = balanced_mask(labels, self.pixels, rng)
        else:
            mask = labels != UNLABELLED
        if labels.ndim == 1:
            return Sample(image, labels[mask], None, np.asarray(given.pixels)[mask])
        return Sample(image, labels, mask, None)

    def weight(self, sample: Sample) -> float:
        """Sum of the class weights of the chosen pixels."""
        return float(self.preparer.trainer.class_weights[sample.chosen].sum())

    def learned(self, draw: Draw, sample: Sample, total_weight: float | None) -> tuple[float, dict]:
        """Loss and gradients of one image, divided by the step's total weight (None: its own)."""
        image, labels, mask, pixels = sample
        share = Share(draw.number, total_weight)
        return self.preparer.trainer.gradients(image, labels, mask, pixels=pixels, share=share)

    def gradients(self, draws: list[Draw]) -> Result:
        """Loss and gradients of a step on some images."""
        samples = [self.sample(draw) for draw in draws]
        total_weight = added_weights(map(self.weight, samples))
        parts = (self.learned(*one, total_weight) for one in zip(draws, samples))
        return self.summed(parts, sum(sample.chosen.size for sample in samples))

    def summed(self, parts: Iterable[tuple[float, dict]], pixels: int) -> Result:
        """The shares of the images of a step, added up in their order."""
        ops, loss, total = self.preparer.trainer.net.backend, 0.0, {}
        for of_image, gradients in parts:
            loss += of_image
            total = added(ops, total, gradients)
        return Result(loss, total, pixels)


def added_weights(weights: Iterable[float]) -> float | None:
    """The total weight of a step, from those of its images; None for a single image, whose backend
    adds it up."""
    weights = list(weights)
    return sum(weights) if len(weights) > 1 else None


def are_masks(pixels) -> bool:
    """Whether ``pixels``, as ``fit`` takes them, are masks."""
    return isinstance(pixels, list | tuple) or getattr(pixels, "ndim", 0) == 3
