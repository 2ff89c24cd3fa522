"""Average pooling of the cells of a list (``kernels.listed_cells``), each with its own window.

y[p, c] = (sum over i, j of x[rows[p, i] + j, c]) / (kh * kw)
"""

from __future__ import annotations

from kernels import checks
from kernels.listed_cells import HOST
from kernels.window import Window


def window_and_outputs(x, rows, kernel, layout=HOST) -> tuple[Window, int]:
    """(window, number of outputs); checks the arguments of the forward pass."""
    window = Window.of(kernel)
    cells, _ = layout.extents("x", x)
    return window, layout.outputs(rows, window.kernel, cells)


def backward_window(error, rows, kernel, cells, layout=HOST) -> Window:
    """The window; checks the arguments of the backward pass."""
    window = Window.of(kernel)
    outputs = layout.outputs(rows, window.kernel, checks.count("cells", cells))
    checks.array("error", error, layout.shape(outputs, None))
    return window
