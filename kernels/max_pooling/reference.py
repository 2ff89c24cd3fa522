"""Max pooling in NumPy, float64: the definition, one cell of the window at a time."""

import numpy as np

from kernels import checks
from kernels.activation.reference import forward as activate
from kernels.foreign import operator
from kernels.max_pooling import argmax_dtype, backward_shape, forward_shape


@operator
def forward(x, kernel, *, stride=1, dilation=1, activation=None, argmax=True):
    """(y, argmax): the first maximum of each window, or its first NaN, and its cell number.

    y goes through ``activation``, unless that is None; ``argmax`` is None if it is not wanted.
    """
    shape = forward_shape(x, kernel, stride, dilation, activation, argmax)
    y = np.full(shape.y, -np.inf)
    argmax_map = np.zeros(shape.y, argmax_dtype(shape.window)) if argmax else None
    for cell, (_, _, rows, columns) in enumerate(shape.window.taps(shape.output)):
        value = x[:, :, rows, columns].astype(np.float64)
        wins = (value > y) | (np.isnan(value) & ~np.isnan(y))
        y = np.where(wins, value, y)
        if argmax:
            argmax_map[wins] = cell
    return y if activation is None else activate(y, activation), argmax_map


@operator
def backward(error, argmax, size, kernel, *, stride=1, dilation=1):
    """dx: each window's error, added to the cell that won it."""
    shape = backward_shape(error, size, kernel, stride, dilation, argmax)
    checks.indices("argmax", argmax, shape.window.cells)
    gradient = np.zeros(shape.x)
    for cell, (_, _, rows, columns) in enumerate(shape.window.taps(shape.output)):
        gradient[:, :, rows, columns] += np.where(argmax == cell, error.astype(np.float64), 0.0)
    return gradient
