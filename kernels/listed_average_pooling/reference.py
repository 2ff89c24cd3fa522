"""Average pooling of listed cells in NumPy, float64: the definition, one tap at a time."""

import numpy as np

from kernels.foreign import operator
from kernels.listed_average_pooling import backward_window, window_and_outputs


@operator
def forward(x, rows, kernel, columns=None):
    """y: the mean of each window; ``columns`` does not matter here."""
    window, outputs = window_and_outputs(x, rows, kernel, columns)
    y = np.zeros((outputs, *x.shape[1:]))
    for i, j in np.ndindex(window.kernel):
        y += x[rows[:, i] + j]
    return y / window.cells


@operator
def backward(error, rows, kernel, cells):
    """dx: each window's error, shared equally by its cells."""
    window = backward_window(error, rows, kernel, cells)
    gradient, share = np.zeros((cells, *error.shape[1:])), error.astype(np.float64)
    for i, j in np.ndindex(window.kernel):
        np.add.at(gradient, rows[:, i] + j, share / window.cells)
    return gradient
