"""Adam (Kingma & Ba, ICLR 2015, algorithm 1) with L2 weight decay, in place.

g <- g + decay * p;   m <- beta1 * m + (1 - beta1) * g;   s <- beta2 * s + (1 - beta2) * g*g
p <- p - rate * (m / (1 - beta1^t)) / (sqrt(s / (1 - beta2^t)) + epsilon)
"""

from kernels import checks


def check_step(
    parameter, gradient, mean, square, rate, beta1, beta2, epsilon, decay, count
) -> None:
    """Refuse arrays of unlike shape or dtype, and numbers that make no step."""
    checks.alike(parameter=parameter, gradient=gradient, mean=mean, square=square)
    checks.number("rate", rate)
    checks.number("beta1", beta1, below=1)
    checks.number("beta2", beta2, below=1)
    checks.number("epsilon", epsilon)
    checks.number("decay", decay)
    checks.count("count", count)
