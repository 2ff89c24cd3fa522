"""Selecting cells of a list on the host, cell by cell."""

import numpy as np
from numba import prange

from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS
from kernels.listed_cells import (
    HOST,
    check_gather,
    check_gather_backward,
    check_select,
    check_select_backward,
    check_table,
)
from kernels.memory import cpu as memory

LAYOUT = HOST
"""How the lists that these operators take lie in memory."""


@operator
def table(rows, cells):
    """The table of windows, as operators on lists take it.

    Args:
        rows: P x kh, int32, on the host: where the rows of each window begin among the cells.
        cells: M, of the source.

    Returns:
        ``rows`` itself. Workspace: none.
    """
    check_table(rows, cells)
    return rows


@operator
def select(x, cells):
    """Some cells of a list.

    Args:
        x: M x C x 1 x 1, float32 or float64.
        cells: P numbers of cells, int32.

    Returns:
        P x C x 1 x 1 like x. Workspace: none.
    """
    check_select(x, cells)
    y = memory.empty((len(cells), *x.shape[1:]), x.dtype)
    _select(y, x, cells, work=ELEMENT_NS * y.size)
    return y


@operator
def select_backward(error, cells, count):
    """The gradient of ``select`` by its x.

    Args:
        error: P x C x 1 x 1, float32 or float64.
        cells: P numbers of cells, int32, each at most once.
        count: M, cells of x.

    Returns:
        M x C x 1 x 1; 0 where nothing was selected. Workspace: none.
    """
    check_select_backward(error, cells, count)
    gradient = memory.zeros((count, *error.shape[1:]), error.dtype)
    _put(gradient, error, cells, work=ELEMENT_NS * error.size)
    return gradient


@operator
def gather(image, rows, columns):
    """Some cells of an image, as a list.

    Args:
        image: 1 x C x H x W, float32 or float64.
        rows, columns: P, int32: where they lie; -1 stands for a cell of zeros.

    Returns:
        P x C x 1 x 1 like the image. Workspace: none.
    """
    check_gather(image, rows, columns)
    y = memory.empty((len(rows), image.shape[1], 1, 1), image.dtype)
    flat = y.reshape(-1), image.reshape(-1)
    _gather(*flat, rows, columns, *image.shape[1:], work=ELEMENT_NS * y.size)
    return y


@operator
def gather_backward(error, rows, columns, size):
    """The gradient of ``gather`` by the image.

    Args:
        error: P x C x 1 x 1, float32 or float64.
        rows, columns: P, int32, each place at most once.
        size: (H, W) of the image.

    Returns:
        1 x C x H x W; 0 where nothing was gathered. Workspace: none.
    """
    check_gather_backward(error, rows, columns, size)
    gradient = memory.zeros((1, error.shape[1], *size), error.dtype)
    _put_places(gradient, error, rows, columns, work=ELEMENT_NS * error.size)
    return gradient


@compiled_parallel
def _gather(y, image, rows, columns, channels, height, width):
    # Places are unsigned, as Numba tests signed ones for being negative each time
    plane = np.uint64(height * width)
    for p in prange(len(rows)):
        inside, at = (rows[p] | columns[p]) >= 0, np.uint64(rows[p] * width + columns[p])
        for c in range(channels):
            number = image[np.uint64(c) * plane + at] if inside else y.dtype.type(0)
            y[np.uint64(p * channels + c)] = number


@compiled_parallel
def _put_places(gradient, error, rows, columns):
    for p in prange(len(rows)):
        for c in range(error.shape[1]):
            gradient[0, c, rows[p], columns[p]] = error[p, c, 0, 0]


@compiled_parallel
def _select(y, x, cells):
    for p in prange(len(cells)):
        for c in range(y.shape[1]):
            y[p, c, 0, 0] = x[cells[p], c, 0, 0]


@compiled_parallel
def _put(gradient, error, cells):
    for p in prange(len(cells)):
        for c in range(error.shape[1]):
            gradient[cells[p], c, 0, 0] = error[p, c, 0, 0]
