"""Sums over all pixels of a channel, such as the gradient by a bias.

    sums[c] = sum_n,p e[n, c, p]

A tree in two stages. Each block adds up a share of one channel's pixels: first each thread some
tens of them, where neighbouring threads read neighbouring pixels, then the block its threads' sums,
by halves. A second launch adds up the blocks' sums in the same way. No atomics: the same bits every
time. Each map is read once.
"""

from functools import cache

from kernels.device.api import SMALL_BLOCKS, cuda, device, kernel, u32
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch
from kernels.device.limits import ceil_division, flat
from kernels.memory import cuda as memory

# Powers of two
THREADS = 4 if SMALL_BLOCKS else 256
PIXELS_PER_THREAD = 32
PIXELS_PER_BLOCK = PIXELS_PER_THREAD * THREADS


@cache
def sum_of_block():
    """Device function (value, sums): the sum of the values of a block's threads, to each of them.

    ``sums`` is shared memory for ``THREADS`` numbers, not to be written again before a barrier.
    """

    def add_up(value, sums):
        thread, half = u32(cuda.threadIdx.x), u32(THREADS // 2)
        sums[thread] = value
        while half > u32(0):
            cuda.syncthreads()
            if thread < half:
                sums[thread] += sums[u32(thread + half)]
            half = u32(half // u32(2))
        cuda.syncthreads()
        return sums[u32(0)]

    return device(add_up)


@cache
def _sums_kernel(dtype):
    threads, add_up = THREADS, sum_of_block()
    step, share = u32(THREADS), u32(PIXELS_PER_BLOCK)

    @kernel(THREADS)
    def channel_sums_of_block(
        error,  # N*C*P
        sums,  # C*splits
        batch,
        plane,  # P
    ):
        shared = cuda.shared.array(threads, dtype)
        thread, plane = u32(cuda.threadIdx.x), u32(plane)
        channels, c = u32(cuda.gridDim.y), u32(cuda.blockIdx.y)
        i = u32(u32(cuda.blockIdx.x) * share + thread)
        end = u32(min(u32(u32(batch) * plane - (i - thread)), share) + (i - thread))
        total = dtype(0)
        while i < end:
            n, p = divmod_u32(i, plane)
            total += error[u32((n * channels + c) * plane + p)]
            i = u32(i + step)
        total = add_up(total, shared)
        if thread == u32(0):
            sums[u32(c * u32(cuda.gridDim.x) + cuda.blockIdx.x)] = total

    return channel_sums_of_block


def splits(batch: int, plane: int) -> int:
    """Blocks that share the pixels of one channel of ``batch`` maps."""
    return ceil_division(batch * plane, PIXELS_PER_BLOCK)


def total_of(sums, channels: int, parts: int):
    """The sum of each row of C x parts numbers."""
    while parts > 1:
        parts, sums = _partial(sums, 1, channels, parts)
    return sums


def _partial(error, batch, channels, plane):
    parts = splits(batch, plane)
    sums = memory.empty((channels * parts,), error.dtype)
    function = _sums_kernel(error.dtype.type)
    launch(function, (parts, channels), THREADS, error, sums, batch, plane)
    return parts, sums


def channel_sums(error):
    """The sum of each channel of ``error``, N x C x H x W."""
    n, c, h, w = error.shape
    parts, sums = _partial(flat("error", error), n, c, h * w)
    return total_of(sums, c, parts)
