"""Adam in NumPy, float64."""

import numpy as np

from kernels.adam import check_step
from kernels.foreign import operator


@operator
def step(parameter, gradient, mean, square, *, rate, beta1, beta2, epsilon, decay, count):
    """Step number ``count`` = t = 1, 2, ...: changes ``parameter``, ``mean`` and ``square``."""
    check_step(parameter, gradient, mean, square, rate, beta1, beta2, epsilon, decay, count)
    gradient = gradient + decay * parameter
    mean[...] = beta1 * mean + (1 - beta1) * gradient
    square[...] = beta2 * square + (1 - beta2) * gradient * gradient
    corrected = mean / (1 - beta1**count)
    parameter -= rate * corrected / (np.sqrt(square / (1 - beta2**count)) + epsilon)
