"""Cross-entropy of chosen pixels in NumPy, float64."""

import numpy as np

from kernels.cross_entropy import UNLABELLED, check_labels, check_scores


def total_weight(labels, mask, class_weights):
    """The sum of the class weights of the pixels that count, as an array of one number."""
    check_labels(labels, mask, class_weights)
    chosen = mask & (labels != UNLABELLED)
    return class_weights.astype(np.float64)[labels[chosen]].sum(keepdims=True)


def forward(scores, labels, mask, class_weights, total):
    """The loss of the pixels that count, as an array of one number."""
    check_scores(scores, labels, mask, class_weights, total)
    loss = np.zeros(1)
    for n, y, x in zip(*np.nonzero(mask & (labels != UNLABELLED))):
        pixel, label = scores[n, :, y, x].astype(np.float64), labels[n, y, x]
        largest = pixel.max()
        log_sum = largest + np.log(np.exp(pixel - largest).sum())
        loss += class_weights[label] * (log_sum - pixel[label])
    return loss / total


def backward(scores, labels, mask, class_weights, total):
    """The error map of the loss, N x K x H x W."""
    check_scores(scores, labels, mask, class_weights, total)
    error = np.zeros(scores.shape)
    for n, y, x in zip(*np.nonzero(mask & (labels != UNLABELLED))):
        pixel, label = scores[n, :, y, x].astype(np.float64), labels[n, y, x]
        powers = np.exp(pixel - pixel.max())
        target = np.arange(len(pixel)) == label
        weight = class_weights[label] / total[0]
        error[n, :, y, x] = weight * (powers / powers.sum() - target)
    return error
