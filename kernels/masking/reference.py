"""Masking an error map in NumPy, float64."""

import numpy as np

from kernels import geometry


def apply(error, mask):
    """The error map at the chosen pixels, zero elsewhere."""
    geometry.masked(error, mask)
    return np.where(mask[:, None], error.astype(np.float64), 0.0)
