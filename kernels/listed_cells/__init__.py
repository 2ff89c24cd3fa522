"""Maps of listed cells: M x C x 1 x 1, a batch of M cells whose channels are neighbours.

A pass that needs some cells of its maps only holds these. Operators that take one cell after the
other (activations, normalisation, merges, softmax, loss) take such a map like any other. What a
window reads stands in ``rows``, P x kh, int32: where each of its rows begins among the cells of
the source. The kw cells of a row follow one another.

    select           y[p, c] = x[cells[p], c]
    select_backward  its gradient; each cell is selected at most once
    gather           y[p, c] = image[c, rows[p], columns[p]], and 0 where one of them is -1
    gather_backward  its gradient; each place is gathered at most once
"""

import numpy as np

from kernels import checks


def check_rows(rows, kernel, cells: int) -> int:
    """Number of outputs whose windows of ``kernel`` (kh, kw) the table ``rows`` places among so
    many ``cells``; checks it."""
    checks.array("rows", rows, (None, kernel[0]), ("int32",))
    _check_reach("rows", rows, cells - kernel[1])
    return rows.shape[0]


def check_select(x, cells) -> None:
    """Check the arguments of ``select``."""
    checks.array("x", x, (None, None, 1, 1))
    checks.array("cells", cells, (None,), ("int32",))
    _check_reach("cells", cells, x.shape[0] - 1)


def check_select_backward(error, cells, count) -> None:
    """Check the arguments of ``select_backward``."""
    checks.array("cells", cells, (None,), ("int32",))
    checks.array("error", error, (cells.shape[0], None, 1, 1))
    _check_reach("cells", cells, checks.count("count", count) - 1)


def check_gather(image, rows, columns) -> None:
    """Check the arguments of ``gather``."""
    checks.array("image", image, (1, None, None, None))
    _check_places(rows, columns, image.shape[2:], -1)


def check_gather_backward(error, rows, columns, size) -> None:
    """Check the arguments of ``gather_backward``."""
    checks.array("error", error, (None, None, 1, 1))
    _check_places(rows, columns, checks.pair("size", size), 0)
    checks.array("rows", rows, (error.shape[0],), ("int32",))


def _check_places(rows, columns, size, first):
    checks.array("rows", rows, (None,), ("int32",))
    checks.array("columns", columns, (rows.shape[0],), ("int32",))
    for name, places, count in zip(("rows", "columns"), (rows, columns), size):
        _check_reach(name, places, count - 1, first)


def _check_reach(name, places, last, first=0):
    """Refuse places outside of ``first`` to ``last``, as far as the host can see them."""
    if isinstance(places, np.ndarray) and not first <= places.min() <= places.max() <= last:
        raise ValueError(
            f"{name} reaches from {places.min()} to {places.max()}; expected {first} to {last}"
        )
