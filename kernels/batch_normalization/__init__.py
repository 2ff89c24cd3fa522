"""Batch normalisation with frozen statistics: pointwise, so it commutes with the dense form.

    y[n, c] = f((x[n, c] - mean[c]) * gamma[c] / sqrt(variance[c] + epsilon) + beta[c])

with an activation f, if any, in the same pass over memory. The statistics are constants: the
gradients are those of a scale and a shift for each channel. Where nobody wants gradients, ``fold``
makes them part of the convolution in front.
"""

from kernels import checks
from kernels.activation import activation_of


def check_forward(x, mean, variance, gamma, beta, epsilon, activation) -> None:
    """Check the arguments of batch normalisation."""
    checks.number("epsilon", epsilon)
    checks.per_channel(x, mean=mean, variance=variance, gamma=gamma, beta=beta)
    if activation is not None:
        activation_of(activation)


def check_backward(error, x, mean, variance, gamma, epsilon, activation, y, out) -> None:
    """Check the arguments of batch normalisation's gradients."""
    checks.number("epsilon", epsilon)
    maps = {"error": error, "x": x, "y": y, "out": out}
    if activation is None:
        del maps["y"]
    else:
        activation_of(activation)
    if out is None:
        del maps["out"]
    checks.same_map(**maps)
    checks.per_channel(x, mean=mean, variance=variance, gamma=gamma)


def check_fold(weights, bias, mean, variance, gamma, beta, epsilon) -> None:
    """Check the arguments that fold a batch normalisation into the convolution in front."""
    checks.number("epsilon", epsilon)
    checks.array("weights", weights, (None,) * 4)
    vectors = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta}
    for name, vector in (vectors if bias is None else {"bias": bias} | vectors).items():
        checks.array(name, vector, weights.shape[:1])
        checks.same_dtype(weights=weights, **{name: vector})
