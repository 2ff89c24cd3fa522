"""Adam on the device: a thread for each parameter, four numbers read and three written.

g <- g + decay * p;   m <- beta1 * m + (1 - beta1) * g;   s <- beta2 * s + (1 - beta2) * g*g
p <- p - rate * (m / (1 - beta1^t)) / (sqrt(s / (1 - beta2^t)) + epsilon)
"""

from functools import cache

from kernels.adam import check_step
from kernels.device.api import cuda, kernel, sqrt, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat


@cache
def _step_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def adam_step(
        parameter,  # P
        gradient,  # P
        mean,  # P
        square,  # P
        rate,
        first,  # beta1, 1 - beta1, 1 - beta1^t
        second,  # beta2, 1 - beta2, 1 - beta2^t
        epsilon,
        decay,
    ):
        i = u32(cuda.grid(1))
        if i < parameter.size:
            p = parameter[i]
            g = gradient[i] + decay * p
            m = first[0] * mean[i] + first[1] * g
            s = second[0] * square[i] + second[1] * g * g
            mean[i] = m
            square[i] = s
            parameter[i] = p - rate * (m / first[2]) / (sqrt(s / second[2]) + epsilon)

    return adam_step


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
    named = ("parameter", parameter), ("gradient", gradient), ("mean", mean), ("square", square)
    launch_over(
        _step_kernel(number),
        parameter.size,
        *(flat(name, array) for name, array in named),
        number(rate),
        (number(beta1), number(1 - beta1), number(1 - beta1**count)),
        (number(beta2), number(1 - beta2), number(1 - beta2**count)),
        number(epsilon),
        number(decay),
    )
