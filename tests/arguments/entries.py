"""What the tables of arguments are made of: entries, reasons, and small valid values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from net import Net
from net.layers import BatchNorm, Convolution, FullyConnected

PATCH = 3
SIZE = (4, 5)


class Call(NamedTuple):
    """A function and its arguments, fresh for each call."""

    function: Callable
    arguments: dict


@dataclass(frozen=True)
class Entry:
    """One public callable.

    Attributes:
        fresh: makes its ``Call``.
        takes: by argument, the names of values in ``tests.test_bad_arguments.BAD`` that are right
            there, each with the reason.
        called: by argument, the name of another one that messages may call in its place.
    """

    fresh: Callable[[], Call]
    takes: dict[str, dict[str, str]] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)


def because(reason, *values):
    return dict.fromkeys(values, reason)


FROM_0 = because("a number of at least 0", "0", "1.5", "2**70")
ABOVE_0 = because("a number above 0", "1.5", "2**70")
SHARE = because("a number of at least 0 and less than 1", "0")
ZERO = because("an int of at least 0", "0")
A_TEXT = because("a printable text", "text")
NONE = because("the same as leaving it out", "None")
ANY_NUMBERS = because(
    "an image that is read by windows holds any real numbers", "itself, in float16"
)
A_FLAG = because("True or False", "True")
A_PATH = because("a path; nothing is there, or it is written", "text")


def small_net():
    return Net(
        [Convolution(2, 2), BatchNorm(), FullyConnected(2)],
        channels=1,
        patch=PATCH,
        backend="reference",
    )


def image(size=SIZE):
    return np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(1, *size)


def labels():
    return np.indices(SIZE).sum(axis=0) % 2


def method_of(make, method, **arguments):
    """A method of what ``make`` makes; arguments that are functions are called first."""

    def fresh():
        return Call(getattr(make(), method), {n: made(a) for n, a in arguments.items()})

    return fresh


def call_of(function, **arguments):
    return lambda: Call(function, {n: made(a) for n, a in arguments.items()})


def made(argument):
    return argument() if callable(argument) else argument


def everywhere():
    return np.ones(SIZE, bool)


def some_pixels():
    return np.array([[0, 0], [3, 4]])


def an_error():
    return np.ones((2, *SIZE), np.float32)
