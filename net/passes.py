"""What the steps of one pass share and save, the sizes of their maps, and what a pass gives."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from kernels import Backend

Shape = tuple[int, int, int, int]
"""N x C x H x W."""


@dataclass(frozen=True)
class Learning:
    """What dropout draws its mask from (see ``kernels.dropout``).

    Attributes:
        seed, step: seed and step of the training run.
        rows, columns: int32 arrays on the backend, the place of each map in the dense map.
    """

    seed: int
    step: int
    rows: object
    columns: object


@dataclass(frozen=True)
class Run:
    """What the steps of one pass share.

    Attributes:
        ops: the backend.
        arrays: parameters and statistics by name.
        result: name of the layer whose output the caller holds.
        learning: None outside of training, where dropout does nothing.
        backward: whether a backward pass follows.
    """

    ops: Backend
    arrays: dict
    result: str
    learning: Learning | None = None
    backward: bool = False


@dataclass(frozen=True)
class Saved:
    """What a step saves for backward.

    Attributes:
        shapes: shapes of its inputs.
        input, output: maps; None unless the step ``saves_input`` or ``saves_output``.
        argmax: argmax of max pooling, if a backward pass follows, else None.
    """

    shapes: tuple[Shape, ...]
    input: object | None
    output: object | None
    argmax: object | None


class StepSizes(NamedTuple):
    """What the memory that a step takes depends on.

    Attributes:
        inputs, output: shapes of its maps.
        itemsize: bytes of a number.
        backward: whether a backward pass follows.
    """

    inputs: tuple[Shape, ...]
    output: Shape
    itemsize: int
    backward: bool

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a map of ``shape``."""
        return prod(shape) * self.itemsize


class Workspace(NamedTuple):
    """Bytes that an operator works in, beside its arguments and its result.

    Attributes:
        arrays: bytes of each array that all threads share.
        a_thread: bytes that each thread of the host takes for itself.
        parts: number of parts of the work, each for one thread.
    """

    arrays: tuple[int, ...] = ()
    a_thread: int = 0
    parts: int = 1


class Workspaces(NamedTuple):
    """What the operators of a step work in, one after the other.

    Attributes:
        copies: bytes of each array that the forward pass makes before the output, and drops after
            it.
        forward: workspace of the forward pass, taken after the output is made.
        gradients: workspace of the gradients by the parameters.
        errors: workspace of the errors of the inputs.
    """

    copies: tuple[int, ...] = ()
    forward: Workspace = Workspace()
    gradients: Workspace = Workspace()
    errors: Workspace = Workspace()


@dataclass(frozen=True)
class Gradients:
    """Gradients by parameter name, and by the image (C x H x W) where asked for.

    >>> import numpy as np
    >>> Gradients({"fc1.bias": np.zeros(3)}, None).parameters["fc1.bias"]
    array([0., 0., 0.])
    """

    parameters: dict[str, object]
    image: object | None
