"""Convolution (cross-correlation) with a stride s and a dilation d, NCHW.

    y[n, k, oy, ox] = b[k] + sum over c, i, j of w[k, c, i, j] * x[n, c, oy*s + i*d, ox*s + j*d]

The patch net is (s, d = 1), its dense form (s = 1, d): the d-regularly sparse kernel of Li, Zhao &
Wang 2014, section 3. Each output is one accumulator that runs through (c, i, j) in that order, so
both forms give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from kernels import checks
from kernels.activation import activation_of
from kernels.checks import Pair
from kernels.window import Window

PARTIAL_SUMS, PARTIAL_BYTES = 16, 64 * 2**20
"""Limits of the weight gradient's workspace: the most partial sums on the host, and the most bytes
that they take anywhere, unless a single one takes more."""


def most_partial_sums(nbytes: int) -> int:
    """How many partial sums of ``nbytes`` each lie in memory at once, at most."""
    return max(1, PARTIAL_BYTES // nbytes)


@dataclass(frozen=True)
class ConvolutionShape:
    """Everything that a convolution kernel needs to know about its arrays."""

    batch: int
    channels: int
    size: Pair
    filters: int
    window: Window
    output: Pair

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input, N x C x H x W."""
        return (self.batch, self.channels, *self.size)

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Shape of the weights, K x C x kh x kw."""
        return (self.filters, self.channels, *self.window.kernel)

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the output and of its error map, N x K x Ho x Wo."""
        return (self.batch, self.filters, *self.output)

    @property
    def taps(self) -> int:
        """Products summed for one output, C * kh * kw."""
        return self.channels * self.window.cells

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the forward pass."""
        return self.batch * self.filters * self.output[0] * self.output[1] * self.taps

    @property
    def covers_map(self) -> bool:
        """Whether one undilated window covers the whole map: a fully connected layer."""
        return self.output == (1, 1) and self.window.footprint == self.size == self.window.kernel

    def flattened(self) -> ConvolutionShape:
        """The same sums as a 1 x 1 convolution over C*kh*kw channels; needs ``covers_map``."""
        return ConvolutionShape(self.batch, self.taps, (1, 1), self.filters, Window((1, 1)), (1, 1))


def forward_shape(x, weights, bias, stride, dilation, activation) -> ConvolutionShape:
    """The shape of a convolution's forward pass; checks the arguments."""
    checks.array("x", x, (None,) * 4)
    checks.array("weights", weights, (None, x.shape[1], None, None))
    if bias is not None:
        checks.array("bias", bias, (weights.shape[0],))
    checks.same_dtype(x=x, weights=weights, bias=bias)
    if activation is not None:
        activation_of(activation)
    return _shape(x.shape, weights.shape, stride, dilation)


def gradient_input_shape(error, weights, size, stride, dilation) -> ConvolutionShape:
    """The shape of a gradient by an input of ``size`` (H, W); checks the arguments."""
    checks.array("error", error, (None,) * 4)
    checks.array("weights", weights, (error.shape[1], None, None, None))
    checks.same_dtype(error=error, weights=weights)
    x = (error.shape[0], weights.shape[1], *checks.pair("size", size))
    shape = _shape(x, weights.shape, stride, dilation)
    checks.array("error", error, shape.y)
    return shape


def gradient_weights_shape(x, error, kernel, stride, dilation) -> ConvolutionShape:
    """The shape of a gradient by weights of ``kernel`` (kh, kw); checks the arguments."""
    checks.array("x", x, (None,) * 4)
    checks.array("error", error, (x.shape[0], None, None, None))
    checks.same_dtype(x=x, error=error)
    weights = (error.shape[1], x.shape[1], *checks.pair("kernel", kernel))
    shape = _shape(x.shape, weights, stride, dilation)
    checks.array("error", error, shape.y)
    return shape


def _shape(x, weights, stride, dilation) -> ConvolutionShape:
    window = Window.of(tuple(weights[2:]), stride, dilation)
    return _cached_shape(tuple(x), tuple(weights), window)


@lru_cache(1024)
def _cached_shape(x, weights, window):
    size = x[2:]
    output = window.output_size(size)
    return ConvolutionShape(x[0], x[1], size, weights[0], window.effective(output), output)
