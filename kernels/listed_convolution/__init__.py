"""Convolution of the cells of a list (``kernels.listed_cells``), each with a window of its own.

    y[p, k] = b[k] + sum over c, i, j of w[k, c, i, j] * x[rows[p, i] + j, c]

``rows[p, i]`` is where row i of the window of output p begins among the cells of x: the cells of a
window's row follow one another. Each output is one accumulator that runs through (c, i, j) in that
order, as ``kernels.convolution`` does: a list gives the bits of the whole map.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels import checks
from kernels.activation import activation_of
from kernels.checks import Pair
from kernels.listed_cells import check_rows


@dataclass(frozen=True)
class ListedShape:
    """Everything that a kernel needs to know about its arrays.

    Attributes:
        cells, channels: of the input.
        outputs, filters: of the output.
        kernel: (kh, kw).
    """

    cells: int
    channels: int
    outputs: int
    filters: int
    kernel: Pair

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input, M x C x 1 x 1."""
        return (self.cells, self.channels, 1, 1)

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Shape of the weights, K x C x kh x kw."""
        return (self.filters, self.channels, *self.kernel)

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the output and of its error, P x K x 1 x 1."""
        return (self.outputs, self.filters, 1, 1)

    @property
    def run(self) -> int:
        """Neighbouring numbers that a row of the window reads, kw * C."""
        return self.kernel[1] * self.channels

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the forward pass."""
        return self.outputs * self.filters * self.channels * self.kernel[0] * self.kernel[1]


def forward_shape(x, rows, weights, bias, activation) -> ListedShape:
    """Of the forward pass; checks the arguments."""
    checks.array("x", x, (None, None, 1, 1))
    checks.array("weights", weights, (None, x.shape[1], None, None))
    if bias is not None:
        checks.array("bias", bias, (weights.shape[0],))
    checks.same_dtype(x=x, weights=weights, bias=bias)
    if activation is not None:
        activation_of(activation)
    filters, channels, *kernel = weights.shape
    outputs = check_rows(rows, kernel, x.shape[0])
    return ListedShape(x.shape[0], channels, outputs, filters, tuple(kernel))


def gradient_input_shape(error, rows, weights, cells) -> ListedShape:
    """Of the gradient by an input of so many ``cells``; checks the arguments."""
    checks.array("error", error, (None, None, 1, 1))
    checks.array("weights", weights, (error.shape[1], None, None, None))
    checks.same_dtype(error=error, weights=weights)
    filters, channels, *kernel = weights.shape
    outputs = check_rows(rows, kernel, checks.count("cells", cells))
    checks.array("error", error, (outputs, filters, 1, 1))
    return ListedShape(cells, channels, outputs, filters, tuple(kernel))


def gradient_weights_shape(x, rows, error, kernel) -> ListedShape:
    """Of the gradient by weights of ``kernel`` (kh, kw); checks the arguments."""
    kernel = checks.pair("kernel", kernel)
    checks.array("x", x, (None, None, 1, 1))
    outputs = check_rows(rows, kernel, x.shape[0])
    checks.array("error", error, (outputs, None, 1, 1))
    checks.same_dtype(x=x, error=error)
    return ListedShape(x.shape[0], x.shape[1], outputs, error.shape[1], kernel)
