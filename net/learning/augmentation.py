"""Augmentation: an image and its labels, turned and flipped at full size, brighter, noisier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import checks
from kernels.checks import Pair
from net.options import Options


@dataclass(frozen=True)
class Augmentation(Options):
    """Changes that leave the labels right, drawn anew for each step of training.

    Image and labels are turned at the image's full size, and what the border leaves of the labels
    is cropped afterwards (``net.learning.examples``): the patch of a pixel has one row and one
    column more below and to the right where it is even, so a map that was cropped first would be
    shifted by one.

    Attributes:
        turns: whether images are turned, by 0 to 3 quarters.
        flips: whether they are flipped left to right, every other time.
        brightness: largest shift of each channel, in the image's own units.
        contrast: the image is multiplied by up to 1 + ``contrast``, or divided by it.
        noise: standard deviation of the noise that is added to each value.

    >>> image, labels = np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.arange(6).reshape(2, 3)
    >>> image, labels = Augmentation()(image, labels, np.random.default_rng(3))
    >>> labels.tolist(), bool((image == labels).all())
    ([[3, 0], [4, 1], [5, 2]], True)
    """

    turns: bool = True
    flips: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image C x H x W and its labels H x W, changed as ``rng`` decides; the dtypes stay.

        Raises:
            TypeError, ValueError: labels of another size than the image's.
        """
        checks.array("image", image, (None, None, None), checks.FLOAT_DTYPES, any_layout=True)
        checks.array("labels", labels, image.shape[1:], checks.INTS, any_layout=True)
        checks.instance("rng", rng, np.random.Generator)
        quarters, flipped = rng.integers(4) * self.turns, rng.integers(2) * self.flips
        image, labels = (np.rot90(one, quarters, (-2, -1)) for one in (image, labels))
        if flipped:
            image, labels = image[..., ::-1], labels[..., ::-1]
        scale = (1 + self.contrast) ** rng.uniform(-1, 1)
        shift = self.brightness * rng.uniform(-1, 1, (len(image), 1, 1))
        changed = np.ascontiguousarray(image)
        if self.contrast or self.brightness:
            changed = changed * image.dtype.type(scale) + shift.astype(image.dtype)
        if self.noise:
            noise = rng.standard_normal(image.shape, image.dtype)
            changed = changed + image.dtype.type(self.noise) * noise
        return changed, np.ascontiguousarray(labels)

    def sizes(self, size: Pair) -> list[Pair]:
        """The sizes that images of ``size`` may have afterwards.

        >>> Augmentation().sizes((20, 30)), Augmentation(turns=False).sizes((20, 30))
        ([(20, 30), (30, 20)], [(20, 30)])
        """
        size = checks.pair("size", size)
        return [size, size[::-1]] if self.turns else [size]
