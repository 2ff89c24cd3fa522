"""Average pooling of listed cells in NumPy, float64: the definition, one tap at a time."""

import numpy as np

from kernels.foreign import operator
from kernels.listed_average_pooling import backward_kernel, forward_kernel


@operator
def forward(x, rows, kernel):
    """y: the mean of each window."""
    kernel, outputs = forward_kernel(x, rows, kernel)
    y = np.zeros((outputs, *x.shape[1:]))
    for i, j in np.ndindex(kernel):
        y += x[rows[:, i] + j]
    return y / (kernel[0] * kernel[1])


@operator
def backward(error, rows, kernel, cells):
    """dx: each window's error, shared equally by its cells."""
    kernel = backward_kernel(error, rows, kernel, cells)
    gradient, share = np.zeros((cells, *error.shape[1:])), error.astype(np.float64)
    for i, j in np.ndindex(kernel):
        np.add.at(gradient, rows[:, i] + j, share / (kernel[0] * kernel[1]))
    return gradient
