"""Average pooling of the cells of a list (``kernels.listed_cells``), each with its own window.

y[p, c] = (sum over i, j of x[rows[p, i] + j, c]) / (kh * kw)
"""

from __future__ import annotations

from kernels import checks
from kernels.checks import Pair
from kernels.listed_cells import HOST


def forward_kernel(x, rows, kernel, layout=HOST) -> tuple[Pair, int]:
    """((kh, kw), number of outputs); checks the arguments of the forward pass."""
    kernel = checks.pair("kernel", kernel)
    cells, _ = layout.check("x", x)
    return kernel, layout.check_rows(rows, kernel, cells)


def backward_kernel(error, rows, kernel, cells, layout=HOST) -> Pair:
    """(kh, kw); checks the arguments of the backward pass."""
    kernel = checks.pair("kernel", kernel)
    outputs = layout.check_rows(rows, kernel, checks.count("cells", cells))
    layout.check("error", error, outputs)
    return kernel
