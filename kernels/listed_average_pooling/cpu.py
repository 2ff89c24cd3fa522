"""Average pooling of listed cells on the host: window by window, channels in the lanes."""

import numba
from numba import prange

from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.maps import by_cell
from kernels.host.threads import ELEMENT_NS
from kernels.listed_average_pooling import backward_window, window_and_outputs
from kernels.memory import cpu as memory


@operator
def forward(x, rows, kernel, columns=None):
    """y: the mean of each window, see ``kernels.listed_average_pooling``.

    Args:
        x: M x C x 1 x 1, float32 or float64.
        rows: P x kh, int32: where the rows of each window begin among the M cells.
        kernel: int or pair (y, x).
        columns: as on a device; here the sum is taken cell by cell in any case.

    Returns:
        P x C x 1 x 1 like x. Workspace: none.
    """
    window, outputs = window_and_outputs(x, rows, kernel, columns)
    y = memory.zeros((outputs, *x.shape[1:]), x.dtype)
    _forward(*by_cell(y, x), rows, window.kernel, work=ELEMENT_NS * y.size * window.cells)
    return y


@operator
def backward(error, rows, kernel, cells):
    """dx: each window's error, shared equally by its cells.

    Args:
        error: P x C x 1 x 1, float32 or float64.
        rows, kernel: as in ``forward``.
        cells: M, of the input.

    Returns:
        M x C x 1 x 1. Workspace: none.
    """
    window = backward_window(error, rows, kernel, cells)
    gradient = memory.zeros((cells, *error.shape[1:]), error.dtype)
    work, threads = ELEMENT_NS * error.size * window.cells, numba.get_num_threads()
    _backward(*by_cell(gradient, error), rows, window.kernel, threads, work=work)
    return gradient


@compiled_parallel
def _forward(y, x, rows, kernel):
    cells = y.dtype.type(kernel[0] * kernel[1])
    for p in prange(len(y)):
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                for c in range(y.shape[1]):
                    y[p, c] += x[rows[p, i] + j, c]
        for c in range(y.shape[1]):
            y[p, c] /= cells


@compiled_parallel
def _backward(gradient, error, rows, kernel, threads):
    outputs, channels = error.shape
    cells = error.dtype.type(kernel[0] * kernel[1])
    for part in prange(threads):
        first, end = channels * part // threads, channels * (part + 1) // threads
        for p in range(outputs):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    for c in range(first, end):
                        gradient[rows[p, i] + j, c] += error[p, c] / cells
