"""Gradients against central finite differences, in float64."""

import numpy as np

from tests.comparison import relative_difference

STEP = 1e-5


def assert_gradient(function, gradient, x, error, *, exhaustive):
    """Hold ``gradient`` to the derivatives of sum(error * function(x)) by x.

    Args:
        function: of an array like x, to an array like error.
        gradient: what is claimed.
        x: where.
        error: the weight of each output.
        exhaustive: by every single entry of x; else along three random directions.
    """
    if exhaustive:
        directions = np.eye(x.size).reshape(-1, *x.shape)
    else:
        directions = np.random.default_rng(0).standard_normal((3, *x.shape))
    steps = [STEP * direction for direction in directions]
    expected = [(error * (function(x + s) - function(x - s))).sum() / (2 * STEP) for s in steps]
    actual = [(gradient * direction).sum() for direction in directions]
    assert relative_difference(np.array(actual), np.array(expected)) <= 1e-8
