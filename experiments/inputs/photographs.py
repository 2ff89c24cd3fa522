"""Photographs that ship with scikit-image, as images for the nets."""

import numpy as np
from skimage import color, data

from kernels.checks import Pair


def astronaut(channels: int, size: Pair, dtype: str) -> np.ndarray:
    """The photograph of Eileen Collins, cropped about its centre or reflected to ``size``.

    Args:
        channels: 1 (grey) or 3 (RGB).
        size: rows and columns.
        dtype: of the result.

    Returns:
        channels x H x W, each channel of mean 0 and standard deviation 1 over the whole photograph.
    """
    photograph = data.astronaut() / 255.0
    if channels == 1:
        photograph = color.rgb2gray(photograph)[..., None]
    photograph = (photograph - photograph.mean(axis=(0, 1))) / photograph.std(axis=(0, 1))
    missing = [max(0, n - have) for n, have in zip(size, photograph.shape)]
    before = [m // 2 for m in missing]
    widths = [(b, m - b) for b, m in zip(before, missing)]
    photograph = np.pad(photograph, (*widths, (0, 0)), mode="reflect")
    top, left = ((have - n) // 2 for n, have in zip(size, photograph.shape))
    cut = photograph[top : top + size[0], left : left + size[1]]
    return np.ascontiguousarray(cut.transpose(2, 0, 1), dtype)
