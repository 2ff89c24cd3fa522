"""Selecting cells of a list in NumPy, float64: the definition."""

import numpy as np

from kernels.foreign import operator
from kernels.listed_cells import (
    HOST,
    check_gather,
    check_gather_backward,
    check_select,
    check_select_backward,
    check_table,
)

LAYOUT = HOST
"""How the lists that these operators take lie in memory."""


@operator
def table(rows, cells):
    """``rows`` itself."""
    check_table(rows, cells)
    return rows


@operator
def select(x, cells):
    """y[p, c] = x[cells[p], c]."""
    check_select(x, cells)
    return x[cells].astype(np.float64)


@operator
def select_backward(error, cells, count):
    """dx[cells[p], c] = e[p, c], and 0 where no p selects."""
    check_select_backward(error, cells, count)
    gradient = np.zeros((count, *error.shape[1:]))
    gradient[cells] = error
    return gradient


@operator
def gather(image, rows, columns):
    """y[p, c] = image[c, rows[p], columns[p]], and 0 where one of them is -1."""
    check_gather(image, rows, columns)
    outside = (rows < 0) | (columns < 0)
    y = np.where(outside, 0.0, image[0][:, rows, columns].astype(np.float64))
    return np.ascontiguousarray(y.T)[:, :, None, None]


@operator
def gather_backward(error, rows, columns, size):
    """dx[c, rows[p], columns[p]] = e[p, c], and 0 elsewhere."""
    check_gather_backward(error, rows, columns, size)
    gradient = np.zeros((1, error.shape[1], *size))
    gradient[0][:, rows, columns] = error[:, :, 0, 0].T
    return gradient
