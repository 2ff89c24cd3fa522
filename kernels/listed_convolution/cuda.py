"""Convolution of listed cells on the device: a thread for each number of the result.

Forward, the bias joins the sum at its end, as in the tiles of ``kernels.convolution``: the bits are
the same. There and for the weight gradient, neighbouring threads have neighbouring output channels:
they read the same number of x, and neighbours of the error. The input gradient goes tap by tap, one
launch each: no two outputs read a cell by the same tap, so threads share no sum, there are no
atomics, and the order of the sums is that of the taps.
"""

from functools import cache

from kernels.activation.cuda import function
from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.listed_convolution import (
    forward_shape,
    gradient_input_shape,
    gradient_weights_shape,
)
from kernels.memory import cuda as memory

# Outputs whose share of a weight's gradient is added up before it joins the sum
BLOCK = 256


@cache
def _forward_kernel(dtype, activation):
    f, no_bias = function(activation, dtype), dtype(-0.0)

    @kernel(ELEMENTWISE_THREADS)
    def listed_convolution_forward(
        x,  # M*C
        rows,  # P*kh
        weights,  # K*C*kh*kw
        bias,  # K; one number where there is none
        y,  # P*K
        filters,  # K
        depth,  # C
        size,  # (kh, kw)
        biased,  # 0 or 1
    ):
        index = u32(cuda.grid(1))
        if index < y.size:
            p, k = divmod_u32(index, filters)
            height, width, depth = u32(size[0]), u32(size[1]), u32(depth)
            total = dtype(0)
            w = u32(k * depth * height * width)
            for c in range(depth):
                for i in range(height):
                    at = u32(u32(rows[u32(p * height + i)]) * depth + c)
                    for _ in range(width):
                        total += weights[w] * x[at]
                        at, w = u32(at + depth), u32(w + u32(1))
            y[index] = f(total + (bias[k] if biased else no_bias))

    return listed_convolution_forward


@cache
def _weights_kernel(dtype):
    block = u32(BLOCK)

    @kernel(ELEMENTWISE_THREADS)
    def listed_convolution_gradient_weights(
        x,  # M*C
        rows,  # P*kh
        error,  # P*K
        gradient,  # K*C*kh*kw
        outputs,  # P
        filters,  # K
        depth,  # C
        size,  # (kh, kw)
    ):
        index = u32(cuda.grid(1))
        if index < gradient.size:
            height, width = u32(size[0]), u32(size[1])
            rest, k = divmod_u32(index, filters)
            rest, c = divmod_u32(rest, depth)
            i, j = divmod_u32(rest, width)
            total, p = dtype(0), u32(0)
            while p < u32(outputs):
                of_block, end = dtype(0), min(u32(p + block), u32(outputs))
                while p < end:
                    at = u32((u32(rows[u32(p * height + i)]) + j) * u32(depth) + c)
                    of_block += error[u32(p * u32(filters) + k)] * x[at]
                    p = u32(p + u32(1))
                total += of_block
            gradient[u32(((k * u32(depth) + c) * height + i) * width + j)] = total

    return listed_convolution_gradient_weights


@cache
def _input_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def listed_convolution_gradient_input(
        error,  # P*K
        rows,  # P*kh
        weights,  # K*C*kh*kw
        gradient,  # M*C
        count,  # P*C
        filters,  # K
        depth,  # C
        size,  # (kh, kw)
        tap,  # (i, j)
    ):
        index = u32(cuda.grid(1))
        if index < u32(count):
            height, width, depth = u32(size[0]), u32(size[1]), u32(depth)
            p, c = divmod_u32(index, depth)
            w = u32((c * height + u32(tap[0])) * width + u32(tap[1]))
            e, total = u32(p * u32(filters)), dtype(0)
            for _ in range(filters):
                total += weights[w] * error[e]
                w, e = u32(w + depth * height * width), u32(e + u32(1))
            cell = u32(u32(rows[u32(p * height + u32(tap[0]))]) + u32(tap[1]))
            gradient[u32(cell * depth + c)] += total

    return listed_convolution_gradient_input


@operator
def forward(x, rows, weights, bias=None, *, activation=None):
    """y = f(b + w * x), P x K x 1 x 1; arguments as ``kernels.listed_convolution.cpu``."""
    shape = forward_shape(x, rows, weights, bias, activation)
    y = memory.empty(shape.y, x.dtype)
    arrays = flat("x", x), flat("rows", rows), flat("weights", weights)
    biases = x if bias is None else bias
    launch_over(
        _forward_kernel(x.dtype.type, activation),
        y.size,
        *arrays,
        flat("bias", biases),
        flat("y", y),
        shape.filters,
        shape.channels,
        shape.kernel,
        int(bias is not None),
    )
    return y


@operator
def gradient_weights(x, rows, error, kernel):
    """dw, K x C x kh x kw; arguments as ``kernels.listed_convolution.cpu``."""
    shape = gradient_weights_shape(x, rows, error, kernel)
    gradient = memory.empty(shape.weights, x.dtype)
    launch_over(
        _weights_kernel(x.dtype.type),
        gradient.size,
        flat("x", x),
        flat("rows", rows),
        flat("error", error),
        flat("gradient", gradient),
        shape.outputs,
        shape.filters,
        shape.channels,
        shape.kernel,
    )
    return gradient


@operator
def gradient_input(error, rows, weights, cells):
    """dx, M x C x 1 x 1; arguments as ``kernels.listed_convolution.cpu``."""
    shape = gradient_input_shape(error, rows, weights, cells)
    gradient = memory.zeros(shape.x, error.dtype)
    arrays = flat("error", error), flat("rows", rows), flat("weights", weights)
    count = shape.outputs * shape.channels
    sizes = count, shape.filters, shape.channels, shape.kernel
    for i in range(shape.kernel[0]):
        for j in range(shape.kernel[1]):
            target = flat("gradient", gradient)
            launch_over(_input_kernel(error.dtype.type), count, *arrays, target, *sizes, (i, j))
    return gradient
