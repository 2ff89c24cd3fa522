"""Selecting cells of a list on the device: a thread for each number, neighbours in the list side by
side.

Bytes: each number once, read and written.
"""

from functools import cache

import numpy as np

from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.listed_cells import (
    DEVICE,
    check_gather,
    check_gather_backward,
    check_select,
    check_select_backward,
    check_table,
)
from kernels.memory import cuda as memory

LAYOUT = DEVICE
"""How the lists that these operators take lie in memory."""


@cache
def _table_kernels():
    @kernel(ELEMENTWISE_THREADS)
    def begin_table(
        rows,  # P*kh
        table,  # kh*(P + M)
        outputs,  # P
        height,  # kh
        columns,  # P + M
    ):
        at = u32(cuda.grid(1))
        if at < table.size:
            i, p = divmod_u32(at, columns)
            table[at] = rows[u32(p * u32(height) + i)] if p < u32(outputs) else np.int32(-1)

    @kernel(ELEMENTWISE_THREADS)
    def note_readers(
        table,  # kh*(P + M)
        count,  # kh*P
        outputs,  # P
        columns,  # P + M
    ):
        at = u32(cuda.grid(1))
        if at < u32(count):
            i, p = divmod_u32(at, outputs)
            row = u32(i * u32(columns))
            table[u32(row + u32(outputs) + u32(table[u32(row + p)]))] = np.int32(p)

    return begin_table, note_readers


@cache
def _select_kernel(dtype, backward):
    @kernel(ELEMENTWISE_THREADS)
    def select_cells(
        some,  # C*P
        cells,  # P
        all_,  # C*M
        outputs,  # P
        count,  # M
    ):
        i = u32(cuda.grid(1))
        if i < some.size:
            c, p = divmod_u32(i, outputs)
            at = u32(c * u32(count) + u32(cells[p]))
            if backward:
                all_[at] = some[i]
            else:
                some[i] = all_[at]

    return select_cells


@cache
def _gather_kernel(dtype, backward):
    @kernel(ELEMENTWISE_THREADS)
    def gather_cells(
        some,  # C*P
        rows,  # P
        columns,  # P
        image,  # C*H*W
        outputs,  # P
        size,  # (H, W)
    ):
        i = u32(cuda.grid(1))
        if i < some.size:
            c, p = divmod_u32(i, outputs)
            y, x = rows[p], columns[p]
            outside = y < 0 or x < 0
            at = u32((c * u32(size[0]) + u32(y)) * u32(size[1]) + u32(x))
            if backward:
                image[at] = some[i]
            elif outside:
                some[i] = dtype(0)
            else:
                some[i] = image[at]

    return gather_cells


@operator
def table(rows, cells):
    """The table of ``rows`` (P x kh, int32) over M = ``cells`` cells: kh x (P + M), int32."""
    check_table(rows, cells)
    outputs, height = rows.shape
    made = memory.empty(DEVICE.table_shape(outputs, height, cells), "int32")
    columns = outputs + cells
    begin, note = _table_kernels()
    launch_over(begin, made.size, flat("rows", rows), flat("table", made), outputs, height, columns)
    count = outputs * height
    launch_over(note, count, flat("table", made), count, outputs, columns)
    return made


@operator
def select(x, cells):
    """The cells of x, 1 x C x 1 x M, whose numbers stand in ``cells`` (P, int32)."""
    check_select(x, cells, DEVICE)
    count, outputs = x.shape[3], cells.shape[0]
    y = memory.empty(DEVICE.shape(outputs, x.shape[1]), x.dtype)
    arrays = flat("y", y), cells, flat("x", x)
    launch_over(_select_kernel(x.dtype.type, False), y.size, *arrays, outputs, count)
    return y


@operator
def select_backward(error, cells, count):
    """The gradient of ``select`` by its x of ``count`` cells; each is selected at most once."""
    check_select_backward(error, cells, count, DEVICE)
    gradient = memory.zeros(DEVICE.shape(count, error.shape[1]), error.dtype)
    arrays = flat("error", error), cells, flat("gradient", gradient)
    sizes = cells.shape[0], count
    launch_over(_select_kernel(error.dtype.type, True), error.size, *arrays, *sizes)
    return gradient


@operator
def gather(image, rows, columns):
    """Cells of an image, 1 x C x H x W, at ``rows`` and ``columns`` (P, int32); zeros at -1."""
    check_gather(image, rows, columns)
    y = memory.empty(DEVICE.shape(rows.shape[0], image.shape[1]), image.dtype)
    arrays = flat("y", y), rows, columns, flat("image", image)
    sizes = rows.shape[0], tuple(image.shape[2:])
    launch_over(_gather_kernel(image.dtype.type, False), y.size, *arrays, *sizes)
    return y


@operator
def gather_backward(error, rows, columns, size):
    """The gradient of ``gather`` by the image of ``size``; each place is gathered at most once."""
    check_gather_backward(error, rows, columns, size, DEVICE)
    gradient = memory.zeros((1, error.shape[1], *size), error.dtype)
    arrays = flat("error", error), rows, columns, flat("gradient", gradient)
    sizes = rows.shape[0], tuple(size)
    launch_over(_gather_kernel(error.dtype.type, True), error.size, *arrays, *sizes)
    return gradient
