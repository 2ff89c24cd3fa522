"""Cross-entropy of chosen pixels, with class weights: its value and its error map.

A pixel counts if the mask chooses it and its label l is not ``UNLABELLED``. With the scores x,

    total = sum of w[l];   loss = sum of w[l] * (log sum_k exp x[k] - x[l]) / total
    e[k] = w[l] / total * (softmax(x)[k] - [k = l]), and 0 where a pixel does not count

``total`` is an argument of the other two, so that a sum over patches can be taken in parts.
"""

UNLABELLED = -1
