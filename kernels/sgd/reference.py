"""SGD in NumPy, float64."""

from kernels.foreign import operator
from kernels.sgd import check_step


@operator
def step(parameter, gradient, velocity, *, rate, momentum, decay):
    """One step: changes ``parameter`` and ``velocity``."""
    check_step(parameter, gradient, velocity, rate, momentum, decay)
    velocity[...] = momentum * velocity + (gradient + decay * parameter)
    parameter -= rate * velocity
