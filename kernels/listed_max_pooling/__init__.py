"""Max pooling of the cells of a list (``kernels.listed_cells``), each with a window of its own.

    y[p, c] = f(max over i, j of x[rows[p, i] + j, c])

f is an activation, or nothing; ``argmax`` and its rules are those of ``kernels.max_pooling``.
"""

from __future__ import annotations

from kernels import checks
from kernels.activation import activation_of
from kernels.checks import Pair
from kernels.listed_cells import HOST
from kernels.max_pooling import argmax_dtype
from kernels.window import Window


def window_and_outputs(x, rows, kernel, activation, argmax, layout=HOST) -> tuple[Window, int]:
    """(window, number of outputs); checks the arguments of the forward pass."""
    window = Window.of(kernel)
    if activation is not None:
        activation_of(activation)
    checks.flag("argmax", argmax)
    cells, _ = layout.extents("x", x)
    return window, layout.outputs(rows, window.kernel, cells)


def backward_window(error, argmax, rows, kernel: Pair, cells: int, layout=HOST) -> Window:
    """The window; checks the arguments of the backward pass."""
    window = Window.of(kernel)
    outputs = layout.outputs(rows, window.kernel, checks.count("cells", cells))
    checks.array("error", error, layout.shape(outputs, None))
    checks.array("argmax", argmax, error.shape, (argmax_dtype(window),))
    return window
