"""Max pooling of listed cells on the device.

Threads follow the cells of the source (``kernels.device.lists``). Backward, a cell adds up the
errors of those windows whose argmax it is, in the order of its taps.
"""

from functools import cache

import numpy as np

from kernels.activation import activation_of
from kernels.activation.cuda import function
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.device.lists import CHANNELS, ListSizes, list_gatherer, list_reducer, output_index
from kernels.device.maxima import wins
from kernels.listed_cells import DEVICE
from kernels.listed_max_pooling import backward_window, window_and_outputs
from kernels.max_pooling import argmax_dtype
from kernels.memory import cuda as memory


@cache
def _forward_kernel(dtype, cell_type, activation):
    """``cell_type`` is None where no argmax is wanted."""
    f, wanted, lowest = function(activation, dtype), cell_type is not None, dtype(-np.inf)

    @device
    def begin(maxima, n):
        best, winner = maxima
        best[n], winner[n] = lowest, u32(0)

    @device
    def take_row(maxima, x, first, at, cell, g):
        best, winner = maxima
        end = u32(cell + u32(g.kernel[1]))
        while cell < end:
            for n in range(CHANNELS):
                if u32(first + u32(n)) < u32(g.channels):
                    value = x[u32(at + u32(n) * u32(g.cells))]
                    if wins(value, best[n]):
                        best[n], winner[n] = value, cell
            at, cell = u32(at + u32(1)), u32(cell + u32(1))
        return cell

    @device
    def write(maxima, n, outputs, c, p, g):
        (best, winner), (y, argmax) = maxima, outputs
        y[output_index(c, p, g)] = f(best[n])
        if wanted:
            argmax[output_index(c, p, g)] = cell_type(winner[n])

    reduce_window = list_reducer(begin, take_row, write)

    @kernel(ELEMENTWISE_THREADS)
    def listed_max_pooling_forward(
        x,  # C*M
        rows,  # kh*(P + M)
        y,  # C*P
        argmax,  # C*P; y itself where none is wanted
        g,  # ListSizes
    ):
        best = cuda.local.array(CHANNELS, dtype)
        winner = cuda.local.array(CHANNELS, u32)
        reduce_window(x, rows, (best, winner), (y, argmax), g)

    return listed_max_pooling_forward


@cache
def _backward_kernel(dtype):
    @device
    def take(sources, totals, n, at, cell):
        error, argmax = sources
        if u32(argmax[at]) == cell:
            totals[n] += error[at]

    gather_windows = list_gatherer(dtype, take)

    @kernel(ELEMENTWISE_THREADS)
    def listed_max_pooling_backward(
        error,  # C*P
        argmax,  # C*P
        rows,  # kh*(P + M)
        gradient,  # C*M
        g,  # ListSizes
    ):
        totals = cuda.local.array(CHANNELS, dtype)
        gather_windows((error, argmax), rows, totals, gradient, g)

    return listed_max_pooling_backward


@operator
def forward(x, rows, kernel, *, activation=None, argmax=True):
    """(y, argmax), 1 x C x 1 x P.

    Args:
        x: 1 x C x 1 x M, float32 or float64.
        rows: the table of the windows (``kernels.listed_cells``).
        kernel: int or pair (y, x).
        activation: as in ``kernels.activation``, of the maxima; None leaves them as they are.
        argmax: whether it is wanted; else it is None.
    """
    window, outputs = window_and_outputs(x, rows, kernel, activation, argmax, DEVICE)
    activation = None if activation is None else activation_of(activation)
    sizes = ListSizes.of(x.shape[1], outputs, x.shape[3], window.kernel)
    shape = DEVICE.shape(outputs, x.shape[1])
    cell_type = np.dtype(argmax_dtype(window)).type if argmax else None
    argmax_map = memory.empty(shape, cell_type) if argmax else None
    y = memory.empty(shape, x.dtype)
    arrays = flat("x", x), flat("rows", rows), flat("y", y)
    winners = flat("argmax", argmax_map if argmax else y)
    compute = _forward_kernel(x.dtype.type, cell_type, activation)
    launch_over(compute, sizes.threads, *arrays, winners, sizes)
    return y, argmax_map


@operator
def backward(error, argmax, rows, kernel, cells):
    """dx, 1 x C x 1 x M: each window's error, added to the cell that won it.

    Args:
        error: 1 x C x 1 x P, float32 or float64.
        argmax: as ``forward`` gave it.
        rows, kernel: as in ``forward``.
        cells: M, of the input.
    """
    window = backward_window(error, argmax, rows, kernel, cells, DEVICE)
    sizes = ListSizes.of(error.shape[1], error.shape[3], cells, window.kernel)
    gradient = memory.empty(DEVICE.shape(cells, error.shape[1]), error.dtype)
    arrays = flat("error", error), flat("argmax", argmax), flat("rows", rows)
    target = flat("gradient", gradient)
    launch_over(_backward_kernel(error.dtype.type), sizes.threads, *arrays, target, sizes)
    return gradient
