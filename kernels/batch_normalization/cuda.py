"""Frozen batch normalisation on the device.

    y[n, c] = f((x[n, c] - mean[c]) * gamma[c] / sqrt(variance[c] + epsilon) + beta[c])

Neighbouring threads have neighbouring elements; each map is read or written once. Forward, a
thread has one element. Backward, a block has some of one channel's pixels: it scales their
errors and adds them up (see ``kernels.cuda_sums``).
"""

from functools import cache

from kernels.activation.cuda import derivative, function
from kernels.batch_normalization import check_backward, check_fold, check_forward
from kernels.cuda_sums import PIXELS_PER_BLOCK, THREADS, splits, sum_of_block, total_of
from kernels.device.api import cuda, kernel, sqrt, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.memory import cuda as memory


@cache
def _forward_kernel(activation, dtype):
    f = function(activation, dtype)

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
            y[i] = f((x[i] - mean[c]) * (gamma[c] / sqrt(variance[c] + epsilon)) + beta[c])

    return batch_normalization_forward


@cache
def _backward_kernel(activation, dtype):
    threads, add_up = THREADS, sum_of_block()
    step, share = u32(THREADS), u32(PIXELS_PER_BLOCK)
    activated = activation is not None
    differentiated = derivative(activation, dtype) if activated else None

    @kernel(THREADS)
    def batch_normalization_backward(
        error,  # N*C*P
        x,  # N*C*P
        y,  # N*C*P
        mean,  # C
        variance,  # C
        gamma,  # C
        epsilon,
        gradient,  # N*C*P
        by_gamma,  # C*splits
        by_beta,  # C*splits
        batch,
        plane,  # P
    ):
        gamma_sums = cuda.shared.array(threads, dtype)
        beta_sums = cuda.shared.array(threads, dtype)
        thread, plane = u32(cuda.threadIdx.x), u32(plane)
        channels, c = u32(cuda.gridDim.y), u32(cuda.blockIdx.y)
        center, inverse = mean[c], dtype(1) / sqrt(variance[c] + epsilon)
        scale = gamma[c] * inverse
        first = u32(u32(cuda.blockIdx.x) * share)
        i, end = u32(first + thread), u32(first + min(u32(u32(batch) * plane - first), share))
        for_gamma, for_beta = dtype(0), dtype(0)
        while i < end:
            n, p = divmod_u32(i, plane)
            at = u32((n * channels + c) * plane + p)
            e = error[at]
            if activated:
                e = differentiated(e, y[at])
            for_gamma += e * ((x[at] - center) * inverse)
            for_beta += e
            gradient[at] = e * scale
            i = u32(i + step)
        for_gamma = add_up(for_gamma, gamma_sums)
        for_beta = add_up(for_beta, beta_sums)
        if thread == u32(0):
            at = u32(c * u32(cuda.gridDim.x) + cuda.blockIdx.x)
            by_gamma[at] = for_gamma
            by_beta[at] = for_beta

    return batch_normalization_backward


@cache
def _fold_kernel(biased: bool, dtype):
    @kernel(ELEMENTWISE_THREADS)
    def batch_normalization_fold(
        weights,  # K*T
        bias,  # K
        mean,  # K
        variance,  # K
        gamma,  # K
        beta,  # K
        epsilon,
        folded,  # K*T
        shift,  # K
        taps,  # T
    ):
        i = u32(cuda.grid(1))
        if i < folded.size:
            k, tap = divmod_u32(i, taps)
            scale = gamma[k] / sqrt(variance[k] + epsilon)
            folded[i] = weights[i] * scale
            if tap == u32(0):
                before = dtype(0)
                if biased:
                    before = bias[k]
                shift[k] = (before - mean[k]) * scale + beta[k]

    return batch_normalization_fold


@operator
def forward(x, mean, variance, gamma, beta, epsilon, activation=None):
    """y = f((x - mean) / sqrt(variance + epsilon) * gamma + beta).

    Args:
        x: N x C x H x W, float32 or float64, like the others.
        mean, variance, gamma, beta: C.
        epsilon: a float.
        activation: None, or one as ``kernels.activation`` describes them.
    """
    check_forward(x, mean, variance, gamma, beta, epsilon, activation)
    dtype = x.dtype.type
    y = memory.empty(x.shape, x.dtype)
    parameters = mean, variance, gamma, beta, dtype(epsilon)
    f, plane = _forward_kernel(activation, dtype), x.shape[2] * x.shape[3]
    launch_over(f, x.size, flat("x", x), *parameters, flat("y", y), plane)
    return y


@operator
def backward(error, x, mean, variance, gamma, epsilon, activation=None, y=None, out=None):
    """(dx, dgamma, dbeta), from d = e * f'(z), z being the activation's input:

        dx = d * gamma / sqrt(variance + epsilon)
        dgamma = sum over n, y, x of d * (x - mean) / sqrt(variance + epsilon)
        dbeta = sum over n, y, x of d

    ``y`` is the output, needed only with an activation. ``out`` is an array like x that dx is
    written to, possibly error, x or y; None makes one. Workspace: two partial sums of each channel
    for some thousand pixels.
    """
    check_backward(error, x, mean, variance, gamma, epsilon, activation, y, out)
    (n, c, h, w), dtype = x.shape, x.dtype.type
    gradient, parts = memory.empty(x.shape, x.dtype) if out is None else out, splits(n, h * w)
    sums = [memory.empty((c * parts,), x.dtype) for _ in range(2)]
    maps = [flat(*m) for m in (("error", error), ("x", x), ("y", x if activation is None else y))]
    parameters = mean, variance, gamma, dtype(epsilon), flat("gradient", gradient)
    f = _backward_kernel(activation, dtype)
    launch(f, (parts, c), THREADS, *maps, *parameters, *sums, n, h * w)
    return gradient, *(total_of(s, c, parts) for s in sums)


@operator
def fold(weights, bias, mean, variance, gamma, beta, epsilon):
    """(weights, bias) of one convolution in place of a convolution and its batch normalisation.

    ``weights`` is K x C x kh x kw; ``bias``, which may be None, and the parameters of the
    normalisation are K.
    """
    check_fold(weights, bias, mean, variance, gamma, beta, epsilon)
    dtype = weights.dtype.type
    folded, shift = (memory.empty(a.shape, a.dtype) for a in (weights, mean))
    parameters = mean, variance, gamma, beta, dtype(epsilon)
    launch_over(
        _fold_kernel(bias is not None, dtype),
        weights.size,
        flat("weights", weights),
        mean if bias is None else bias,
        *parameters,
        flat("folded", folded),
        shift,
        weights.size // mean.size,
    )
    return folded, shift
