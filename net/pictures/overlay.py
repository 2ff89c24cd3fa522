"""Classes in color over the image that they are of."""

from __future__ import annotations

import colorsys

import numpy as np

from kernels import checks
from kernels.cross_entropy import UNLABELLED
from net.usage import Color, Usage

_FIRST = (
    *((255, 127, 14), (31, 119, 180), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (188, 189, 34), (23, 190, 207), (127, 127, 127)),
)
_GOLDEN = (5**0.5 - 1) / 2
_DARK, _BRIGHT = 1, 99
"""Percentiles of the pixels that become black and white."""


def palette(usage: Usage, classes: int) -> tuple[Color, ...]:
    """A color for each class: those of the usage, or of its label images, or distinct ones.

    >>> palette(Usage(), 2)
    ((255, 127, 14), (31, 119, 180))
    """
    checks.instance("usage", usage, Usage)
    values = usage.label_rule.of(classes)
    if usage.colors is not None:
        return usage.colors
    if usage.label_rule.of_colors:
        return values
    more = (
        tuple(int(255 * part) for part in colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.8, 0.9))
        for number in range(len(_FIRST), classes)
    )
    return (*_FIRST[:classes], *more)


def overlaid(image: np.ndarray, class_map: np.ndarray, colors: tuple[Color, ...]) -> np.ndarray:
    """The image, half in the colors of its classes: H x W x 3 uint8.

    Args:
        image: C x H x W of real numbers: three channels as red, green and blue, of others the
            first, grey. What is not uint8 is stretched between its percentiles 1 and 99.
        class_map: H x W ints; where it is -1, the image is left as it is.
        colors: one a class.

    Raises:
        TypeError, ValueError: they do not belong together.

    >>> overlaid(np.array([[[100, 20]]], np.uint8), np.array([[-1, 0]]), ((0, 200, 100),))
    array([[[100, 100, 100],
            [ 10, 110,  60]]], dtype=uint8)
    """
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "biuf" or image.ndim != 3:
        raise TypeError("image is no array of real numbers; expected channels x rows x columns")
    checks.array("class_map", class_map, image.shape[1:], checks.INTS, any_layout=True)
    checks.sequence("colors", colors)
    if class_map.min() < UNLABELLED or class_map.max() >= len(colors):
        raise ValueError(f"colors are {len(colors)}; class_map reaches to {class_map.max()}")
    shown = image if len(image) == 3 else image[:1]
    result = np.empty((*class_map.shape, 3), np.uint8)
    result[...] = np.stack([_as_bytes(channel) for channel in shown], axis=-1)
    labelled = class_map != UNLABELLED
    of_classes = np.array(colors, np.uint8)[class_map[labelled]]
    result[labelled] = (result[labelled].astype(np.uint16) + of_classes) // 2
    return result


def _as_bytes(channel):
    if channel.dtype == np.uint8:
        return channel
    values = channel.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (_DARK, _BRIGHT)) if finite.size else (0, 1)
    stretched = (values - low) / (high - low if high > low else 1)
    return (255 * np.nan_to_num(stretched, posinf=1, neginf=0).clip(0, 1)).astype(np.uint8)
