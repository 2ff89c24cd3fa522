"""SGD on the device: a thread for each parameter, three numbers read and two written.

v <- momentum * v + (g + decay * p);   p <- p - rate * v
"""

from functools import cache

from kernels.device.api import cuda, kernel, u32
from kernels.device.arrays import operator
from kernels.device.launching import launch_over
from kernels.device.limits import ELEMENTWISE_THREADS, flat
from kernels.sgd import check_step


@cache
def _step_kernel(dtype):
    @kernel(ELEMENTWISE_THREADS)
    def sgd_step(
        parameter,  # P
        gradient,  # P
        velocity,  # P
        rate,
        momentum,
        decay,
    ):
        i = u32(cuda.grid(1))
        if i < parameter.size:
            p = parameter[i]
            v = momentum * velocity[i] + (gradient[i] + decay * p)
            velocity[i] = v
            parameter[i] = p - rate * v

    return sgd_step


@operator
def step(parameter, gradient, velocity, *, rate, momentum, decay):
    """One step: changes ``parameter`` and ``velocity``.

    Args:
        parameter, gradient, velocity: arrays of one shape and dtype, float32 or float64.
        rate: learning rate.
        momentum, decay: what remains of the velocity, and L2 decay of the weights; 0 is none.
    """
    check_step(parameter, gradient, velocity, rate, momentum, decay)
    number = parameter.dtype.type
    arrays = (
        flat(name, array)
        for name, array in (
            ("parameter", parameter),
            ("gradient", gradient),
            ("velocity", velocity),
        )
    )
    f = _step_kernel(number)
    launch_over(f, parameter.size, *arrays, number(rate), number(momentum), number(decay))
