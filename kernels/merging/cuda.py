"""Merging branches on the device: a thread for each element.

add:          y = x_0 + x_1, then y + x_2, ...
concatenate:  each map is copied to its channels of y
"""

from functools import cache

from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.memory import cuda as memory
from kernels.merging import check_add, check_split, concatenated_shape


@cache
def _add_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def add_maps(
        a,  # N*C*P
        b,  # N*C*P
        y,  # N*C*P, possibly a itself
    ):
        i = u32(cuda.grid(1))
        if i < y.size:
            y[i] = a[i] + b[i]

    return add_maps


@cache
def _copy_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def copy_channels(
        source,  # N*source_image
        target,  # N*target_image
        source_image,
        target_image,
        source_first,
        target_first,
        batch,
        run,  # elements of an image to copy
    ):
        n, i = divmod_u32(cuda.grid(1), run)
        if n < u32(batch):
            value = source[u32(n * u32(source_image) + u32(source_first) + i)]
            target[u32(n * u32(target_image) + u32(target_first) + i)] = value

    return copy_channels


def _copy(source, source_channel, target, target_channel, channels):
    """Copy ``channels`` channels of N x C x H x W maps."""
    n, source_channels, h, w = source.shape
    plane = h * w
    launch_over(
        _copy_kernel(source.dtype.type),
        n * channels * plane,
        flat("source", source),
        flat("target", target),
        source_channels * plane,
        target.shape[1] * plane,
        source_channel * plane,
        target_channel * plane,
        n,
        channels * plane,
    )


@operator
def add(maps):
    """The sum of maps of one shape, N x C x H x W, left to right."""
    check_add(maps)
    first = maps[0]
    y = memory.empty(first.shape, first.dtype)
    if len(maps) == 1:
        _copy(first, 0, y, 0, first.shape[1])
    total = flat("maps[0]", first)
    for i, x in enumerate(maps[1:], 1):
        sum_ = flat("y", y)
        launch_over(_add_kernel(y.dtype.type), y.size, total, flat(f"maps[{i}]", x), sum_)
        total = sum_
    return y


@operator
def concatenate(maps):
    """The maps, N x C_i x H x W, joined along their channels."""
    y = memory.empty(concatenated_shape(maps), maps[0].dtype)
    first = 0
    for x in maps:
        _copy(x, 0, y, first, x.shape[1])
        first += x.shape[1]
    return y


@operator
def concatenate_backward(error, channels):
    """The errors, N x C_i x H x W, of maps of ``channels`` channels each, in order."""
    check_split(error, channels)
    n, _, h, w = error.shape
    gradients, first = [], 0
    for count in channels:
        gradient = memory.empty((n, count, h, w), error.dtype)
        _copy(error, first, gradient, 0, count)
        gradients.append(gradient)
        first += count
    return gradients
