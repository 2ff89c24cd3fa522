"""Examples to learn from: images and their labels, checked, augmented, and cropped to the output.

Labels have their image's size, or, with the border ``valid``, may have that of the output. Either
way they are handled at the image's size, unlabelled where no patch fits, so that image and labels
can be turned together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import checks
from kernels.checks import Pair
from kernels.cross_entropy import UNLABELLED
from net import images, windows
from net.chosen import checked_pixels
from net.learning.augmentation import Augmentation
from net.learning.targets import checked_labels
from net.learning.training import Trainer

__all__ = ["Examples", "ListedLabels"]


@dataclass(frozen=True, eq=False)
class ListedLabels:
    """Labels of some pixels of an image, in place of a label map.

    Of the image only what the pixels see is read. It may hold any real numbers and be anything with
    shape, dtype and slicing, such as a memory map (see ``Trainer.step``).

    Args:
        pixels: P x 2, ints: rows and columns in the map of the output.
        labels: P, ints, ``UNLABELLED`` (-1) where unknown.

    >>> ListedLabels(np.array([[5, 7], [90_000, 3]]), np.array([0, 1])).shape
    (2,)
    """

    pixels: np.ndarray
    labels: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the labels.

        >>> ListedLabels(np.array([[5, 7]]), np.array([1])).shape
        (1,)
        """
        return np.shape(self.labels)


Examples = tuple[list[np.ndarray], list[np.ndarray | ListedLabels]]
"""Images C x H x W of the net's dtype, and for each a map of int labels, ``UNLABELLED`` (-1) where
unknown: H x W, or, with the border ``valid``, of the shape of the output; or ``ListedLabels``."""


@dataclass(frozen=True)
class ExamplePreparer:
    """Checks examples for a trainer and prepares them for its steps.

    Attributes:
        trainer: the trainer, whose net, border and class weights count.
        augmentation: augmentation of an example before each step; None changes nothing.
    """

    trainer: Trainer
    augmentation: Augmentation | None = None

    def checked(self, name: str, i: int, image, labels) -> tuple[np.ndarray, np.ndarray]:
        """An image, finite, and its labels at the image's size; some pixel is labelled. With
        ``ListedLabels`` the image is not read, and the labels are P.

        Args:
            name: the examples' name in messages; ``i`` is the number of this one.
        """
        net = self.trainer.net
        if isinstance(labels, ListedLabels):
            if self.augmentation is not None:
                raise ValueError("augmentation turns whole images; expected None for ListedLabels")
            image = windows.readable_image(net, image, f"{name} image {i}")
            size = images.output_size(net, image.shape[1:], self.border, f"{name} image {i}")
            pixels = checked_pixels(labels.pixels, size, f"{name} pixels {i}")
            classes = net.output.channels
            labels = checked_labels(f"{name} labels {i}", labels.labels, classes, (len(pixels),))
        else:
            image = images.checked_image(net, f"{name} image {i}", image, finite=True)
            images.output_size(net, image.shape[1:], self.border, f"{name} image {i}")
            labels = self._at_full_size(f"{name} labels {i}", image, labels)
        if (labels == UNLABELLED).all():
            raise ValueError(f"{name} labels {i} hold no labelled pixel; expected at least one")
        return image, labels

    def check_sizes(self, name: str, i: int, image: np.ndarray) -> None:
        """Refuse an image that is too small once it is turned."""
        for size in self._sizes(image):
            images.output_size(self.trainer.net, size, self.border, f"{name} image {i}, turned,")

    def masked(self, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Labels at the image's size, unlabelled where the mask, which may have the output's shape,
        is not set."""
        return np.where(self._embedded(mask, labels.shape, False), labels, UNLABELLED)

    def to_learn_from(self, labels: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Labels at the image's size of the pixels that a step may learn from: those in the mask,
        of a class with a weight above 0, whose patch lies in the image however it is turned."""
        labels = labels if mask is None else self.masked(labels, mask)
        chosen = self.trainer.counting(labels)
        if self.augmentation is not None and self.border == "valid":
            rows, columns = (p // 2 for p in self.trainer.net.patch)
            if self.augmentation.turns:
                rows = columns = max(rows, columns)
            inside = np.zeros_like(chosen)
            inside[rows : len(chosen) - rows, columns : chosen.shape[1] - columns] = True
            chosen &= inside
        return np.where(chosen, labels, UNLABELLED)

    def of_step(self, image, labels, mask, step: int, number: int):
        """The image of a step, and labels of the output's shape (of ``ListedLabels`` P), where it
        may learn from them.

        Args:
            image, labels, mask: as they were given to ``fit``, and checked there.
            step, number: numbers of the step and of the example, which decide with the run's seed.
        """
        if isinstance(labels, ListedLabels):
            image, labels = self.checked("examples", number, image, labels)
            return image, self.to_learn_from(labels, mask)
        image = images.checked_image(self.trainer.net, "image", image)
        labels = self._at_full_size("labels", image, labels)
        labels = self.to_learn_from(labels, mask)
        if self.augmentation is not None:
            rng = np.random.default_rng((self.trainer.seed, 2, step, number))
            image, labels = self.augmentation(image, labels, rng)
        return image, self.cropped(labels)

    def cropped(self, maps: np.ndarray) -> np.ndarray:
        """Maps ... x H x W at the image's size, cropped to the output; lists as they are."""
        if self.border != "valid" or maps.ndim == 1:
            return maps
        top, left, bottom, right = images.patch_margins(self.trainer.net.patch)
        return maps[..., top : maps.shape[-2] - bottom, left : maps.shape[-1] - right]

    @property
    def border(self) -> str:
        """That of the trainer's forms."""
        return self.trainer.dense.border

    def _sizes(self, image) -> list[Pair]:
        size = image.shape[1:]
        return [size] if self.augmentation is None else self.augmentation.sizes(size)

    def _at_full_size(self, name, image, labels):
        net, size = self.trainer.net, image.shape[1:]
        if getattr(labels, "shape", None) == images.output_size(net, size, self.border):
            labels = checked_labels(name, labels, net.output.channels, labels.shape)
            return self._embedded(labels, size, UNLABELLED)
        return checked_labels(name, labels, net.output.channels, size)

    def _embedded(self, array, size, rest):
        """A map of the output's shape at the image's size, ``rest`` around it; another is as it
        is."""
        if array.shape == size:
            return array
        top, left, bottom, right = images.patch_margins(self.trainer.net.patch)
        return np.pad(array, ((top, bottom), (left, right)), constant_values=rest)


def check_pair(name: str, examples) -> None:
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
    given, label_maps = examples
    if len(given) == 0 or len(given) != len(label_maps):
        raise ValueError(
            f"{name} holds {len(given)} images and {len(label_maps)} label maps; expected at "
            "least one image, and a map for each"
        )


def _is_image_and_labels(example) -> bool:
    return isinstance(example, list | tuple) and [getattr(part, "ndim", 0) for part in example] == [
        3,
        2,
    ]
