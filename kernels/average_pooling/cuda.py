"""Average pooling on the device.

    y[n, c, oy, ox] = sum over i of (sum over j of x[n, c, oy*s + i*d, ox*s + j*d]) / (kh * kw)

Each window adds up its rows, one after the other. With a vertical stride of 1, as in the dense
form, a thread adds up each row once, for a strip of outputs; backward, for a strip of inputs, it
adds the errors of the windows that cover them: no atomics.

Bytes: each map once. What threads share they read from the cache, as in ``kernels.max_pooling``.
"""

from functools import cache

from kernels.checks import Pair
from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.device.windows import STRIP, Sizes, Strips, first_of, first_window, strip_of
from kernels.memory import cuda as memory
from kernels.window import PoolingShape


@cache
def _forward_kernel(dtype, window: Pair, strip: int):
    rows, columns = window
    cells = dtype(rows * columns)

    @kernel(ELEMENTWISE_THREADS)
    def average_pooling_forward(
        x,  # N*C*H*W
        y,  # N*C*Ho*Wo
        strips,  # Strips of outputs
        g,  # Sizes
    ):
        totals = cuda.local.array(strip, dtype)
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        dilation_y, dilation_x = u32(g.dilation[0]), u32(g.dilation[1])
        height, width = u32(g.size[0]), u32(g.size[1])
        plane, oy, ox = first_of(u32(cuda.grid(1)), strips)
        if plane < u32(strips.planes) and oy < output_y and ox < output_x:
            for v in range(strip):
                totals[v] = dtype(0)
            row = u32(oy * u32(g.stride[0]))
            at = u32(u32(u32(plane * height) + row) * width + ox * u32(g.stride[1]))
            for t in range(rows + strip - 1):
                if row < height:
                    of_row = dtype(0)
                    for j in range(columns):
                        of_row += x[u32(at + u32(u32(j) * dilation_x))]
                    for v in range(strip):
                        if 0 <= t - v < rows:
                            totals[v] += of_row
                row = u32(row + dilation_y)
                at = u32(at + u32(dilation_y * width))
            at = u32(u32(u32(plane * output_y) + oy) * output_x + ox)
            for v in range(strip):
                if oy < output_y:
                    y[at] = totals[v] / cells
                oy = u32(oy + dilation_y)
                at = u32(at + u32(dilation_y * output_x))

    return average_pooling_forward


@cache
def _dense_backward_kernel(dtype, window: Pair):
    """For stride 1: a thread has a strip of inputs."""
    rows, columns = window
    cells = dtype(rows * columns)

    @kernel(ELEMENTWISE_THREADS)
    def average_pooling_dense_backward(
        error,  # N*C*Ho*Wo
        gradient,  # N*C*H*W
        strips,  # Strips of inputs
        g,  # Sizes
    ):
        totals = cuda.local.array(STRIP, dtype)
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        dilation_y, dilation_x = u32(g.dilation[0]), u32(g.dilation[1])
        height, width = u32(g.size[0]), u32(g.size[1])
        plane, y, x = first_of(u32(cuda.grid(1)), strips)
        if plane < u32(strips.planes) and y < height and x < width:
            for v in range(STRIP):
                totals[v] = dtype(0)
            # The windows whose row t lies on the strip's last input, and row t + v - (STRIP - 1) on
            # input v. Beyond the top and the left edge, positions wrap and are too large
            oy = u32(y + u32(STRIP - 1) * dilation_y)
            for t in range(rows + STRIP - 1):
                if oy < output_y:
                    of_row = dtype(0)
                    first = u32(u32(u32(plane * output_y) + oy) * output_x)
                    for j in range(columns):
                        ox = u32(x - u32(u32(j) * dilation_x))
                        if ox < output_x:
                            of_row += error[u32(first + ox)]
                    for v in range(STRIP):
                        if 0 <= t + v - (STRIP - 1) < rows:
                            totals[v] += of_row
                oy = u32(oy - dilation_y)
            at = u32(u32(u32(plane * height) + y) * width + x)
            for v in range(STRIP):
                if y < height:
                    gradient[at] = totals[v] / cells
                y = u32(y + dilation_y)
                at = u32(at + u32(dilation_y * width))

    return average_pooling_dense_backward


@cache
def _backward_kernel(dtype):
    """For any stride: a thread has one input, which few windows cover."""

    @kernel(ELEMENTWISE_THREADS)
    def average_pooling_backward(
        error,  # N*C*Ho*Wo
        gradient,  # N*C*H*W
        cells,  # of a window
        g,  # Sizes
    ):
        at = u32(cuda.grid(1))
        output_y, output_x = u32(g.output[0]), u32(g.output[1])
        kernel_y, kernel_x = u32(g.kernel[0]), u32(g.kernel[1])
        if at < gradient.size:
            plane, oy, first_ox, i, first_j = first_window(at, g)
            total = dtype(0)
            # Beyond the top and the left edge, positions wrap and are too large
            while i < kernel_y:
                j, ox = first_j, first_ox
                while oy < output_y and j < kernel_x:
                    if ox < output_x:
                        total += error[u32(u32(u32(plane * output_y) + oy) * output_x + ox)]
                    j = u32(j + u32(g.cells_apart[1]))
                    ox = u32(ox - u32(g.windows_apart[1]))
                i = u32(i + u32(g.cells_apart[0]))
                oy = u32(oy - u32(g.windows_apart[0]))
            gradient[at] = total / cells

    return average_pooling_backward


@operator
def forward(x, kernel, *, stride=1, dilation=1):
    """y: the mean of each window of x, N x C x H x W in float32 or float64: N x C x Ho x Wo.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = PoolingShape.of_input(x, kernel, stride, dilation)
    y = memory.empty(shape.y, x.dtype)
    strip = strip_of(shape.window.stride[0])
    strips = Strips.of(shape, shape.output, strip)
    f = _forward_kernel(x.dtype.type, shape.window.kernel, strip)
    launch_over(f, strips.threads, flat("x", x), flat("y", y), strips, Sizes.of(shape))
    return y


@operator
def backward(error, size, kernel, *, stride=1, dilation=1):
    """dx, N x C x H x W for ``size`` (H, W): each window's error, shared equally by its cells.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = PoolingShape.of_error(error, size, kernel, stride, dilation)
    gradient = memory.empty(shape.x, error.dtype)
    number, arrays = error.dtype.type, (flat("error", error), flat("gradient", gradient))
    if shape.window.stride == (1, 1):
        strips = Strips.of(shape, shape.size, STRIP)
        f = _dense_backward_kernel(number, shape.window.kernel)
        launch_over(f, strips.threads, *arrays, strips, Sizes.of(shape))
    else:
        cells = number(shape.window.cells)
        launch_over(_backward_kernel(number), gradient.size, *arrays, cells, Sizes.of(shape))
    return gradient
