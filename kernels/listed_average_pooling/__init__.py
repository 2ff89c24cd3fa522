"""Average pooling of the cells of a list (``kernels.listed_cells``), each with its own window.

y[p, c] = (sum over i, j of x[rows[p, i] + j, c]) / (kh * kw)
"""

from __future__ import annotations

from kernels import checks
from kernels.checks import Pair
from kernels.listed_cells import check_rows


def forward_kernel(x, rows, kernel) -> Pair:
    """(kh, kw); checks the arguments of the forward pass."""
    kernel = checks.pair("kernel", kernel)
    checks.array("x", x, (None, None, 1, 1))
    check_rows(rows, kernel, x.shape[0])
    return kernel


def backward_kernel(error, rows, kernel, cells) -> Pair:
    """(kh, kw); checks the arguments of the backward pass."""
    kernel = checks.pair("kernel", kernel)
    outputs = check_rows(rows, kernel, checks.count("cells", cells))
    checks.array("error", error, (outputs, None, 1, 1))
    return kernel
