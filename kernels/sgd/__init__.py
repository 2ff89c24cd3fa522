"""Stochastic gradient descent with momentum and weight decay, in place.

v <- momentum * v + (g + decay * p);   p <- p - rate * v
"""

from kernels import checks


def check_step(parameter, gradient, velocity) -> None:
    """Refuse arrays of unlike shape or dtype."""
    checks.alike(parameter=parameter, gradient=gradient, velocity=velocity)
