"""Photographs with a truth for every pixel, and strokes on them, both drawn by rules.

Labels are 0 where there is none, 1 for the background and 2 for the foreground. The truths are
rules, too, no expert's: a watershed finds the coins, a ridge filter the vessels.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage
from skimage import data, draw, filters, measure, morphology, segmentation, transform

BACKGROUND, FOREGROUND = 1, 2
STROKES, LENGTH = 12, 10
"""Strokes of each class on one half, and their length in pixels."""
DEEP = 4
"""Pixels that sparse strokes keep away from the other class."""
SHRUNK = 2
"""How many pixels of the photograph of the retina become one, each way."""


@cache
def coins() -> tuple[np.ndarray, np.ndarray]:
    """``skimage.data.coins()``, H x W uint8, and its truth: a watershed of the Sobel edges from
    dark and bright markers, holes filled."""
    image = data.coins()
    markers = np.zeros(image.shape, int)
    markers[image < 30], markers[image > 150] = BACKGROUND, FOREGROUND
    regions = segmentation.watershed(filters.sobel(image), markers)
    return image, _labels(ndimage.binary_fill_holes(regions == FOREGROUND))


@cache
def retina() -> tuple[np.ndarray, np.ndarray]:
    """``skimage.data.retina()``, shrunk, H x W x 3 uint8, and its truth: vessels are dark ridges of
    the green channel at full size (Sato's filter, two thresholds); 0 outside of the eye."""
    photograph = data.retina()
    green = filters.gaussian(photograph[..., 1] / 255, 1)
    eye = morphology.isotropic_erosion(green > 0.06, 40)
    even = green - filters.gaussian(green, 25)
    ridges = filters.sato(even, sigmas=(2, 3, 4, 6), black_ridges=True)
    low, high = np.quantile(ridges[eye], (0.88, 0.95))
    vessels = filters.apply_hysteresis_threshold(ridges, low, high)
    vessels = morphology.remove_small_objects(vessels & eye, max_size=800)
    truth = np.where(eye, _labels(vessels), 0)
    shape = tuple(n // SHRUNK for n in truth.shape)
    image = transform.resize(photograph, (*shape, 3), anti_aliasing=True, preserve_range=True)
    middle = slice(SHRUNK // 2, None, SHRUNK)
    return image.astype(np.uint8), truth[middle, middle][: shape[0], : shape[1]]


def _labels(foreground):
    return np.where(foreground, FOREGROUND, BACKGROUND).astype(np.uint8)


def sparse(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Straight strokes in any direction, each begun ``DEEP`` pixels or more inside of its class."""
    return _straight(truth, rng, lambda depth: depth > DEEP, turned=False)


def along_rims(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Straight strokes along the border between the classes, on either side of it."""
    return _straight(truth, rng, lambda depth: (depth > 1) & (depth <= 2.5), turned=True)


def along_vessels(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strokes along the middle of vessels, and straight ones in the background, half of them along
    the rims of vessels."""
    labels = np.where(along_rims(truth, rng) == BACKGROUND, BACKGROUND, 0).astype(np.uint8)
    strokes = measure.label(labels, connectivity=2)
    labels[strokes > STROKES // 2] = 0
    labels[sparse(truth, rng) == BACKGROUND] = BACKGROUND
    middle = morphology.skeletonize(truth == FOREGROUND)
    for y, x in rng.permutation(np.argwhere(middle))[:STROKES]:
        reach = LENGTH // 2
        near = np.s_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        labels[near][middle[near]] = FOREGROUND
    return labels


def _straight(truth, rng, begun, *, turned):
    """Strokes of both classes, cut where they leave their class.

    Args:
        begun: where strokes may have their middle, by the distance to what is not of their class.
        turned: along the border of the class; else each in a random direction.
    """
    labels = np.zeros_like(truth)
    for value in (BACKGROUND, FOREGROUND):
        # What lies beyond the image's edge is no border
        depth = ndimage.distance_transform_edt(np.pad(truth == value, 1, constant_values=True))
        depth = depth[1:-1, 1:-1]
        slopes = [ndimage.sobel(depth, axis) for axis in (0, 1)]
        for y, x in rng.permutation(np.argwhere(begun(depth)))[:STROKES]:
            angle = rng.uniform(0, 2 * np.pi)
            if turned:
                angle = np.arctan2(slopes[0][y, x], slopes[1][y, x]) + np.pi / 2
            dy, dx = LENGTH / 2 * np.sin(angle), LENGTH / 2 * np.cos(angle)
            ends = [round(end) for end in (y - dy, x - dx, y + dy, x + dx)]
            pixels = np.stack(draw.line(*ends), axis=-1)
            pixels = pixels[((pixels >= 0) & (pixels < truth.shape)).all(axis=1)]
            rows, columns = pixels[truth[tuple(pixels.T)] == value].T
            labels[rows, columns] = value
    return labels


CASES = {
    "coins, sparse": (coins, sparse),
    "coins, rims": (coins, along_rims),
    "vessels": (retina, along_vessels),
}
"""By name: what gives an image and its truth, and what draws strokes on the left half."""
