"""Max pooling of listed cells on the host: one window after the other, channels in the lanes.

Maxima and their numbers stay in registers until a window is done. Large windows that share their
rows: ``cpu_shared_rows.py``. Backward, small windows loop over their cells and add where the argmax
is theirs, a vector of channels at a time; large windows note where their cells lie, loop over
channels and add to the argmax cell. Either way windows are taken one after the other, in a fixed
order: that of the list, or of large windows that of their first cells.
"""

import numba
import numpy as np
from numba import prange

from kernels import checks
from kernels.activation.cpu import NONE, activate, numbered
from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.threads import ELEMENT_NS
from kernels.host.vectors import BYTES, add_where, first, lanes_of, larger, store
from kernels.listed_max_pooling import backward_window, cpu_shared_rows, window_and_outputs
from kernels.listed_max_pooling.cpu_workspace import LARGE_ABOVE, shares_rows
from kernels.max_pooling import argmax_dtype
from kernels.memory import cpu as memory

# Windows that a thread takes at once
WINDOWS = 64
# Channels whose cells are looked up in the time that a vector of errors is added in; measured
CHANNELS_PER_VECTOR = 1.5


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
        Workspace: ``kernels.listed_max_pooling.cpu_workspace``.
    """
    window, outputs = window_and_outputs(x, rows, kernel, activation, argmax)
    function = numbered(activation, x.dtype)
    shape = (outputs, *x.shape[1:])
    y = memory.empty(shape, x.dtype)
    argmax_map = memory.empty(shape, argmax_dtype(window)) if argmax else None
    order = _order(rows, window)
    if shares_rows(window, outputs, *x.shape[:2], x.itemsize, argmax):
        cpu_shared_rows.forward(y, argmax_map, x, rows, order, window, function)
        return y, argmax_map
    maps = y.reshape(-1), None if argmax_map is None else argmax_map.reshape(-1), x.reshape(-1)
    work = (ELEMENT_NS * window.cells / 2 + function.cost) * y.size
    _forward(*maps, rows, order, window.kernel, x.shape[1], function, work=work)
    return y, argmax_map


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
    gradient = memory.empty((cells, *error.shape[1:]), error.dtype)
    maps = gradient.reshape(-1), error.reshape(-1), argmax.reshape(-1), rows
    channels, threads = error.shape[1], numba.get_num_threads()
    lanes = BYTES // error.itemsize
    vectors = window.cells * -(-channels // lanes)
    work = ELEMENT_NS * gradient.size
    if channels >= lanes and CHANNELS_PER_VECTOR * vectors <= channels:
        work += ELEMENT_NS * error.size
        _add_by_cells(*maps, window.kernel, channels, threads, work=work)
        return gradient
    windows = *maps, _order(rows, window), window.kernel[1]
    work += 3 * ELEMENT_NS * error.size
    _add_by_channels(*windows, channels, threads, work=work)
    return gradient


def _order(rows, window):
    """The outputs as they are taken: in the order of their windows among the cells, where these are
    large. Neighbours in the list may be a stride apart, and go through a map as often as a window
    has cells."""
    if window.cells <= LARGE_ABOVE:
        return np.arange(len(rows))
    return np.argsort(rows[:, 0], kind="stable")


def _window(alone):
    """The maxima of a window, by vectors of neighbouring channels; of too few of them, by one
    channel ``alone``."""

    @inner
    def fill(y, argmax, x, rows, kernel, channels, p):
        lanes = 1 if alone else lanes_of(x)
        for begin in range(0, channels, lanes):
            c = min(begin, channels - lanes)  # some twice, where vectors do not add up
            best = first(x, rows[p, 0] * channels + c, alone)
            number = 0
            for i in range(kernel[0]):
                at = rows[p, i] * channels + c
                for _ in range(kernel[1]):
                    best = larger(best, x, at, number)
                    at += channels
                    number += 1
            store(y, p * channels + c, best[0])
            if argmax is not None:
                store(argmax, p * channels + c, best[1])

    return fill


_by_vectors, _by_channels = _window(False), _window(True)


@compiled_parallel
def _forward(y, argmax, x, rows, order, kernel, channels, function):
    wide = channels >= lanes_of(x)
    for part in prange(-(-len(rows) // WINDOWS)):
        for place in range(part * WINDOWS, min((part + 1) * WINDOWS, len(rows))):
            p = order[place]
            if wide:
                _by_vectors(y, argmax, x, rows, kernel, channels, p)
            else:
                _by_channels(y, argmax, x, rows, kernel, channels, p)
            if function.number != NONE:
                activate(y[p * channels : (p + 1) * channels], function)


@compiled_parallel
def _add_by_cells(gradient, error, argmax, rows, kernel, channels, parts):
    """Each thread adds to cells of its own."""
    cells = len(gradient) // channels
    for part in prange(parts):
        begin, end = cells * part // parts, cells * (part + 1) // parts
        gradient[begin * channels : end * channels] = 0
        for p in range(len(rows)):
            _add_window(gradient, error, argmax, rows, kernel, channels, p, begin, end)


@inner
def _add_window(gradient, error, argmax, rows, kernel, channels, p, begin, end):
    lanes, number = lanes_of(error), 0
    for i in range(kernel[0]):
        for cell in range(rows[p, i], rows[p, i] + kernel[1]):
            if begin <= cell < end:
                for c in range(0, channels, lanes):
                    again = max(0, c + lanes - channels)  # the last vector repeats channels
                    to, at = cell * channels + c - again, p * channels + c - again
                    add_where(gradient, to, error, at, argmax, number, again)
            number += 1


@compiled_parallel
def _add_by_channels(gradient, error, argmax, rows, order, width, channels, parts):
    """Each thread adds to cells of its own, which it sets to zero as the windows reach them, to
    write them once while they are in the cache. Places are unsigned, as Numba tests signed ones for
    being negative each time."""
    cells, height = len(gradient) // channels, rows.shape[1]
    for part in prange(parts):
        begin, end = cells * part // parts, cells * (part + 1) // parts
        first, beyond, filled = np.uint64(begin * channels), np.uint64(end * channels), begin
        places = np.empty(height * width, np.uint64)
        for p in order:
            least, most = rows[p, 0], rows[p, 0]
            for i in range(1, height):
                least, most = min(least, rows[p, i]), max(most, rows[p, i])
            if most + width <= begin or end <= least:
                continue
            filled = _fill_with_zeros(gradient, filled, min(most + width, end), channels)
            for i in range(height):
                for j in range(width):
                    places[i * width + j] = (rows[p, i] + j) * channels
            alone = begin <= least and most + width <= end
            for at in range(p * channels, (p + 1) * channels):
                place = places[argmax[at]]
                if alone or first <= place < beyond:
                    gradient[place + np.uint64(at - p * channels)] += error[at]
        _fill_with_zeros(gradient, filled, end, channels)


@inner
def _fill_with_zeros(gradient, begin, end, channels):
    """Fill the cells from ``begin`` to ``end``; return where the filled ones end."""
    for at in range(begin * channels, end * channels):
        gradient[at] = 0
    return max(begin, end)
