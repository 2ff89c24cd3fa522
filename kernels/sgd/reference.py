"""SGD in NumPy, float64."""

from kernels import geometry


def step(parameter, gradient, velocity, *, rate, momentum, decay):
    """One step: changes ``parameter`` and ``velocity``."""
    geometry.alike(parameter=parameter, gradient=gradient, velocity=velocity)
    velocity[...] = momentum * velocity + (gradient + decay * parameter)
    parameter -= rate * velocity
