"""Cross-entropy of chosen pixels on the device.

    total = sum of w[l];   loss = sum of w[l] * (log sum_k exp x[k] - x[l]) / total
    e[k] = w[l] / total * (softmax(x)[k] - [k = l]), and 0 where a pixel does not count

A thread for each pixel goes through its classes; neighbouring threads have neighbouring pixels.
Sums are trees: a block adds up its pixels by halves, and ``total_of`` the blocks in the same way.
No atomics: the same bits every time.
"""

from functools import cache

from kernels.cross_entropy import UNLABELLED, check_labels, check_scores
from kernels.device.api import SMALL_BLOCKS, cuda, device, exp, kernel, log, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, ceil_division, flat
from kernels.device.sums import total_of
from kernels.memory import cuda as memory

# A power of two
THREADS = 4 if SMALL_BLOCKS else 256


@cache
def _highest_and_sum(dtype):
    """Device function: m = max_k x[k] and sum_k exp(x[k] - m) of the pixel at ``first``."""

    def highest_and_sum(x, first, end, plane):
        highest = x[first]
        at = u32(first + plane)
        while at != end:
            if x[at] > highest:
                highest = x[at]
            at = u32(at + plane)
        total = dtype(0)
        at = first
        while at != end:
            total += exp(x[at] - highest)
            at = u32(at + plane)
        return highest, total

    return device(highest_and_sum)


@cache
def _sum_kernel(dtype, with_loss: bool):
    highest_and_sum = _highest_and_sum(dtype)
    threads = THREADS

    @kernel(THREADS)
    def cross_entropy_of_block(
        scores,  # N*K*P, read only with_loss
        labels,  # N*P
        mask,  # N*P
        class_weights,  # K
        total,  # 1, read only with_loss
        sums,  # blocks
        plane,  # P
    ):
        values = cuda.shared.array(threads, dtype)
        thread, plane = u32(cuda.threadIdx.x), u32(plane)
        i = u32(u32(cuda.blockIdx.x) * u32(threads) + thread)
        value = dtype(0)
        if i < labels.size and mask[i] and labels[i] != UNLABELLED:
            label = u32(labels[i])
            value = class_weights[label]
            if with_loss:
                n, p = divmod_u32(i, plane)
                classes = u32(class_weights.size)
                first = u32(n * classes * plane + p)
                highest, powers = highest_and_sum(
                    scores, first, u32(first + classes * plane), plane
                )
                surprise = log(powers) + highest - scores[u32(first + label * plane)]
                value = value * surprise / total[u32(0)]
        values[thread] = value
        half = u32(u32(threads) // u32(2))
        while half > u32(0):
            cuda.syncthreads()
            if thread < half:
                values[thread] += values[u32(thread + half)]
            half = u32(half // u32(2))
        if thread == u32(0):
            sums[u32(cuda.blockIdx.x)] = values[u32(0)]

    return cross_entropy_of_block


@cache
def _backward_kernel(dtype):
    highest_and_sum = _highest_and_sum(dtype)

    @kernel(ELEMENTWISE_THREADS)
    def cross_entropy_backward(
        scores,  # N*K*P
        labels,  # N*P
        mask,  # N*P
        class_weights,  # K
        total,  # 1
        error,  # N*K*P
        plane,  # P
    ):
        i = u32(cuda.grid(1))
        plane = u32(plane)
        if i < labels.size:
            n, p = divmod_u32(i, plane)
            first = u32(n * u32(class_weights.size) * plane + p)
            end = u32(first + u32(class_weights.size) * plane)
            chosen = mask[i] and labels[i] != UNLABELLED
            highest, powers, weight, of_label = dtype(0), dtype(1), dtype(0), first
            if chosen:
                highest, powers = highest_and_sum(scores, first, end, plane)
                weight = class_weights[u32(labels[i])] / total[u32(0)]
                of_label = u32(first + u32(labels[i]) * plane)
            at = first
            while at != end:
                of_class = dtype(0)
                if chosen:
                    of_class = weight * (exp(scores[at] - highest) / powers)
                    if at == of_label:
                        of_class -= weight
                error[at] = of_class
                at = u32(at + plane)

    return cross_entropy_backward


@operator
def total_weight(labels, mask, class_weights):
    """The sum of the class weights of the pixels that count, as an array of one number.

    Args:
        labels: N x H x W, int32, classes or ``UNLABELLED``.
        mask: N x H x W, bool.
        class_weights: K, float32 or float64.

    Workspace: a number for each ``THREADS`` pixels.
    """
    check_labels(labels, mask, class_weights)
    return _summed(False, class_weights, labels, mask, class_weights, class_weights)


@operator
def forward(scores, labels, mask, class_weights, total):
    """The loss of the pixels that count, as an array of one number.

    Args:
        scores: N x K x H x W, float32 or float64, before the softmax.
        labels: N x H x W, int32, classes or ``UNLABELLED``.
        mask: N x H x W, bool.
        class_weights: K, the scores' dtype.
        total: what ``total_weight`` gives for all pixels that share this loss.

    Workspace: a number for each ``THREADS`` pixels.
    """
    check_scores(scores, labels, mask, class_weights, total)
    return _summed(True, scores, labels, mask, class_weights, total)


@operator
def backward(scores, labels, mask, class_weights, total):
    """The error map of the loss, N x K x H x W; arguments and errors as ``forward``."""
    check_scores(scores, labels, mask, class_weights, total)
    error = memory.empty(scores.shape, scores.dtype)
    n, _, h, w = scores.shape
    f = _backward_kernel(scores.dtype.type)
    maps = flat("scores", scores), flat("labels", labels), flat("mask", mask)
    launch_over(f, n * h * w, *maps, class_weights, total, flat("error", error), h * w)
    return error


def _summed(with_loss, scores, labels, mask, class_weights, total):
    n, h, w = labels.shape
    blocks = ceil_division(n * h * w, THREADS)
    sums = memory.empty((blocks,), class_weights.dtype)
    f = _sum_kernel(class_weights.dtype.type, with_loss)
    maps = flat("scores", scores), flat("labels", labels), flat("mask", mask)
    launch(f, blocks, THREADS, *maps, class_weights, total, sums, h * w)
    return total_of(sums, 1, blocks)
