"""Average pooling of listed cells on the device.

Threads follow the cells of the source (``kernels.device.lists``). A window's rows are added up one
after the other, as ``kernels.average_pooling`` does; backward, a cell adds up the errors of the
windows that read it, each divided by the number of their cells.
"""

from functools import cache

from kernels.device.api import cuda, device, kernel, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.device.lists import CHANNELS, ListSizes, list_gatherer, list_reducer, output_index
from kernels.listed_average_pooling import backward_window, window_and_outputs
from kernels.listed_cells import DEVICE
from kernels.memory import cuda as memory


@cache
def _forward_kernel(dtype):
    @device
    def begin(sums, n):
        sums[0][n] = dtype(0)

    @device
    def take_row(sums, x, first, at, cell, g):
        totals, of_row, columns = sums
        if cell == u32(0):
            for n in range(CHANNELS):
                of_row[n] = dtype(0)
        j = u32(0)
        while j < u32(g.kernel[1]):
            for n in range(CHANNELS):
                if u32(first + u32(n)) < u32(g.channels):
                    of_row[n] += x[u32(at + u32(n) * u32(g.cells))]
            at, j = u32(at + u32(1)), u32(j + u32(1))
        cell = u32(cell + u32(g.kernel[1]))  # of a row of the layer's window
        if cell < columns:
            return cell
        for n in range(CHANNELS):
            totals[n] += of_row[n]
        return u32(0)

    @device
    def write(sums, n, outputs, c, p, g):
        y, cells = outputs
        y[output_index(c, p, g)] = sums[0][n] / cells

    reduce_window = list_reducer(begin, take_row, write)

    @kernel(ELEMENTWISE_THREADS)
    def listed_average_pooling_forward(
        x,  # C*M
        rows,  # kh*(P + M)
        y,  # C*P
        cells,  # kh * kw
        columns,  # cells of a row of the layer's window
        g,  # ListSizes
    ):
        totals = cuda.local.array(CHANNELS, dtype)
        of_row = cuda.local.array(CHANNELS, dtype)
        reduce_window(x, rows, (totals, of_row, columns), (y, cells), g)

    return listed_average_pooling_forward


@cache
def _backward_kernel(dtype):
    @device
    def take(sources, totals, n, at, cell):
        error, cells = sources
        totals[n] += error[at] / cells

    gather_windows = list_gatherer(dtype, take)

    @kernel(ELEMENTWISE_THREADS)
    def listed_average_pooling_backward(
        error,  # C*P
        rows,  # kh*(P + M)
        gradient,  # C*M
        cells,  # kh * kw
        g,  # ListSizes
    ):
        totals = cuda.local.array(CHANNELS, dtype)
        gather_windows((error, cells), rows, totals, gradient, g)

    return listed_average_pooling_backward


@operator
def forward(x, rows, kernel, columns=None):
    """y, 1 x C x 1 x P.

    Args:
        x: 1 x C x 1 x M, float32 or float64.
        rows: the table of the windows (``kernels.listed_cells``).
        kernel: int or pair (y, x).
        columns: cells of a row of the layer's window; None is those of a row of ``kernel``.
    """
    window, outputs = window_and_outputs(x, rows, kernel, columns, DEVICE)
    sizes = ListSizes.of(x.shape[1], outputs, x.shape[3], window.kernel)
    y = memory.empty(DEVICE.shape(outputs, x.shape[1]), x.dtype)
    arrays = flat("x", x), flat("rows", rows), flat("y", y)
    cells = x.dtype.type(window.cells)
    columns = columns or window.kernel[1]
    launch_over(_forward_kernel(x.dtype.type), sizes.threads, *arrays, cells, columns, sizes)
    return y


@operator
def backward(error, rows, kernel, cells):
    """dx, 1 x C x 1 x M.

    Args:
        error: 1 x C x 1 x P, float32 or float64.
        rows, kernel: as in ``forward``.
        cells: M, of the input.
    """
    window = backward_window(error, rows, kernel, cells, DEVICE)
    sizes = ListSizes.of(error.shape[1], error.shape[3], cells, window.kernel)
    gradient = memory.empty(DEVICE.shape(cells, error.shape[1]), error.dtype)
    arrays = flat("error", error), flat("rows", rows), flat("gradient", gradient)
    count = error.dtype.type(window.cells)
    launch_over(_backward_kernel(error.dtype.type), sizes.threads, *arrays, count, sizes)
    return gradient
