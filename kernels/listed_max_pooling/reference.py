"""Max pooling of listed cells in NumPy, float64: the definition, one tap at a time."""

import numpy as np

from kernels import checks
from kernels.activation.reference import forward as activate
from kernels.foreign import operator
from kernels.listed_max_pooling import backward_window, window_and_outputs
from kernels.max_pooling import argmax_dtype


@operator
def forward(x, rows, kernel, *, activation=None, argmax=True):
    """(y, argmax): the first maximum of each window, or its first NaN, and its cell number.

    y goes through ``activation``, unless that is None; ``argmax`` is None if it is not wanted.
    """
    window, outputs = window_and_outputs(x, rows, kernel, activation, argmax)
    y = np.full((outputs, *x.shape[1:]), -np.inf)
    argmax_map = np.zeros(y.shape, argmax_dtype(window)) if argmax else None
    for cell, (i, j) in enumerate(np.ndindex(window.kernel)):
        value = x[rows[:, i] + j].astype(np.float64)
        wins = (value > y) | (np.isnan(value) & ~np.isnan(y))
        y = np.where(wins, value, y)
        if argmax:
            argmax_map[wins] = cell
    return y if activation is None else activate(y, activation), argmax_map


@operator
def backward(error, argmax, rows, kernel, cells):
    """dx: each window's error, added to the cell that won it."""
    window = backward_window(error, argmax, rows, kernel, cells)
    checks.indices("argmax", argmax, window.cells)
    gradient = np.zeros((cells, *error.shape[1:]))
    for cell, (i, j) in enumerate(np.ndindex(window.kernel)):
        won = np.where(argmax == cell, error.astype(np.float64), 0.0)
        np.add.at(gradient, rows[:, i] + j, won)
    return gradient
