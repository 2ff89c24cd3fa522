"""Softmax on the host, one row of pixels at a time."""

import math

import numpy as np
from numba import prange

from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS, EXPONENTIAL_NS
from kernels.memory import cpu as memory
from kernels.softmax import check_backward, check_forward


@operator
def forward(x):
    """Class probabilities of each pixel, see ``kernels.softmax``.

    Args:
        x: scores, N x K x H x W, float32 or float64.

    Returns:
        an array like x. Workspace: two rows for each thread.
    """
    check_forward(x)
    y = memory.empty(x.shape, x.dtype)
    _forward(y, x, work=2 * EXPONENTIAL_NS * y.size)
    return y


@operator
def backward(error, y):
    """dx = y * (e - sum over the channels of e * y).

    Args:
        error: N x K x H x W, float32 or float64.
        y: what ``forward`` returned, same shape and dtype.

    Returns:
        an array like y. Workspace: one row for each thread.
    """
    check_backward(error, y)
    gradient = memory.empty(y.shape, y.dtype)
    _backward(gradient, error, y, work=2 * ELEMENT_NS * y.size)
    return gradient


@compiled_parallel
def _forward(y, x):
    batch, channels, height, width = x.shape
    for row in prange(batch * height):
        n, r = row // height, row % height
        largest = x[n, 0, r].copy()
        for k in range(1, channels):
            for i in range(width):
                value = x[n, k, r, i]
                largest[i] = value if value > largest[i] else largest[i]
        total = np.zeros(width, x.dtype)
        for k in range(channels):
            for i in range(width):
                y[n, k, r, i] = math.exp(x[n, k, r, i] - largest[i])
                total[i] += y[n, k, r, i]
        for k in range(channels):
            for i in range(width):
                y[n, k, r, i] /= total[i]


@compiled_parallel
def _backward(gradient, error, y):
    batch, channels, height, width = y.shape
    for row in prange(batch * height):
        n, r = row // height, row % height
        total = np.zeros(width, y.dtype)
        for k in range(channels):
            for i in range(width):
                total[i] += error[n, k, r, i] * y[n, k, r, i]
        for k in range(channels):
            for i in range(width):
                gradient[n, k, r, i] = y[n, k, r, i] * (error[n, k, r, i] - total[i])
