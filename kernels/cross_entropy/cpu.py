"""Cross-entropy of chosen pixels on the host: sums by row, then over the rows in order.

Both sums are float64: over millions of equal pixels, the roundings of float32 would add up.
"""

import math

import numpy as np
from numba import prange

from kernels.cross_entropy import check_labels, check_scores
from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel, inner
from kernels.host.threads import ELEMENT_NS, EXPONENTIAL_NS
from kernels.memory import cpu as memory


@operator
def total_weight(labels, mask, class_weights):
    """The sum of the class weights of the pixels that count.

    Args:
        labels: N x H x W, int32, classes or ``UNLABELLED``.
        mask: N x H x W, bool.
        class_weights: K, float32 or float64.

    Returns:
        an array of one number like the weights. Workspace: one number per row.
    """
    check_labels(labels, mask, class_weights)
    rows = memory.empty(labels.shape[0] * labels.shape[1], np.float64)
    _total_weight(rows, labels, mask, class_weights, work=ELEMENT_NS * labels.size)
    return rows.sum(keepdims=True).astype(class_weights.dtype)


@operator
def forward(scores, labels, mask, class_weights, total):
    """The loss of the pixels that count.

    Args:
        scores: N x K x H x W, float32 or float64, before the softmax.
        labels: N x H x W, int32, classes or ``UNLABELLED``.
        mask: N x H x W, bool.
        class_weights: K, the scores' dtype.
        total: the ``total_weight`` of all pixels that contribute to this loss.

    Returns:
        an array of one number like the scores. Workspace: one number per row.
    """
    check_scores(scores, labels, mask, class_weights, total)
    rows = memory.empty(labels.shape[0] * labels.shape[1], np.float64)
    work = EXPONENTIAL_NS * scores.size
    _forward(rows, scores, labels, mask, class_weights, work=work)
    return (rows.sum(keepdims=True) / total).astype(scores.dtype)


@operator
def backward(scores, labels, mask, class_weights, total):
    """The error map of the loss; arguments and errors as ``forward``.

    Returns:
        N x K x H x W like the scores. Workspace: none.
    """
    check_scores(scores, labels, mask, class_weights, total)
    error = memory.empty(scores.shape, scores.dtype)
    work = 2 * EXPONENTIAL_NS * scores.size
    _backward(error, scores, labels, mask, class_weights, total, work=work)
    return error


@compiled_parallel
def _total_weight(rows, labels, mask, class_weights):
    _, height, width = labels.shape
    for row in prange(len(rows)):
        n, y = row // height, row % height
        total = 0.0
        for x in range(width):
            if mask[n, y, x] and 0 <= labels[n, y, x] < len(class_weights):
                total += class_weights[labels[n, y, x]]
        rows[row] = total


@inner
def _largest_and_others(pixel, label):
    """m = max_k x[k], and the sum over k != l of exp(x[k] - m)."""
    largest = pixel[0]
    for k in range(1, len(pixel)):
        largest = max(largest, pixel[k])
    others = pixel.dtype.type(0)
    for k in range(label):
        others += math.exp(pixel[k] - largest)
    for k in range(label + 1, len(pixel)):
        others += math.exp(pixel[k] - largest)
    return largest, others


@compiled_parallel
def _forward(rows, scores, labels, mask, class_weights):
    _, height, width = labels.shape
    for row in prange(len(rows)):
        n, y = row // height, row % height
        loss = 0.0
        for x in range(width):
            label = labels[n, y, x]
            if mask[n, y, x] and 0 <= label < len(class_weights):
                pixel = scores[n, :, y, x]
                largest, others = _largest_and_others(pixel, label)
                below = largest - pixel[label]
                if below == 0:
                    surprise = math.log1p(others)
                else:
                    surprise = math.log(math.exp(-below) + others) + below
                loss += class_weights[label] * surprise
        rows[row] = loss


@compiled_parallel
def _backward(error, scores, labels, mask, class_weights, total):
    batch, height, width = labels.shape
    for row in prange(batch * height):
        n, y = row // height, row % height
        error[n, :, y] = 0
        for x in range(width):
            label = labels[n, y, x]
            if mask[n, y, x] and 0 <= label < len(class_weights):
                pixel = scores[n, :, y, x]
                largest, others = _largest_and_others(pixel, label)
                powers = math.exp(pixel[label] - largest) + others
                weight = class_weights[label] / total[0]
                for k in range(len(pixel)):
                    error[n, k, y, x] = weight * (math.exp(pixel[k] - largest) / powers)
                error[n, label, y, x] = -weight * (others / powers)
