"""Average pooling of the cells of a list (``kernels.listed_cells``), each with its own window.

y[p, c] = (sum over i, j of x[rows[p, i] + j, c]) / (kh * kw)

On a device the sum is taken row by row of the layer's window, as over maps. Where the taps of such
a row do not follow one another in the list, each is a row of its own there: then ``columns`` says
how many of them make one.
"""

from __future__ import annotations

from kernels import checks
from kernels.listed_cells import HOST
from kernels.window import Window


def window_and_outputs(x, rows, kernel, columns, layout=HOST) -> tuple[Window, int]:
    """(window, number of outputs); checks the arguments of the forward pass."""
    window = Window.of(kernel)
    cells, _ = layout.extents("x", x)
    if columns is not None and window.cells % checks.count("columns", columns):
        raise ValueError(f"columns is {columns}; expected a divisor of {window.cells}, the cells")
    return window, layout.outputs(rows, window.kernel, cells)


def backward_window(error, rows, kernel, cells, layout=HOST) -> Window:
    """The window; checks the arguments of the backward pass."""
    window = Window.of(kernel)
    outputs = layout.outputs(rows, window.kernel, checks.count("cells", cells))
    checks.array("error", error, layout.shape(outputs, None))
    return window
