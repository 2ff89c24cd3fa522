"""SGD on the host."""

from numba import prange

from kernels.foreign import operator
from kernels.host.compilation import compiled_parallel
from kernels.host.threads import ELEMENT_NS
from kernels.sgd import check_step


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
    _step(
        parameter.reshape(-1),
        gradient.reshape(-1),
        velocity.reshape(-1),
        number(rate),
        number(momentum),
        number(decay),
        work=3 * ELEMENT_NS * parameter.size,
    )


@compiled_parallel
def _step(parameter, gradient, velocity, rate, momentum, decay):
    for i in prange(len(parameter)):
        velocity[i] = momentum * velocity[i] + (gradient[i] + decay * parameter[i])
        parameter[i] -= rate * velocity[i]
