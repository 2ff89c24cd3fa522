"""Max pooling on the device.

    y[n, c, oy, ox] = max over i, j of x[n, c, oy*s + i*d, ox*s + j*d]

Forward with a vertical stride of 1, as in the dense form, outputs d rows apart share input rows: a
thread takes the maximum of each row once and updates ``STRIP`` outputs with it, which reads
(STRIP + kh - 1) * kw values for them in place of STRIP * kh * kw. Other strides share nothing, or
little: there a thread has one output.

Backward, a thread for each input visits the windows that cover it and adds the errors of those
whose argmax it is: no atomics. Comparisons select and never call max(), whose instruction drops
NaN.

Bytes: the input once and 5 for each output forward (float32); backward the same the other way.
"""

from functools import cache
from math import gcd
from typing import NamedTuple

import numpy as np

from kernels import geometry
from kernels.cuda_api import (
    ELEMENTWISE_THREADS,
    MAX_ELEMENTS,
    ceil_division,
    cuda,
    device,
    flat,
    kernel,
    launch_over,
    u32,
)
from kernels.cuda_arrays import operator
from kernels.memory import cuda as memory

# Outputs of a thread where they share input rows
STRIP = 4


class Sizes(NamedTuple):
    """Extents of the maps and of the window, pairs (y, x)."""

    planes: int  # N*C
    size: geometry.Pair
    output: geometry.Pair
    kernel: geometry.Pair
    stride: geometry.Pair
    dilation: geometry.Pair
    # Between the windows that cover one input: cells up, windows down
    cells_apart: geometry.Pair
    windows_apart: geometry.Pair

    @classmethod
    def of(cls, shape: geometry.PoolingShape):
        """The sizes of a pooling."""
        stride, dilation = shape.window.stride, shape.window.dilation
        common = [gcd(s, d) for s, d in zip(stride, dilation)]
        return cls(
            planes=shape.batch * shape.channels,
            size=shape.size,
            output=shape.output,
            kernel=shape.window.kernel,
            stride=stride,
            dilation=dilation,
            cells_apart=tuple(s // g for s, g in zip(stride, common)),
            windows_apart=tuple(d // g for d, g in zip(dilation, common)),
        )


@cache
def _forward_kernel(dtype, argmax_dtype, strip: int):
    lowest = dtype(-np.inf)
    strip_rows = u32(strip)

    @device
    def wins(value, best):
        """Whether a later value replaces the best so far: the first NaN beats everything."""
        return value > best or (value != value and best == best)

    @kernel(ELEMENTWISE_THREADS)
    def max_pooling_forward(
        x,  # N*C*H*W
        y,  # N*C*Ho*Wo
        argmax,  # N*C*Ho*Wo
        strips,  # of a plane
        g,  # Sizes
    ):
        best = cuda.local.array(strip, dtype)
        cell = cuda.local.array(strip, u32)
        i = u32(cuda.grid(1))
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        kernel_y, kernel_x = u32(g.kernel[0]), u32(g.kernel[1])
        dilation_y, dilation_x = u32(g.dilation[0]), u32(g.dilation[1])
        height, width = u32(g.size[0]), u32(g.size[1])
        s = u32(i // output_x)
        ox = u32(i - s * output_x)
        plane = u32(s // u32(strips))
        s = u32(s - plane * u32(strips))
        # A strip begins in one of the first d rows, or a multiple of STRIP * d below
        oy = u32(s // dilation_y * strip_rows * dilation_y + s % dilation_y) if strip > 1 else s
        if plane < u32(g.planes) and oy < output_y:
            for v in range(strip):
                best[v] = lowest
                cell[v] = u32(0)
            row = u32(oy * u32(g.stride[0]))
            at = u32((plane * height + row) * width + ox * u32(g.stride[1]))
            t = u32(0)
            while t < u32(kernel_y + strip_rows - u32(1)) and row < height:
                top, column = x[at], u32(0)
                j = u32(1)
                while j < kernel_x:
                    value = x[u32(at + j * dilation_x)]
                    if wins(value, top):
                        top, column = value, j
                    j = u32(j + u32(1))
                for v in range(strip):
                    if u32(t - u32(v)) < kernel_y and wins(top, best[v]):
                        best[v] = top
                        cell[v] = u32(u32(t - u32(v)) * kernel_x + column)
                t = u32(t + u32(1))
                row = u32(row + dilation_y)
                at = u32(at + dilation_y * width)
            for v in range(strip):
                if oy < output_y:
                    at = u32((plane * output_y + oy) * output_x + ox)
                    y[at] = best[v]
                    argmax[at] = argmax_dtype(cell[v])
                oy = u32(oy + dilation_y)

    return max_pooling_forward


@device
def first_cell(y, stride, dilation, cells_apart):
    """The first cell i of a window with o*s + i*d = y for some o; beyond any window if none."""
    i = u32(0)
    while i < cells_apart and (y < u32(i * dilation) or u32(y - i * dilation) % stride != 0):
        i = u32(i + u32(1))
    return i if i < cells_apart else u32(MAX_ELEMENTS)


@cache
def _backward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def max_pooling_backward(
        error,  # N*C*Ho*Wo
        argmax,  # N*C*Ho*Wo
        gradient,  # N*C*H*W
        g,  # Sizes
    ):
        at = u32(cuda.grid(1))
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        kernel_y, kernel_x = u32(g.kernel[0]), u32(g.kernel[1])
        dilation_y, dilation_x = u32(g.dilation[0]), u32(g.dilation[1])
        stride_y, stride_x = u32(g.stride[0]), u32(g.stride[1])
        apart_y, apart_x = u32(g.cells_apart[0]), u32(g.cells_apart[1])
        if at < gradient.size:
            row = u32(at // u32(g.size[1]))
            x = u32(at - row * u32(g.size[1]))
            plane = u32(row // u32(g.size[0]))
            y = u32(row - plane * u32(g.size[0]))
            first_j = first_cell(x, stride_x, dilation_x, apart_x)
            first_ox = u32(u32(x - first_j * dilation_x) // stride_x)
            i = first_cell(y, stride_y, dilation_y, apart_y)
            oy = u32(u32(y - i * dilation_y) // stride_y)
            total = dtype(0)
            while i < kernel_y and u32(i * dilation_y) <= y:
                j, ox = first_j, first_ox
                while oy < output_y and j < kernel_x and u32(j * dilation_x) <= x:
                    if ox < output_x:
                        window = u32((plane * output_y + oy) * output_x + ox)
                        if u32(argmax[window]) == u32(i * kernel_x + j):
                            total += error[window]
                    j = u32(j + apart_x)
                    ox = u32(ox - u32(g.windows_apart[1]))
                i = u32(i + apart_y)
                oy = u32(oy - u32(g.windows_apart[0]))
            gradient[at] = total

    return max_pooling_backward


@operator
def forward(x, kernel, *, stride=1, dilation=1):
    """(y, argmax): the first maximum of each window, or its first NaN, and its cell number.

    Args:
        x: N x C x H x W, float32 or float64.
        kernel, stride, dilation: an int or (y, x).

    Returns:
        y, N x C x Ho x Wo, and the cell numbers i * kw + j in ``geometry.argmax_dtype``.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.pooling_forward(x, kernel, stride, dilation)
    argmax_dtype = np.dtype(geometry.argmax_dtype(shape.window))
    y = memory.empty(shape.y, x.dtype)
    argmax = memory.empty(shape.y, argmax_dtype)
    strip, strips = 1, shape.output[0]
    if shape.window.stride[0] == 1:
        rows = shape.window.dilation[0]
        strip, strips = STRIP, rows * ceil_division(shape.output[0], rows * STRIP)
    launch_over(
        _forward_kernel(x.dtype.type, argmax_dtype.type, strip),
        shape.batch * shape.channels * strips * shape.output[1],
        flat("x", x),
        flat("y", y),
        flat("argmax", argmax),
        strips,
        Sizes.of(shape),
    )
    return y, argmax


@operator
def backward(error, argmax, size, kernel, *, stride=1, dilation=1):
    """dx: each window's error, added to the cell that won it.

    Args:
        error: N x C x Ho x Wo, float32 or float64.
        argmax: what ``forward`` returned.
        size: (H, W) of the input.
        kernel, stride, dilation: an int or (y, x).

    Returns:
        N x C x H x W.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.pooling_backward(error, size, kernel, stride, dilation, argmax)
    gradient = memory.empty(shape.x, error.dtype)
    launch_over(
        _backward_kernel(error.dtype.type),
        gradient.size,
        flat("error", error),
        flat("argmax", argmax),
        flat("gradient", gradient),
        Sizes.of(shape),
    )
    return gradient
