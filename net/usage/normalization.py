"""How images are normalised: mean and deviation of each channel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kernels import checks
from net.file_format import quoted
from net.options import Options

_BLOCK = 2**20
"""Numbers that are summed up at a time."""


@dataclass(frozen=True)
class Normalization(Options):
    """(value - mean) / deviation, for each channel, in the unit of the images as they are read.

    >>> Normalization((127.5,), (64,))
    Normalization(mean=(127.5,), deviation=(64.0,))
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self):
        super().__post_init__()
        for name in ("mean", "deviation"):
            where, given = f"normalization: {name}", getattr(self, name)
            if not isinstance(given, tuple) or not given:
                raise ValueError(f"{where} is {quoted(given)}; expected a number for each channel")
            object.__setattr__(self, name, tuple(_number(where, number) for number in given))
        for number in self.deviation:
            checks.number("normalization: deviation", number, positive=True)
        if len(self.mean) != len(self.deviation):
            raise ValueError(
                f"normalization: deviation is of {len(self.deviation)} channels; expected "
                f"{len(self.mean)}, as mean"
            )

    @classmethod
    def of(cls, images: Iterable[np.ndarray]) -> Normalization:
        """Mean and standard deviation over all pixels of images C x H x W of real numbers.

        Images are taken one by one, so a generator may read them from files. Sums are float64; a
        channel that is constant has the deviation 1.

        Raises:
            TypeError, ValueError: no image, one of other channels than the first, NaN or
                infinities.

        >>> Normalization.of([np.array([[[0, 2]]], np.uint8), np.array([[[2, 4]]], np.uint8)])
        Normalization(mean=(2.0,), deviation=(1.4142135623730951,))
        """
        if not isinstance(images, Iterable) or isinstance(images, str | bytes | dict):
            raise TypeError(f"images is {checks.kind_of(images)}; expected a list of arrays")
        count, mean, squares = 0, None, None
        for i, image in enumerate(images):
            _check_image(f"images[{i}]", image, None if mean is None else len(mean))
            if mean is None:
                mean = squares = np.zeros(len(image))
            rows = max(1, _BLOCK // max(1, len(image) * image.shape[2]))
            for top in range(0, image.shape[1], rows):
                block = image[:, top : top + rows].reshape(len(image), -1).astype(np.float64)
                here, n = block.mean(axis=1), block.shape[1]
                if not np.isfinite(here).all():
                    raise ValueError(f"images[{i}] holds NaN or infinities, or beyond float64")
                apart, total = here - mean, count + n
                squares = squares + block.var(axis=1) * n + apart**2 * (count * n / total)
                mean, count = mean + apart * (n / total), total
        if mean is None:
            raise ValueError("images is empty; expected at least one image")
        deviation = np.sqrt(squares / count)
        deviation[deviation < checks.SMALLEST_FLOAT] = 1
        return cls(tuple(mean.tolist()), tuple(deviation.tolist()))

    def normalized(self, image: np.ndarray, dtype: str) -> np.ndarray:
        """An image C x H x W, normalised in float64 and rounded to ``dtype`` once.

        Raises:
            TypeError, ValueError: no such image.

        >>> Normalization((2,), (4,)).normalized(np.array([[[0, 2, 4]]], np.uint8), "float32")
        array([[[-0.5,  0. ,  0.5]]], dtype=float32)
        """
        _check_image("image", image, len(self.mean))
        result = np.empty(image.shape, checks.float_dtype("dtype", dtype))
        for channel, one, mean, deviation in zip(result, image, self.mean, self.deviation):
            channel[...] = (one.astype(np.float64) - mean) / deviation
        return result


def _check_image(name, image, channels):
    checks.unmasked(name, image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} is {checks.kind_of(image)}; expected a NumPy array")
    if image.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {image.dtype}; expected real numbers")
    if image.ndim != 3 or 0 in image.shape or channels not in (None, len(image)):
        wanted = f"{channels or 'channels'} x rows x columns"
        raise ValueError(f"{name} has shape {image.shape}; expected {wanted}")


def _number(name, value):
    """``value`` as a float that is finite and equal to it."""
    if type(value) not in (int, float) or not abs(value) <= checks.LARGEST_FLOAT:
        raise ValueError(f"{name} is {quoted(value)}; expected a finite number")
    if float(value) != value:
        raise ValueError(f"{name} is {quoted(value)}, which float64 does not hold")
    return float(value)
