"""Max pooling of listed cells on the host: one window after the other, channels in the lanes."""

import numba
import numpy as np
from numba import prange

from kernels import checks
from kernels.activation.cpu import NONE, activate, numbered
from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.maps import by_cell
from kernels.host.threads import CELL
from kernels.listed_max_pooling import backward_window, forward_window
from kernels.max_pooling import argmax_dtype
from kernels.max_pooling.cpu import keep_larger, wins
from kernels.memory import cpu as memory

# Windows that a thread takes at once
WINDOWS = 64


@operator
def forward(x, rows, kernel, *, activation=None, argmax=True):
    """(y, argmax), see ``kernels.listed_max_pooling``.

    Args:
        x: M x C x 1 x 1, float32 or float64.
        rows: P x kh, int32: where the rows of each window begin among the M cells.
        kernel: int or pair (y, x).
        activation: as in ``kernels.activation``, of the maxima; None leaves them as they are.
        argmax: whether it is wanted.

    Returns:
        y like x, and argmax (uint8 or int32; None if it is not wanted), both P x C x 1 x 1.
        Workspace: one cell for each thread.
    """
    window, outputs = forward_window(x, rows, kernel, activation, argmax)
    function = numbered(activation, x.dtype)
    shape = (outputs, *x.shape[1:])
    y, won = memory.empty(shape, x.dtype), None
    work = (CELL * window.cells + function.cost) * y.size
    if argmax:
        won = memory.empty(shape, argmax_dtype(window))
        number = np.zeros(1, f"int{8 * x.itemsize}")  # as wide as a value, so that lanes agree
        _forward(*by_cell(y, won, x), rows, window.kernel, number, function, work=work)
    else:
        _maxima(*by_cell(y, x), rows, window.kernel, function, work=work)
    return y, won


@operator
def backward(error, argmax, rows, kernel, cells):
    """dx: each window's error, added to the cell that won it.

    Args:
        error: P x C x 1 x 1, float32 or float64.
        argmax: as ``forward`` gave it.
        rows, kernel: as in ``forward``.
        cells: M, of the input.

    Returns:
        M x C x 1 x 1. Workspace: none.
    """
    window = backward_window(error, argmax, rows, kernel, cells)
    checks.indices("argmax", argmax, window.cells)
    gradient = memory.zeros((cells, *error.shape[1:]), error.dtype)
    cells = np.array(list(np.ndindex(window.kernel)), np.int32)
    threads = numba.get_num_threads()
    _backward(*by_cell(gradient, error, argmax), rows, cells, threads, work=3 * CELL * error.size)
    return gradient


@compiled_parallel
def _maxima(y, x, rows, kernel, function):
    outputs = len(y)
    for part in prange(-(-outputs // WINDOWS)):
        for p in range(part * WINDOWS, min((part + 1) * WINDOWS, outputs)):
            values = y[p]
            values[:] = -np.inf
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    keep_larger(values, x[rows[p, i] + j])
            if function.number != NONE:
                activate(values, function)


@compiled_parallel
def _forward(y, argmax, x, rows, kernel, like, function):
    outputs, channels = y.shape
    for part in prange(-(-outputs // WINDOWS)):
        values, numbers = np.empty(channels, x.dtype), np.empty(channels, like.dtype)
        for p in range(part * WINDOWS, min((part + 1) * WINDOWS, outputs)):
            values[:] = -np.inf
            numbers[:] = 0
            number = like[0]
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    cell = x[rows[p, i] + j]
                    for c in range(channels):
                        earlier, later = values[c], cell[c]
                        replaced = wins(later, earlier)
                        values[c] = later if replaced else earlier
                        numbers[c] = number if replaced else numbers[c]
                    number += like.dtype.type(1)
            for c in range(channels):
                y[p, c] = values[c]
                argmax[p, c] = numbers[c]
            if function.number != NONE:
                activate(y[p], function)


@compiled_parallel
def _backward(gradient, error, argmax, rows, cells, threads):
    outputs, channels = error.shape
    for part in prange(threads):
        first, end = channels * part // threads, channels * (part + 1) // threads
        for p in range(outputs):
            for c in range(first, end):
                cell = argmax[p, c]
                gradient[rows[p, cells[cell, 0]] + cells[cell, 1], c] += error[p, c]
