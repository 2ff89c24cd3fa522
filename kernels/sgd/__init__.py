"""Stochastic gradient descent with momentum and weight decay, in place.

v <- momentum * v + (g + decay * p);   p <- p - rate * v
"""

from kernels import checks


def check_step(parameter, gradient, velocity, rate, momentum, decay) -> None:
    """Refuse arrays of unlike shape or dtype, and numbers that make no step."""
    checks.alike(parameter=parameter, gradient=gradient, velocity=velocity)
    checks.number("rate", rate)
    checks.number("momentum", momentum)
    checks.number("decay", decay)
