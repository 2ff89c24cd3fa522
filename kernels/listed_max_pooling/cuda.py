"""Max pooling of listed cells on the device: a thread for each number of the output.

Neighbouring threads have neighbouring channels of one window: they read and write neighbours.
Backward goes cell by cell of the window, one launch each: no two windows have the same cell there,
so there are no atomics, and the order of the sums is that of the cells.
"""

from functools import cache

import numpy as np

from kernels.activation import activation_of
from kernels.activation.cuda import function
from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.listed_max_pooling import backward_window, forward_window
from kernels.max_pooling import argmax_dtype
from kernels.memory import cuda as memory


@cache
def _forward_kernel(dtype, cell_type, activation):
    """``cell_type`` is None where no argmax is wanted."""
    f, wanted = function(activation, dtype), cell_type is not None

    @kernel(ELEMENTWISE_THREADS)
    def listed_max_pooling_forward(
        x,  # M*C
        rows,  # P*kh
        y,  # P*C
        argmax,  # P*C; y itself where none is wanted
        channels,  # C
        size,  # (kh, kw)
    ):
        index = u32(cuda.grid(1))
        if index < y.size:
            p, c = divmod_u32(index, channels)
            value, winner, cell = dtype(-np.inf), u32(0), u32(0)
            for i in range(size[0]):
                at = u32(u32(rows[u32(p * u32(size[0]) + i)]) * u32(channels) + c)
                for _ in range(size[1]):
                    later = x[at]
                    if later > value or (later != later and value == value):
                        value, winner = later, cell
                    at, cell = u32(at + u32(channels)), u32(cell + u32(1))
            y[index] = f(value)
            if wanted:
                argmax[index] = cell_type(winner)

    return listed_max_pooling_forward


@cache
def _backward_kernel(dtype, cell_type):
    @kernel(ELEMENTWISE_THREADS)
    def listed_max_pooling_backward(
        error,  # P*C
        argmax,  # P*C
        rows,  # P*kh
        gradient,  # M*C
        channels,  # C
        height,  # kh
        tap,  # (i, j)
        cell,  # its number
    ):
        index = u32(cuda.grid(1))
        if index < error.size and u32(argmax[index]) == u32(cell):
            p, c = divmod_u32(index, channels)
            row = u32(u32(rows[u32(p * u32(height) + u32(tap[0]))]) + u32(tap[1]))
            gradient[u32(row * u32(channels) + c)] += error[index]

    return listed_max_pooling_backward


@operator
def forward(x, rows, kernel, *, activation=None, argmax=True):
    """(y, argmax), P x C x 1 x 1; arguments as ``kernels.listed_max_pooling.cpu``."""
    window = forward_window(x, rows, kernel, activation, argmax)
    activation = None if activation is None else activation_of(activation)
    shape = (rows.shape[0], *x.shape[1:])
    cell_type = np.dtype(argmax_dtype(window)).type if argmax else None
    won = memory.empty(shape, cell_type) if argmax else None
    y = memory.empty(shape, x.dtype)
    arrays = flat("x", x), flat("rows", rows), flat("y", y)
    cells = flat("argmax", won if argmax else y)
    compute = _forward_kernel(x.dtype.type, cell_type, activation)
    launch_over(compute, y.size, *arrays, cells, x.shape[1], window.kernel)
    return y, won


@operator
def backward(error, argmax, rows, kernel, cells):
    """dx, M x C x 1 x 1; arguments as ``kernels.listed_max_pooling.cpu``."""
    window = backward_window(error, argmax, rows, kernel, cells)
    gradient = memory.zeros((cells, *error.shape[1:]), error.dtype)
    arrays = flat("error", error), flat("argmax", argmax), flat("rows", rows)
    compute, (height, width) = _backward_kernel(error.dtype.type, argmax.dtype.type), window.kernel
    for cell in range(window.cells):
        target, tap = flat("gradient", gradient), divmod(cell, width)
        launch_over(compute, error.size, *arrays, target, error.shape[1], height, tap, cell)
    return gradient
