"""Cross-entropy of chosen pixels in NumPy, float64."""

import numpy as np

from kernels.cross_entropy import check_labels, check_scores
from kernels.foreign import operator


@operator
def total_weight(labels, mask, class_weights):
    """The sum of the class weights of the pixels that count, as an array of one number."""
    check_labels(labels, mask, class_weights)
    chosen = _chosen(labels, mask, class_weights)
    return class_weights.astype(np.float64)[labels[chosen]].sum(keepdims=True)


@operator
def forward(scores, labels, mask, class_weights, total):
    """The loss of the pixels that count, as an array of one number."""
    check_scores(scores, labels, mask, class_weights, total)
    loss = np.zeros(1)
    for n, y, x in zip(*np.nonzero(_chosen(labels, mask, class_weights))):
        below, _, power, others = _pixel(scores[n, :, y, x], labels[n, y, x])
        surprise = np.log1p(others) if below == 0 else np.log(power + others) + below
        loss += class_weights[labels[n, y, x]] * surprise
    return loss / total


@operator
def backward(scores, labels, mask, class_weights, total):
    """The error map of the loss, N x K x H x W."""
    check_scores(scores, labels, mask, class_weights, total)
    error = np.zeros(scores.shape)
    for n, y, x in zip(*np.nonzero(_chosen(labels, mask, class_weights))):
        label = labels[n, y, x]
        _, powers, power, others = _pixel(scores[n, :, y, x], label)
        powers[label] = -others
        error[n, :, y, x] = class_weights[label] / total[0] * (powers / (power + others))
    return error


def _chosen(labels, mask, class_weights):
    return mask & (labels >= 0) & (labels < len(class_weights))


def _pixel(scores, label):
    """(m - x[l], exp(x - m), exp(x[l] - m), the sum of the other powers) with m = max_k x[k]."""
    scores = scores.astype(np.float64)
    powers = np.exp(scores - scores.max())
    return scores.max() - scores[label], powers, powers[label], np.delete(powers, label).sum()
