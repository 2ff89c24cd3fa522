"""The most probable class of each pixel, from scores: without the probabilities."""

from __future__ import annotations

import numpy as np
from numba import prange

from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS

NEAR = {"float32": 1e-5, "float64": 1e-12}
"""Scores this far apart, or farther, have probabilities that differ, by dtype."""


def most_probable(scores, values, unlabelled, near):
    """(map of values, map of ambiguous pixels or None) of scores.

    The class is that of the first of the largest scores. Softmax may round two scores that differ a
    little to equal probabilities, of which the first counts: such pixels are ambiguous.

    Args:
        scores: K x H x W, float32 or float64.
        values: the map's value of each class, K ints of any dtype.
        unlabelled: the value where a score is NaN or the largest is infinite: there the
            probabilities are NaN.
        near: a pixel is ambiguous if an earlier class scores less than this below the maximum.
    """
    labels = np.empty(scores.shape[1:], values.dtype)
    ambiguous = np.empty(scores.shape[1:], np.bool_)
    ambiguous_of_row = np.empty(scores.shape[1], np.int64)
    nothing = values.dtype.type(unlabelled)
    near = scores.dtype.type(near)
    work = 4 * ELEMENT_NS * scores.size
    _most_probable(labels, ambiguous, ambiguous_of_row, scores, values, nothing, near, work=work)
    return labels, ambiguous if ambiguous_of_row.any() else None


@compiled_parallel
def _most_probable(labels, ambiguous, ambiguous_of_row, scores, values, unlabelled, near):
    channels, height, width = scores.shape
    for y in prange(height):
        best = scores[0, y].copy()
        which = np.zeros(width, np.int32)
        close = np.zeros(width, np.bool_)
        for k in range(1, channels):
            row = scores[k, y]
            for x in range(width):
                value, before = row[x], best[x]
                larger = value > before
                best[x] = value if larger or value != value else before
                which[x] = k if larger else which[x]
                close[x] = value - before < near if larger else close[x]
        count = 0
        for x in range(width):
            is_finite = best[x] - best[x] == 0
            labels[y, x] = values[which[x]] if is_finite else unlabelled
            ambiguous[y, x] = close[x] and is_finite
            count += ambiguous[y, x]
        ambiguous_of_row[y] = count
