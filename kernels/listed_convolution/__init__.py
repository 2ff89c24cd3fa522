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
from kernels.listed_cells import HOST, ListLayout


@dataclass(frozen=True)
class ListedShape:
    """Everything that a kernel needs to know about its arrays.

    Attributes:
        cells, channels: extents of the input.
        outputs, filters: extents of the output.
        kernel: (kh, kw).
        layout: the lists' layout.
    """

    cells: int
    channels: int
    outputs: int
    filters: int
    kernel: Pair
    layout: ListLayout

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input, a list of M cells."""
        return self.layout.shape(self.cells, self.channels)

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Shape of the weights, K x C x kh x kw."""
        return (self.filters, self.channels, *self.kernel)

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the output and of its error, a list of P cells."""
        return self.layout.shape(self.outputs, self.filters)

    @property
    def run(self) -> int:
        """Neighbouring numbers that a row of the window reads, kw * C."""
        return self.kernel[1] * self.channels

    @property
    def taps(self) -> int:
        """Products summed for one output, C * kh * kw."""
        return self.channels * self.kernel[0] * self.kernel[1]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the forward pass."""
        return self.outputs * self.filters * self.taps


def forward_shape(x, rows, weights, bias, activation, layout=HOST) -> ListedShape:
    """The shape of the forward pass; checks the arguments."""
    cells, channels = layout.extents("x", x)
    checks.array("weights", weights, (None, channels, None, None))
    if bias is not None:
        checks.array("bias", bias, (weights.shape[0],))
    checks.same_dtype(x=x, weights=weights, bias=bias)
    if activation is not None:
        activation_of(activation)
    filters, _, *kernel = weights.shape
    outputs = layout.outputs(rows, kernel, cells)
    return ListedShape(cells, channels, outputs, filters, tuple(kernel), layout)


def gradient_input_shape(error, rows, weights, cells, layout=HOST) -> ListedShape:
    """The shape of the gradient by an input of ``cells`` cells; checks the arguments."""
    _, filters = layout.extents("error", error)
    checks.array("weights", weights, (filters, None, None, None))
    checks.same_dtype(error=error, weights=weights)
    _, channels, *kernel = weights.shape
    outputs = layout.outputs(rows, kernel, checks.count("cells", cells))
    checks.array("error", error, layout.shape(outputs, filters))
    return ListedShape(cells, channels, outputs, filters, tuple(kernel), layout)


def gradient_weights_shape(x, rows, error, kernel, layout=HOST) -> ListedShape:
    """The shape of the gradient by weights of ``kernel`` (kh, kw); checks the arguments."""
    kernel = checks.pair("kernel", kernel)
    cells, channels = layout.extents("x", x)
    outputs = layout.outputs(rows, kernel, cells)
    checks.array("error", error, layout.shape(outputs, None))
    _, filters = layout.extents("error", error)
    checks.same_dtype(x=x, error=error)
    return ListedShape(cells, channels, outputs, filters, kernel, layout)
