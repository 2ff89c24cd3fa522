"""Padding and cropping on the device.

    zero:     y[t] = x[t - before] inside, else 0
    reflect:  y[t] = x[m] or x[period - m], m = |t - before| mod period, period = 2 * (n - 1)

along y and x. A thread for each element of the result; neighbouring threads have neighbouring
elements. The gradient of a reflection gathers: a cell i adds the errors at all t with
t = before + i or t = before - i (mod period). No atomics.
"""

from functools import cache

from kernels import checks
from kernels.device.api import cuda, device, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, MAX_ELEMENTS, flat, threads_of_row
from kernels.memory import cuda as memory
from kernels.padding import cropped_shape, padded_shape, unpadded_shape


@device
def reflected(t, before, n):
    """Which of a line's n cells lies at the position ``t`` of the padded line."""
    if n == 1:
        return u32(0)
    period = u32(u32(2) * (n - u32(1)))
    m = u32((t - before if t >= before else before - t) % period)
    return m if m < n else u32(period - m)


@cache
def _pad_kernel(dtype, reflect: bool):
    @kernel(ELEMENTWISE_THREADS)
    def pad_map(
        x,  # N*C x size
        y,  # N*C x padded_size
        size,
        padded_size,
        corner,  # (top, left)
        columns,  # threads of a row of the result
    ):
        row, j = divmod_u32(cuda.grid(1), columns)
        height, width = u32(size[0]), u32(size[1])
        top, left = u32(corner[0]), u32(corner[1])
        at = u32(row * u32(padded_size[1]) + j)
        if j < u32(padded_size[1]) and at < y.size:
            plane, i = divmod_u32(row, padded_size[0])
            if reflect:
                i, j = reflected(i, top, height), reflected(j, left, width)
            else:
                i, j = u32(i - top), u32(j - left)
            inside = i < height and j < width
            y[at] = x[u32((plane * height + i) * width + j)] if inside else dtype(0)

    return pad_map


@cache
def _crop_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def crop_map(
        x,  # N*C x size
        y,  # N*C x cropped_size
        size,
        cropped_size,
        corner,  # (top, left)
        columns,  # threads of a row of the result
    ):
        row, j = divmod_u32(cuda.grid(1), columns)
        at = u32(row * u32(cropped_size[1]) + j)
        if j < u32(cropped_size[1]) and at < y.size:
            plane, i = divmod_u32(row, cropped_size[0])
            i = u32(plane * u32(size[0]) + i + u32(corner[0]))
            y[at] = x[u32(i * u32(size[1]) + j + u32(corner[1]))]

    return crop_map


@cache
def _unreflect_kernel(dtype):
    nowhere = u32(MAX_ELEMENTS)

    @device
    def images(i, before, n):
        """(first, other, period): the cell i lies at first, other, and every period after these."""
        if n == 1:
            return u32(0), nowhere, u32(1)
        period = u32(u32(2) * (n - u32(1)))
        turning = i == 0 or i == u32(n - u32(1))
        other = nowhere if turning else u32((before + period - i) % period)
        return u32((before + i) % period), other, period

    @kernel(ELEMENTWISE_THREADS)
    def reflect_pad_backward(
        error,  # N*C x padded_size
        gradient,  # N*C x size
        padded_size,
        size,
        corner,  # (top, left)
        columns,  # threads of a row of the result
    ):
        row, j = divmod_u32(cuda.grid(1), columns)
        height, width = u32(padded_size[0]), u32(padded_size[1])
        at = u32(row * u32(size[1]) + j)
        if j < u32(size[1]) and at < gradient.size:
            plane, i = divmod_u32(row, size[0])
            y, other_y, period_y = images(i, u32(corner[0]), u32(size[0]))
            first_x, other_x, period_x = images(j, u32(corner[1]), u32(size[1]))
            total = dtype(0)
            while y < height:
                x, other = first_x, other_x
                while x < width:
                    total += error[u32((plane * height + y) * width + x)]
                    x = u32(x + period_x)
                    if x >= width:
                        x, other = other, nowhere
                y = u32(y + period_y)
                if y >= height:
                    y, other_y = other_y, nowhere
            gradient[at] = total

    return reflect_pad_backward


def _resize(f, x, shape, corner):
    """The map of ``shape`` that the kernel ``f`` makes of ``x``."""
    y = memory.empty(shape, x.dtype)
    n, c, height, width = shape
    columns = threads_of_row(width)
    sizes = tuple(x.shape[2:]), (height, width)
    maps = flat("x", x), flat("y", y)
    launch_over(f, n * c * height * columns, *maps, *sizes, corner, columns)
    return y


@operator
def pad(x, margins, mode):
    """x, N x C x H x W, with its margins filled by zeros or by reflection.

    Args:
        margins: (top, left, bottom, right).
        mode: zero or reflect.
    """
    shape = padded_shape(x, margins, mode)
    return _resize(_pad_kernel(x.dtype.type, mode == "reflect"), x, shape, tuple(margins[:2]))


@operator
def pad_backward(error, margins, mode):
    """dx: each cell's error and, for ``reflect``, the errors of all its mirror images."""
    shape = unpadded_shape(error, margins, mode)
    make = _unreflect_kernel if mode == "reflect" else _crop_kernel
    return _resize(make(error.dtype.type), error, shape, tuple(margins[:2]))


@operator
def crop(x, margins):
    """x, N x C x H x W, without its margins."""
    shape = cropped_shape(x, margins)
    return _resize(_crop_kernel(x.dtype.type), x, shape, tuple(margins[:2]))


@operator
def crop_backward(error, margins):
    """dx: the error inside the margins, zero in them."""
    checks.array("error", error, (None,) * 4)
    return pad(error, margins, "zero")
