"""Sums over all pixels of a channel: the gradients by a bias, a shift and a scale.

    shift[c] = sum_n,p e[n, c, p]
    scale[c] = sum_n,p e[n, c, p] * (x[n, c, p] - mean[c]) / sqrt(variance[c] + epsilon)

Trees in two stages. Each block adds up a share of one channel's pixels: a thread some tens of them,
neighbours on neighbouring threads, then the block its threads' sums by halves. A second launch
adds the blocks' sums in the same way. No atomics: the same bits every time. Each map is read once.
"""

from functools import cache

from kernels.cuda_api import SMALL_BLOCKS, ceil_division, cuda, flat, kernel, launch, sqrt, u32
from kernels.memory import cuda as memory

# Powers of two
THREADS = 4 if SMALL_BLOCKS else 256
PIXELS_PER_THREAD = 32


@cache
def _sums_kernel(dtype, scaled: bool):
    threads, share = THREADS, u32(PIXELS_PER_THREAD * THREADS)

    @kernel(THREADS)
    def channel_sums_of_block(
        error,  # N*C*P
        x,  # N*C*P
        mean,  # C
        variance,  # C
        epsilon,
        shift,  # C*splits
        scale,  # C*splits
        batch,
        plane,  # P
    ):
        shift_sums = cuda.shared.array(threads, dtype)
        scale_sums = cuda.shared.array(threads, dtype)
        thread, step = u32(cuda.threadIdx.x), u32(threads)
        channels, c = u32(cuda.gridDim.y), u32(cuda.blockIdx.y)
        plane = u32(plane)
        start = u32(u32(cuda.blockIdx.x) * share)
        end = u32(min(u32(u32(batch) * plane - start), share))
        n = u32((start + thread) // plane)
        p = u32(start + thread - n * plane)
        step_n = u32(step // plane)
        step_p = u32(step - step_n * plane)
        total, scaled_total = dtype(0), dtype(0)
        center, factor = dtype(0), dtype(0)
        if scaled:
            center, factor = mean[c], dtype(1) / sqrt(variance[c] + epsilon)
        done = thread
        while done < end:
            at = u32((n * channels + c) * plane + p)
            total += error[at]
            if scaled:
                scaled_total += error[at] * ((x[at] - center) * factor)
            n = u32(n + step_n)
            p = u32(p + step_p)
            if p >= plane:
                p = u32(p - plane)
                n = u32(n + u32(1))
            done = u32(done + step)

        shift_sums[thread] = total
        scale_sums[thread] = scaled_total
        half = u32(step // u32(2))
        while half > u32(0):
            cuda.syncthreads()
            if thread < half:
                shift_sums[thread] += shift_sums[u32(thread + half)]
                if scaled:
                    scale_sums[thread] += scale_sums[u32(thread + half)]
            half = u32(half // u32(2))
        if thread == u32(0):
            at = u32(c * u32(cuda.gridDim.x) + cuda.blockIdx.x)
            shift[at] = shift_sums[u32(0)]
            if scaled:
                scale[at] = scale_sums[u32(0)]

    return channel_sums_of_block


def _partial(error, x, mean, variance, epsilon, scaled, batch, channels, plane):
    splits = ceil_division(batch * plane, PIXELS_PER_THREAD * THREADS)
    shift = memory.empty((channels * splits,), error.dtype)
    scale = memory.empty((channels * splits,), error.dtype) if scaled else shift
    launch(
        _sums_kernel(error.dtype.type, scaled),
        (splits, channels),
        THREADS,
        error,
        x,
        mean,
        variance,
        error.dtype.type(epsilon),
        shift,
        scale,
        batch,
        plane,
    )
    return splits, shift, scale


def total_of(sums, channels, splits):
    """C sums of C x splits."""
    while splits > 1:
        splits, sums, _ = _partial(sums, sums, sums, sums, 0, False, 1, channels, splits)
    return sums


def channel_sums(error):
    """The sum of each channel of ``error``, N x C x H x W."""
    n, c, h, w = error.shape
    error = flat("error", error)
    splits, sums, _ = _partial(error, error, error, error, 0, False, n, c, h * w)
    return total_of(sums, c, splits)


def normalized_channel_sums(error, x, mean, variance, epsilon):
    """(scale, shift) for checked arguments: the formulas above."""
    n, c, h, w = error.shape
    maps = flat("error", error), flat("x", x)
    splits, shift, scale = _partial(*maps, mean, variance, epsilon, True, n, c, h * w)
    return total_of(scale, c, splits), total_of(shift, c, splits)
