"""Softmax over the channels of each pixel.

    y[n, k] = exp(x[n, k] - m) / sum_l exp(x[n, l] - m), m = max_l x[n, l];
    dx[n, k] = y[n, k] * (e[n, k] - sum_l e[n, l] * y[n, l])

A NaN among a pixel's scores makes all its probabilities NaN.
"""

from kernels import checks


def check_forward(x) -> None:
    """Check the scores N x K x H x W."""
    checks.array("x", x, (None,) * 4)


def check_backward(error, y) -> None:
    """Check the arguments of a softmax's gradient."""
    checks.same_map(error=error, y=y)
