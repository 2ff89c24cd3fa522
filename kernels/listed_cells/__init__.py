"""Maps of listed cells: what a pass holds that needs only some cells of its maps.

A list of M cells with C channels is M x C x 1 x 1 on the host, a batch of cells whose channels are
neighbours, and 1 x C x 1 x M on the device, a map of one row, where neighbouring threads read
neighbouring cells. Operators that take one cell after the other (activations, normalisation,
merges, softmax, loss) take either like any other map.

What windows of kh x kw read stands in a table, int32, made by ``table`` once for all operators:
where each of their rows begins among the cells of the source. The kw cells of a row follow one
another. The table is ``rows``, P x kh, on the host. On the device it is kh x (P + M): row i holds
where row i of each window begins, then for each cell the window whose row i begins there, or -1. So
gradients are gathered there, without atomics.

    table            the table of ``rows``, P x kh on the host, as operators of the backend take it
    select           y[p, c] = x[cells[p], c]
    select_backward  its gradient; each cell is selected at most once
    gather           y[p, c] = image[c, rows[p], columns[p]], and 0 where one of them is -1
    gather_backward  its gradient; each place is gathered at most once
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import checks


@dataclass(frozen=True)
class ListLayout:
    """How lists and tables lie in memory: by cell on the host, else by channel."""

    by_cell: bool

    def shape(self, cells, channels) -> tuple:
        """Shape of a list."""
        return (cells, channels, 1, 1) if self.by_cell else (1, channels, 1, cells)

    def table_shape(self, outputs, height, cells) -> tuple:
        """Shape of the table of ``outputs`` windows, ``height`` rows each, over ``cells`` cells."""
        return (outputs, height) if self.by_cell else (height, outputs + cells)

    def of_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """The list of the numbers of cells, M x C, on the host."""
        shape = self.shape(*numbers.shape)
        return np.ascontiguousarray(numbers if self.by_cell else numbers.T).reshape(shape)

    def numbers(self, array: np.ndarray) -> np.ndarray:
        """M x C, a view of a list on the host."""
        return array[:, :, 0, 0] if self.by_cell else array[0, :, 0].T

    def extents(self, name: str, array) -> tuple[int, int]:
        """(cells, channels) of the list ``array``; checks it."""
        checks.array(name, array, self.shape(None, None))
        return array.shape[0] * array.shape[3], array.shape[1]

    def outputs(self, rows, kernel, cells: int) -> int:
        """Number of outputs whose windows of ``kernel`` (kh, kw) the table ``rows`` places among
        ``cells`` cells; checks it."""
        if not self.by_cell:
            checks.array("rows", rows, (kernel[0], None), ("int32",))
            if rows.shape[1] <= cells:
                raise ValueError(
                    f"rows has shape {kernel[0]} x {rows.shape[1]}; expected a table of windows "
                    f"over {cells} cells, which has more columns than these"
                )
            return rows.shape[1] - cells
        checks.array("rows", rows, (None, kernel[0]), ("int32",))
        _check_reach("rows", rows, cells - kernel[1])
        return rows.shape[0]


HOST, DEVICE = ListLayout(by_cell=True), ListLayout(by_cell=False)


def check_table(rows, cells) -> None:
    """Check the arguments of ``table``."""
    checks.array("rows", rows, (None, None), ("int32",))
    _check_reach("rows", rows, checks.count("cells", cells) - 1)


def check_select(x, cells, layout=HOST) -> None:
    """Check the arguments of ``select``."""
    count, _ = layout.extents("x", x)
    checks.array("cells", cells, (None,), ("int32",))
    _check_reach("cells", cells, count - 1)


def check_select_backward(error, cells, count, layout=HOST) -> None:
    """Check the arguments of ``select_backward``."""
    checks.array("cells", cells, (None,), ("int32",))
    checks.array("error", error, layout.shape(cells.shape[0], None))
    _check_reach("cells", cells, checks.count("count", count) - 1)


def check_gather(image, rows, columns) -> None:
    """Check the arguments of ``gather``."""
    checks.array("image", image, (1, None, None, None))
    _check_places(rows, columns, image.shape[2:], -1)


def check_gather_backward(error, rows, columns, size, layout=HOST) -> None:
    """Check the arguments of ``gather_backward``."""
    count, _ = layout.extents("error", error)
    _check_places(rows, columns, checks.pair("size", size), 0)
    checks.array("rows", rows, (count,), ("int32",))


def _check_places(rows, columns, size, first):
    checks.array("rows", rows, (None,), ("int32",))
    checks.array("columns", columns, (rows.shape[0],), ("int32",))
    for name, places, count in zip(("rows", "columns"), (rows, columns), size):
        _check_reach(name, places, count - 1, first)


def _check_reach(name, places, last, first=0):
    """Refuse int32 places outside of ``first`` to ``last``, as far as the host can see them."""
    if not isinstance(places, np.ndarray):
        return
    if first:
        outside = places.min() < first or places.max() > last
    else:  # once through them: of unsigned ints, negative ones are the largest
        outside = last < 0 or places.view(np.uint32).max() > last
    if outside:
        raise ValueError(
            f"{name} reaches from {places.min()} to {places.max()}; expected {first} to {last}"
        )
