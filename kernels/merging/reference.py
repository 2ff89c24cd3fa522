"""Merging branches in NumPy, float64."""

import numpy as np

from kernels.foreign import operator
from kernels.merging import check_add, check_split, concatenated_shape


@operator
def add(maps):
    """The sum of maps of one shape, left to right."""
    check_add(maps)
    y = maps[0].astype(np.float64)
    for x in maps[1:]:
        y = y + x
    return y


@operator
def concatenate(maps):
    """The maps, joined along their channels."""
    concatenated_shape(maps)
    return np.concatenate([x.astype(np.float64) for x in maps], axis=1)


@operator
def concatenate_backward(error, channels):
    """The errors of maps of ``channels`` channels each, in order."""
    check_split(error, channels)
    ends = np.cumsum(channels)
    return [error[:, e - c : e].astype(np.float64) for c, e in zip(channels, ends)]
