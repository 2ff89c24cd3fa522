"""Adam on the host."""

import math

from numba import prange

from kernels.adam import check_step
from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS


@operator
def step(parameter, gradient, mean, square, *, rate, beta1, beta2, epsilon, decay, count):
    """One step: changes ``parameter``, ``mean`` and ``square``.

    Args:
        parameter, gradient, mean, square: arrays of one shape and dtype, float32 or float64.
        rate: learning rate.
        beta1, beta2, epsilon: decay rates of the moments, and epsilon, as in the paper.
        decay: L2 decay of the weights; 0 is none.
        count: number of this step, from 1.
    """
    check_step(parameter, gradient, mean, square, rate, beta1, beta2, epsilon, decay, count)
    number = parameter.dtype.type
    _step(
        parameter.reshape(-1),
        gradient.reshape(-1),
        mean.reshape(-1),
        square.reshape(-1),
        number(rate),
        (number(beta1), number(1 - beta1), number(1 - beta1**count)),
        (number(beta2), number(1 - beta2), number(1 - beta2**count)),
        number(epsilon),
        number(decay),
        work=4 * ELEMENT_NS * parameter.size,
    )


@compiled_parallel
def _step(parameter, gradient, mean, square, rate, first, second, epsilon, decay):
    for i in prange(len(parameter)):
        g = gradient[i] + decay * parameter[i]
        mean[i] = first[0] * mean[i] + first[1] * g
        square[i] = second[0] * square[i] + second[1] * g * g
        deviation = math.sqrt(square[i] / second[2]) + epsilon
        parameter[i] -= rate * (mean[i] / first[2]) / deviation
