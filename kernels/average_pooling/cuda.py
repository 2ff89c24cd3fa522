"""Average pooling on the device.

    y[n, c, oy, ox] = sum over i, j of x[n, c, oy*s + i*d, ox*s + j*d], divided by kh * kw

A thread for each output forward, summing in row-major window order, and for each input backward,
adding the errors of the windows that cover it: no atomics. Neighbours along x are on neighbouring
threads. Bytes: each map once, as far as the cache holds the rows of a window.
"""

from functools import cache

from kernels import geometry
from kernels.cuda_api import ELEMENTWISE_THREADS, cuda, flat, kernel, launch_over, u32
from kernels.cuda_arrays import operator
from kernels.max_pooling.cuda import Sizes, first_cell
from kernels.memory import cuda as memory


@cache
def _forward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def average_pooling_forward(
        x,  # N*C*H*W
        y,  # N*C*Ho*Wo
        g,  # Sizes
    ):
        at = u32(cuda.grid(1))
        kernel_y, kernel_x = u32(g.kernel[0]), u32(g.kernel[1])
        width = u32(g.size[1])
        if at < y.size:
            row = u32(at // u32(g.output[1]))
            ox = u32(at - row * u32(g.output[1]))
            plane = u32(row // u32(g.output[0]))
            oy = u32(row - plane * u32(g.output[0]))
            first = u32(plane * u32(g.size[0]) + oy * u32(g.stride[0]))
            first = u32(first * width + ox * u32(g.stride[1]))
            total = dtype(0)
            i = u32(0)
            while i < kernel_y:
                j = u32(0)
                while j < kernel_x:
                    total += x[u32(first + j * u32(g.dilation[1]))]
                    j = u32(j + u32(1))
                first = u32(first + u32(g.dilation[0]) * width)
                i = u32(i + u32(1))
            y[at] = total / dtype(kernel_y * kernel_x)

    return average_pooling_forward


@cache
def _backward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def average_pooling_backward(
        error,  # N*C*Ho*Wo
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
                        total += error[u32((plane * output_y + oy) * output_x + ox)]
                    j = u32(j + apart_x)
                    ox = u32(ox - u32(g.windows_apart[1]))
                i = u32(i + apart_y)
                oy = u32(oy - u32(g.windows_apart[0]))
            gradient[at] = total / dtype(kernel_y * kernel_x)

    return average_pooling_backward


@operator
def forward(x, kernel, *, stride=1, dilation=1):
    """y: the mean of each window of x, N x C x H x W in float32 or float64: N x C x Ho x Wo.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.pooling_forward(x, kernel, stride, dilation)
    y = memory.empty(shape.y, x.dtype)
    f = _forward_kernel(x.dtype.type)
    launch_over(f, y.size, flat("x", x), flat("y", y), Sizes.of(shape))
    return y


@operator
def backward(error, size, kernel, *, stride=1, dilation=1):
    """dx, N x C x H x W for ``size`` (H, W): each window's error, shared equally by its cells.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    shape = geometry.pooling_backward(error, size, kernel, stride, dilation)
    gradient = memory.empty(shape.x, error.dtype)
    f = _backward_kernel(error.dtype.type)
    arguments = flat("error", error), flat("gradient", gradient), Sizes.of(shape)
    launch_over(f, gradient.size, *arguments)
    return gradient
