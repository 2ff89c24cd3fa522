"""Cross-entropy of chosen pixels on the device.

    total = sum of w[l];   loss = sum of w[l] * (log sum_k exp x[k] - x[l]) / total
    e[k] = w[l] / total * (softmax(x)[k] - [k = l]), and 0 where a pixel does not count

Where the label's probability is nearly 1, both come from the other classes, as
``kernels.cross_entropy`` says. A thread for each pixel goes through its classes; neighbouring
threads have neighbouring pixels. Sums are trees: a block adds up its pixels by halves, and
``total_of`` the blocks in the same way. No atomics: the same bits every time.
"""

from functools import cache

from kernels.cross_entropy import check_labels, check_scores
from kernels.cuda_sums import THREADS, total_of
from kernels.device.api import cuda, device, exp, kernel, log, log1p, u32
from kernels.device.arrays import operator
from kernels.device.indices import divmod_u32
from kernels.device.launching import launch, launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, ceil_division, flat
from kernels.memory import cuda as memory


@cache
def _highest_and_others(dtype):
    """Device function (x, first, end, at_label, plane): m = max_k x[k] of the pixel at ``first``,
    and the sum of exp(x[k] - m) over all classes but the one at ``at_label``."""

    def highest_and_others(x, first, end, at_label, plane):
        highest = x[first]
        at = u32(first + plane)
        while at != end:
            if x[at] > highest:
                highest = x[at]
            at = u32(at + plane)
        others = dtype(0)
        at = first
        while at != end:
            if at != at_label:
                others += exp(x[at] - highest)
            at = u32(at + plane)
        return highest, others

    return device(highest_and_others)


@cache
def _sum_kernel(dtype, with_loss: bool):
    highest_and_others = _highest_and_others(dtype)
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
        classes = u32(class_weights.size)
        value = dtype(0)
        # A label below 0 is a large unsigned number
        if i < labels.size and mask[i] and u32(labels[i]) < classes:
            label = u32(labels[i])
            value = class_weights[label]
            if with_loss:
                n, p = divmod_u32(i, plane)
                first = u32(n * classes * plane + p)
                end, at_label = u32(first + classes * plane), u32(first + label * plane)
                highest, others = highest_and_others(scores, first, end, at_label, plane)
                below = highest - scores[at_label]
                is_highest = below == dtype(0)
                surprise = log1p(others) if is_highest else log(exp(-below) + others) + below
                value = value * surprise / total[u32(0)]
        # ``sum_of_block`` without its last barrier: only the first thread needs the sum
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
    highest_and_others = _highest_and_others(dtype)

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
        plane, classes = u32(plane), u32(class_weights.size)
        if i < labels.size:
            n, p = divmod_u32(i, plane)
            first = u32(n * classes * plane + p)
            end = u32(first + classes * plane)
            chosen = mask[i] and u32(labels[i]) < classes
            highest, others, powers, weight, at_label = (
                dtype(0),
                dtype(0),
                dtype(1),
                dtype(0),
                first,
            )
            if chosen:
                at_label = u32(first + u32(labels[i]) * plane)
                highest, others = highest_and_others(scores, first, end, at_label, plane)
                powers = exp(scores[at_label] - highest) + others
                weight = class_weights[u32(labels[i])] / total[u32(0)]
            at = first
            while at != end:
                of_class = dtype(0)
                if chosen:
                    if at == at_label:
                        of_class = -weight * (others / powers)
                    else:
                        of_class = weight * (exp(scores[at] - highest) / powers)
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
