"""Cross-entropy of chosen pixels, with class weights: its value and its error map.

A pixel counts if the mask chooses it and its label l is a class, 0 to K - 1, which ``UNLABELLED``
is not. With the scores x,

    total = sum of w[l];   loss = sum of w[l] * (log sum_k exp x[k] - x[l]) / total
    e[k] = w[l] / total * (softmax(x)[k] - [k = l]), and 0 where a pixel does not count

``total`` is an argument of the other two, so that a sum over patches can be taken in parts.

Where the label's probability p is nearly 1, log p and p - 1 would cancel. With m = max_k x[k] and
s = the sum over k != l of exp(x[k] - m), of the classes other than the label, they are

    -log p = log1p(s) if x[l] = m, else log(exp(x[l] - m) + s) + (m - x[l])
    p - 1 = -s / (exp(x[l] - m) + s)
"""

from kernels import checks

UNLABELLED = -1


def check_labels(labels, mask, class_weights) -> None:
    """Check labels N x H x W (int32), their mask (bool) and the weights of K classes."""
    checks.array("labels", labels, (None,) * 3, ("int32",))
    checks.array("mask", mask, labels.shape, ("bool",))
    checks.array("class_weights", class_weights, (None,))


def check_scores(scores, labels, mask, class_weights, total) -> None:
    """Check the arguments of a cross-entropy of scores N x K x H x W."""
    checks.array("scores", scores, (None,) * 4)
    n, k, h, w = scores.shape
    checks.array("labels", labels, (n, h, w), ("int32",))
    checks.array("mask", mask, (n, h, w), ("bool",))
    checks.array("class_weights", class_weights, (k,))
    checks.array("total", total, (1,))
    checks.same_dtype(scores=scores, class_weights=class_weights, total=total)
