"""Images composed of photographed textures: brick, grass and gravel, cut by random label maps."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import data

CLASSES = ("brick", "grass", "gravel")
HALVES = {"left": slice(0, 256), "right": slice(256, 512)}


def composed(
    half: str, size: int, regions: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One image and its labels.

    Args:
        half: ``"left"`` or ``"right"``: the part of each photograph that is used.
        size: rows and columns, at most 256.
        regions: number of random points; each pixel takes the texture of the nearest one.
        rng: of the regions, their textures and the crop of each photograph.

    Returns:
        size x size float32 (0 is mid-grey, +-1 black and white), and size x size int32 labels.
    """
    points = rng.uniform(0, size, (regions, 2))
    textures = rng.permutation(np.arange(regions) % len(CLASSES))
    distances = np.hypot(*(np.indices((size, size))[:, None] - points.T[:, :, None, None]))
    labels = textures[distances.argmin(axis=0)]
    parts = []
    for name in CLASSES:
        photograph = getattr(data, name)()[:, HALVES[half]] / 127.5 - 1
        top, left = (rng.integers(n - size + 1) for n in photograph.shape)
        parts.append(photograph[top : top + size, left : left + size])
    image = np.choose(labels, parts)
    return image.astype(np.float32), labels.astype(np.int32)


def border_distance(labels: np.ndarray) -> np.ndarray:
    """Distance of each pixel, in pixels, to the nearest pixel of another texture."""
    distance = np.zeros(labels.shape)
    for k in np.unique(labels):
        inside = labels == k
        distance[inside] = ndimage.distance_transform_edt(inside)[inside]
    return distance
