"""The window that a convolution or a pooling moves over a map, and the sizes that follow.

Notation (Li, Zhao & Wang 2014, section 3): a window of ``kernel`` k, ``stride`` s and ``dilation``
d reads, for output o, the inputs o*s + i*d, 0 <= i < k. Every pair is (y, x); every map is NCHW.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels import checks
from kernels.checks import Pair, pair


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pooling window; every field is a pair (y, x)."""

    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)

    @classmethod
    def of(cls, kernel: int | Pair, stride: int | Pair = 1, dilation: int | Pair = 1) -> Window:
        """A window from ints or pairs.

        Raises:
            ValueError: an argument is not one or two positive ints.
        """
        return cls(pair("kernel", kernel), pair("stride", stride), pair("dilation", dilation))

    @property
    def cells(self) -> int:
        """Number of cells read for one output."""
        return self.kernel[0] * self.kernel[1]

    @property
    def footprint(self) -> Pair:
        """Rows and columns spanned, (k - 1) * d + 1."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation))

    def output_size(self, size: Pair) -> Pair:
        """Rows and columns of the output for an input of ``size``, the remainder dropped.

        Raises:
            ValueError: the footprint is larger than the input.
        """
        if any(f > n for f, n in zip(self.footprint, size)):
            raise ValueError(
                f"input size is {size[0]} x {size[1]}; expected at least the footprint "
                f"{self.footprint[0]} x {self.footprint[1]} of kernel {self.kernel} "
                f"with dilation {self.dilation}"
            )
        return tuple((n - f) // s + 1 for n, f, s in zip(size, self.footprint, self.stride))

    def taps(self, output: Pair):
        """(i, j, rows, columns) of each cell (i, j), row by row: the slices of the input's rows and
        columns that outputs of that size read through it."""
        (sy, sx), (dy, dx), (ho, wo) = self.stride, self.dilation, output
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                rows = slice(i * dy, i * dy + (ho - 1) * sy + 1, sy)
                columns = slice(j * dx, j * dx + (wo - 1) * sx + 1, sx)
                yield i, j, rows, columns

    def effective(self, output: Pair) -> Window:
        """The same cells for outputs of size ``output``, without strides and dilations that move
        none."""
        return Window(
            self.kernel,
            tuple(s if n > 1 else 1 for n, s in zip(output, self.stride)),
            tuple(d if k > 1 else 1 for k, d in zip(self.kernel, self.dilation)),
        )


@dataclass(frozen=True)
class PoolingShape:
    """Everything that a pooling kernel needs to know about its arrays."""

    batch: int
    channels: int
    size: Pair
    window: Window
    output: Pair

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input, N x C x H x W."""
        return (self.batch, self.channels, *self.size)

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the output, of its argmax and of its error map, N x C x Ho x Wo."""
        return (self.batch, self.channels, *self.output)

    @classmethod
    def of_input(cls, x, kernel, stride, dilation) -> PoolingShape:
        """The shape of a pooling of ``x``."""
        checks.array("x", x, (None,) * 4)
        return cls._of(x.shape, kernel, stride, dilation)

    @classmethod
    def of_error(cls, error, size, kernel, stride, dilation) -> PoolingShape:
        """The shape of a pooling of an input of ``size`` (H, W) whose error map is ``error``."""
        checks.array("error", error, (None,) * 4)
        shape = cls._of((*error.shape[:2], *pair("size", size)), kernel, stride, dilation)
        checks.array("error", error, shape.y)
        return shape

    @classmethod
    def _of(cls, x, kernel, stride, dilation):
        window = Window.of(kernel, stride, dilation)
        size = tuple(x[2:])
        output = window.output_size(size)
        return cls(x[0], x[1], size, window.effective(output), output)
