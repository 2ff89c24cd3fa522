"""Softmax over the channels on the device.

    y[n, k] = exp(x[n, k] - m) / sum_l exp(x[n, l] - m), m = max_l x[n, l];
    dx[n, k] = y[n, k] * (e[n, k] - sum_l e[n, l] * y[n, l])

A thread for each pixel goes through its channels; neighbouring threads have neighbouring pixels.
The scores are read three times forward, both maps twice backward; with few classes the repeats hit
the cache.
"""

from functools import cache

from kernels.device.api import cuda, exp, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.memory import cuda as memory
from kernels.softmax import check_backward, check_forward


@cache
def _forward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def softmax_forward(
        x,  # N*K*P
        y,  # N*K*P
        batch,  # N
        channels,  # K
        plane,  # P
    ):
        i = u32(cuda.grid(1))
        plane = u32(plane)
        n, p = divmod_u32(i, plane)
        if n < u32(batch):
            first = u32(n * u32(channels) * plane + p)
            end = u32(first + u32(channels) * plane)
            highest = x[first]
            at = u32(first + plane)
            while at != end:
                if x[at] > highest or x[at] != x[at]:
                    highest = x[at]
                at = u32(at + plane)
            total = dtype(0)
            at = first
            while at != end:
                total += exp(x[at] - highest)
                at = u32(at + plane)
            at = first
            while at != end:
                y[at] = exp(x[at] - highest) / total
                at = u32(at + plane)

    return softmax_forward


@cache
def _backward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def softmax_backward(
        error,  # N*K*P
        y,  # N*K*P
        gradient,  # N*K*P
        batch,  # N
        channels,  # K
        plane,  # P
    ):
        i = u32(cuda.grid(1))
        plane = u32(plane)
        n, p = divmod_u32(i, plane)
        if n < u32(batch):
            first = u32(n * u32(channels) * plane + p)
            end = u32(first + u32(channels) * plane)
            total = dtype(0)
            at = first
            while at != end:
                total += error[at] * y[at]
                at = u32(at + plane)
            at = first
            while at != end:
                gradient[at] = y[at] * (error[at] - total)
                at = u32(at + plane)

    return softmax_backward


@operator
def forward(x):
    """Class probabilities of each pixel, N x K x H x W, of scores in float32 or float64."""
    check_forward(x)
    y = memory.empty(x.shape, x.dtype)
    n, k, h, w = x.shape
    f = _forward_kernel(x.dtype.type)
    launch_over(f, n * h * w, flat("x", x), flat("y", y), n, k, h * w)
    return y


@operator
def backward(error, y):
    """dx = y * (e - sum over the channels of e * y), N x K x H x W."""
    check_backward(error, y)
    gradient = memory.empty(y.shape, y.dtype)
    n, k, h, w = y.shape
    maps = flat("error", error), flat("y", y), flat("gradient", gradient)
    launch_over(_backward_kernel(y.dtype.type), n * h * w, *maps, n, k, h * w)
    return gradient
