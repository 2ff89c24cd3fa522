"""Average pooling in NumPy, float64: the definition, one cell of the window at a time."""

import numpy as np

from kernels.foreign import operator
from kernels.window import PoolingShape


@operator
def forward(x, kernel, *, stride=1, dilation=1):
    """y: the mean of each window."""
    shape = PoolingShape.of_input(x, kernel, stride, dilation)
    y = np.zeros(shape.y)
    for _, _, rows, columns in shape.window.taps(shape.output):
        y += x[:, :, rows, columns]
    return y / shape.window.cells


@operator
def backward(error, size, kernel, *, stride=1, dilation=1):
    """dx: each window's error, shared equally by its cells."""
    shape = PoolingShape.of_error(error, size, kernel, stride, dilation)
    gradient = np.zeros(shape.x)
    for _, _, rows, columns in shape.window.taps(shape.output):
        gradient[:, :, rows, columns] += error.astype(np.float64) / shape.window.cells
    return gradient
