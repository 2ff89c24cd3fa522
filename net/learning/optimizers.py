"""Learning rules and learning-rate schedules. Weight decay acts on weights only, not on biases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from kernels import checks
from net.graph import Net
from net.options import Factor, Fraction, Options, Positive


@dataclass(frozen=True)
class Cosine(Options):
    """From ``rate`` down to 0 along half a cosine over ``steps`` steps.

    >>> rate = Cosine(0.1, steps=100)
    >>> [round(rate(step), 3) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    rate: float
    steps: int

    def __call__(self, step: int) -> float:
        """The rate of step number ``step`` = 0, 1, ..."""
        return self.rate * (1 + math.cos(math.pi * min(step / self.steps, 1))) / 2


@dataclass(frozen=True)
class Stepwise(Options):
    """``rate``, multiplied by ``factor`` after every ``every`` steps.

    >>> rate = Stepwise(0.1, every=10, factor=0.5)
    >>> [rate(step) for step in (9, 10, 20)]
    [0.1, 0.05, 0.025]
    """

    rate: float
    every: int
    factor: Factor = 0.1

    def __call__(self, step: int) -> float:
        """The rate of step number ``step`` = 0, 1, ..."""
        return self.rate * self.factor ** (step // self.every)


Rate = float | Cosine | Stepwise


def _rate_or_schedule(name, value):
    if isinstance(value, Cosine | Stepwise):
        return value
    if isinstance(value, type) or callable(value):
        raise TypeError(f"{name} is {value!r}; expected a number, Cosine(...) or Stepwise(...)")
    return checks.number(name, value)


class _LearningRule(Options):
    checks: ClassVar[dict] = Options.checks | {"Rate": _rate_or_schedule}


@dataclass(frozen=True)
class SGD(_LearningRule):
    """Stochastic gradient descent with momentum (``kernels.sgd``).

    >>> SGD(Cosine(0.1, steps=500), decay=1e-4).momentum
    0.9
    """

    rate: Rate
    momentum: Fraction = 0.9
    decay: float = 0.0

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def update(self, net: Net, slots: dict, gradients: dict, step: int) -> None:
        """Change the net's parameters and ``slots`` (by ``"slot.parameter"``) in place.

        >>> import numpy as np
        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 1)], channels=1, patch=1, backend="cpu")
        >>> gradients = {"conv1.bias": np.array([1, -2], np.float32)}
        >>> slots = {"velocity.conv1.bias": np.zeros(2, np.float32)}
        >>> SGD(0.5).update(net, slots, gradients, step=0)
        >>> net.parameters["conv1.bias"]
        array([-0.5,  1. ], dtype=float32)
        """
        for name, gradient in gradients.items():
            net.backend.sgd.step(
                net.parameters[name],
                gradient,
                slots[f"velocity.{name}"],
                rate=_rate(self.rate, step),
                momentum=self.momentum,
                decay=_decay(self.decay, name),
            )


@dataclass(frozen=True)
class Adam(_LearningRule):
    """Adam (``kernels.adam``).

    >>> Adam(Stepwise(1e-3, every=100)).beta2
    0.999
    """

    rate: Rate
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8
    decay: float = 0.0

    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    def update(self, net: Net, slots: dict, gradients: dict, step: int) -> None:
        """Change the net's parameters and ``slots`` (by ``"slot.parameter"``) in place.

        >>> import numpy as np
        >>> from net.layers import Convolution
        >>> net = Net([Convolution(2, 1)], channels=1, patch=1, backend="cpu")
        >>> gradients = {"conv1.bias": np.array([1, -2], np.float32)}
        >>> slots = {f"{slot}.conv1.bias": np.zeros(2, np.float32) for slot in Adam.slots}
        >>> Adam(0.5).update(net, slots, gradients, step=0)
        >>> net.parameters["conv1.bias"].round(3)
        array([-0.5,  0.5], dtype=float32)
        """
        for name, gradient in gradients.items():
            net.backend.adam.step(
                net.parameters[name],
                gradient,
                slots[f"mean.{name}"],
                slots[f"square.{name}"],
                rate=_rate(self.rate, step),
                beta1=self.beta1,
                beta2=self.beta2,
                epsilon=self.epsilon,
                decay=_decay(self.decay, name),
                count=step + 1,
            )


Optimizer = SGD | Adam


def _rate(rate: Rate, step: int) -> float:
    return rate(step) if callable(rate) else rate


def _decay(decay: float, name: str) -> float:
    return decay if name.endswith(".weights") else 0.0
