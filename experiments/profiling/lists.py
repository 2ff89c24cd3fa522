"""Operators over lists of the cells that strokes, or isolated pixels, need.

The shape of a case is the shape of the map that holds the cells. Its stride is the distance, in the
list of the source, of neighbours in the list of the outputs: more than 1 where the layer had a
stride in the patch net. Strokes are dilated by ``FIELD``, the receptive field of the following
layers; isolated pixels are the outputs of a last layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.host import cell_maps, listing
from kernels.max_pooling import argmax_dtype

FIELD = 16, 16
"""Rows and columns of the outputs that a pixel of a stroke needs: runs of at least 8 at d = 2."""
STROKES, ISOLATED = 3, 200
"""Their numbers."""


@dataclass(frozen=True, eq=False)
class CellList:
    """How a layer reads the cells that pixels need.

    Attributes:
        cells, outputs: the numbers of cells and of outputs.
        table: the table of window rows and their readers, int32, as the device's operators take it.
        places: rows and columns of the cells in their map.
    """

    cells: int
    outputs: int
    table: np.ndarray
    places: tuple[np.ndarray, np.ndarray]

    @property
    def mean_run(self) -> float:
        """The mean number of outputs whose windows begin at neighbouring cells."""
        begins = np.sort(self.table[0, : self.outputs])
        return len(begins) / np.count_nonzero(np.diff(begins, prepend=-2) != 1)

    @classmethod
    def of(cls, case) -> CellList:
        """The list of a case."""
        size, kernel, dilation = case.shape[2:], case.kernel, case.dilation
        output = [n - (k - 1) * d for n, k, d in zip(size, kernel, dilation)]
        if case.isolated:
            pixels, field = _isolated(output), (1, 1)
        else:
            pixels, field = _strokes([n - f + 1 for n, f in zip(output, FIELD)]), FIELD
        height, width = kernel
        reads = np.array([[0, 1, *field, 1, 1, 0, 0], [1, 2, *kernel, *dilation, 0, 0]])
        spacings = np.array([(1, 1), [s * d for s, d in zip(case.stride, dilation)], dilation])
        groups, origins = np.array([0, len(pixels)]), np.zeros((1, 2), np.int64)
        maps, counts = cell_maps.traced(pixels, groups, origins, reads, spacings[:, 1])
        lists = listing.listed(maps, counts, spacings, origins)
        first, end = lists.bounds[2]
        begins, rows, columns = lists.runs
        places = begins[first : end + 1], rows[first:end], columns[first:end]
        places = listing.places(*places, dilation[1])
        readings = np.array([[1, 2, height, 1, *dilation, 0, 0, width]])
        (begins,) = listing.tables(maps, lists, spacings, origins, readings)
        readers = np.full((kernel[0], len(places[0])), -1, np.int32)
        for i, of_row in enumerate(begins.T):
            readers[i, of_row] = np.arange(len(begins))
        table = np.concatenate([begins.T, readers], axis=1)
        return cls(len(places[0]), len(begins), table, places)


def _strokes(size):
    """Rows and columns of pixels on straight lines between random places, n x 2."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(STROKES):
        begin, end = rng.random((2, 2)) * (np.array(size) - 1)
        along = np.linspace(0, 1, 2 * max(size))[:, None]
        drawn.append((begin + along * (end - begin)).astype(np.int64))
    return np.concatenate(drawn)


def _isolated(size):
    """Rows and columns of random pixels, n x 2."""
    return np.random.default_rng(0).integers(0, np.array(size)[:, None], (2, ISOLATED), np.int32).T


def _forward(call, case, new):
    some = CellList.of(case)
    weights = new.floats(case.filters, case.shape[1], *case.kernel)
    x = new.floats(1, case.shape[1], 1, some.cells)
    return call(x, some.table, weights, new.floats(case.filters))


def _gradient_input(call, case, new):
    some = CellList.of(case)
    weights = new.floats(case.filters, case.shape[1], *case.kernel)
    return call(new.floats(1, case.filters, 1, some.outputs), some.table, weights, some.cells)


def _gradient_weights(call, case, new):
    some = CellList.of(case)
    error = new.floats(1, case.filters, 1, some.outputs)
    return call(new.floats(1, case.shape[1], 1, some.cells), some.table, error, case.kernel)


def _pool(call, case, new):
    some = CellList.of(case)
    return call(new.floats(1, case.shape[1], 1, some.cells), some.table, case.kernel)


def _average_backward(call, case, new):
    some = CellList.of(case)
    error = new.floats(1, case.shape[1], 1, some.outputs)
    return call(error, some.table, case.kernel, some.cells)


def _max_backward(call, case, new):
    some = CellList.of(case)
    error = new.floats(1, case.shape[1], 1, some.outputs)
    argmax = new.integers(error.shape, argmax_dtype(case.window), case.window.cells)
    return call(error, argmax, some.table, case.kernel, some.cells)


def _gather(call, case, new):
    return call(new.floats(*case.shape), *CellList.of(case).places)


def _gather_backward(call, case, new):
    some = CellList.of(case)
    error = new.floats(1, case.shape[1], 1, some.cells)
    return call(error, *some.places, case.shape[2:])


OPERATORS = {
    "listed_convolution.forward": _forward,
    "listed_convolution.gradient_input": _gradient_input,
    "listed_convolution.gradient_weights": _gradient_weights,
    "listed_max_pooling.forward": _pool,
    "listed_max_pooling.backward": _max_backward,
    "listed_average_pooling.forward": _pool,
    "listed_average_pooling.backward": _average_backward,
    "listed_cells.gather": _gather,
    "listed_cells.gather_backward": _gather_backward,
}
