"""Cross-entropy of chosen pixels on the host: sums by row, then over the rows in order."""

import math

from numba import prange

from kernels.cross_entropy import UNLABELLED, check_labels, check_scores
from kernels.host.compilation import compiled_parallel, inner
from kernels.memory import cpu as memory


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
    rows = memory.empty(labels.shape[0] * labels.shape[1], class_weights.dtype)
    _total_weight(rows, labels, mask, class_weights)
    return rows.sum(keepdims=True)


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
    rows = memory.empty(labels.shape[0] * labels.shape[1], scores.dtype)
    _forward(rows, scores, labels, mask, class_weights)
    return rows.sum(keepdims=True) / total


def backward(scores, labels, mask, class_weights, total):
    """The error map of the loss; arguments and errors as ``forward``.

    Returns:
        N x K x H x W like the scores. Workspace: none.
    """
    check_scores(scores, labels, mask, class_weights, total)
    error = memory.empty(scores.shape, scores.dtype)
    _backward(error, scores, labels, mask, class_weights, total)
    return error


@compiled_parallel
def _total_weight(rows, labels, mask, class_weights):
    _, height, width = labels.shape
    for row in prange(len(rows)):
        n, y = row // height, row % height
        total = class_weights.dtype.type(0)
        for x in range(width):
            if mask[n, y, x] and labels[n, y, x] != UNLABELLED:
                total += class_weights[labels[n, y, x]]
        rows[row] = total


@inner
def _largest_and_sum(pixel):
    """max_k x[k] and sum_k exp(x[k] - max)."""
    largest = pixel[0]
    for k in range(1, len(pixel)):
        largest = max(largest, pixel[k])
    total = pixel.dtype.type(0)
    for k in range(len(pixel)):
        total += math.exp(pixel[k] - largest)
    return largest, total


@compiled_parallel
def _forward(rows, scores, labels, mask, class_weights):
    _, height, width = labels.shape
    for row in prange(len(rows)):
        n, y = row // height, row % height
        loss = scores.dtype.type(0)
        for x in range(width):
            label = labels[n, y, x]
            if mask[n, y, x] and label != UNLABELLED:
                pixel = scores[n, :, y, x]
                largest, total = _largest_and_sum(pixel)
                loss += class_weights[label] * (math.log(total) + largest - pixel[label])
        rows[row] = loss


@compiled_parallel
def _backward(error, scores, labels, mask, class_weights, total):
    batch, height, width = labels.shape
    for row in prange(batch * height):
        n, y = row // height, row % height
        error[n, :, y] = 0
        for x in range(width):
            label = labels[n, y, x]
            if mask[n, y, x] and label != UNLABELLED:
                pixel = scores[n, :, y, x]
                largest, powers = _largest_and_sum(pixel)
                weight = class_weights[label] / total[0]
                for k in range(len(pixel)):
                    error[n, k, y, x] = weight * (math.exp(pixel[k] - largest) / powers)
                error[n, label, y, x] -= weight
