"""Masking an error map in NumPy, float64."""

import numpy as np

from kernels.foreign import operator
from kernels.masking import check_apply


@operator
def apply(error, mask):
    """The error map at the chosen pixels, zero elsewhere."""
    check_apply(error, mask)
    return np.where(mask[:, None], error.astype(np.float64), 0.0)
