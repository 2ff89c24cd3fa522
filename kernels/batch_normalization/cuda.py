"""Frozen batch normalisation on the device.

    y[n, c] = (x[n, c] - mean[c]) * gamma[c] / sqrt(variance[c] + epsilon) + beta[c]

Pointwise: a thread for each element, neighbours in memory on neighbouring threads; each map moves
once. The parameters' gradients are sums over a channel, in ``kernels.cuda_sums``.
"""

from functools import cache

from kernels import geometry
from kernels.cuda_api import ELEMENTWISE_THREADS, cuda, flat, kernel, launch_over, sqrt, u32
from kernels.cuda_arrays import operator
from kernels.cuda_sums import normalized_channel_sums
from kernels.memory import cuda as memory


@cache
def _forward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def batch_normalization_forward(
        x,  # N*C*P
        mean,  # C
        variance,  # C
        gamma,  # C
        beta,  # C
        epsilon,
        y,  # N*C*P
        plane,  # P
    ):
        i = u32(cuda.grid(1))
        if i < y.size:
            c = u32(u32(i // u32(plane)) % u32(mean.size))
            y[i] = (x[i] - mean[c]) * (gamma[c] / sqrt(variance[c] + epsilon)) + beta[c]

    return batch_normalization_forward


@cache
def _backward_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def batch_normalization_backward(
        error,  # N*C*P
        variance,  # C
        gamma,  # C
        epsilon,
        gradient,  # N*C*P
        plane,  # P
    ):
        i = u32(cuda.grid(1))
        if i < gradient.size:
            c = u32(u32(i // u32(plane)) % u32(gamma.size))
            gradient[i] = error[i] * (gamma[c] / sqrt(variance[c] + epsilon))

    return batch_normalization_backward


@operator
def forward(x, mean, variance, gamma, beta, epsilon):
    """y = (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    Args:
        x: N x C x H x W, float32 or float64, like the others.
        mean, variance, gamma, beta: C.
        epsilon: a float.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.per_channel(x, mean=mean, variance=variance, gamma=gamma, beta=beta)
    dtype = x.dtype.type
    y = memory.empty(x.shape, x.dtype)
    parameters = mean, variance, gamma, beta, dtype(epsilon)
    plane = x.shape[2] * x.shape[3]
    launch_over(_forward_kernel(dtype), x.size, flat("x", x), *parameters, flat("y", y), plane)
    return y


@operator
def backward_input(error, variance, gamma, epsilon):
    """dx = e * gamma / sqrt(variance + epsilon), N x C x H x W.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.check_array("error", error, (None,) * 4)
    geometry.per_channel(error, variance=variance, gamma=gamma)
    dtype = error.dtype.type
    gradient = memory.empty(error.shape, error.dtype)
    maps = flat("error", error), variance, gamma, dtype(epsilon), flat("gradient", gradient)
    plane = error.shape[2] * error.shape[3]
    launch_over(_backward_kernel(dtype), error.size, *maps, plane)
    return gradient


@operator
def backward_parameters(error, x, mean, variance, epsilon):
    """(dgamma, dbeta): the sums over n, y, x of e * (x - mean) / sqrt(variance + epsilon) and e.

    Workspace: partial sums, two of each channel for some thousand pixels.

    Raises:
        TypeError, ValueError: naming the argument, what it was and what was expected.
    """
    geometry.same_map(error=error, x=x)
    geometry.per_channel(x, mean=mean, variance=variance)
    return normalized_channel_sums(error, x, mean, variance, epsilon)
