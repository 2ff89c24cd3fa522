"""Records the calls and launches of an operator or a net; no kernel runs and no device is needed.

A ``Call`` holds the arguments and the result of one public function of ``kernels``, and its
launches. Arrays are allocated but never written, so sizes may be real ones.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

from experiments.profiling.operators import Arrays, OperatorCase, case_of, prepare
from kernels.backends import OPERATORS, Backend
from kernels.convolution import cuda_tiles, forward_shape
from kernels.convolution.cuda_tile import Tile
from kernels.device import launching
from kernels.device.plans import Placeholder
from net import zoo
from net.program import Program


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operator.

    Attributes:
        operator: its name, such as ``convolution.forward``.
        given: its arguments, by name.
        result: the value that it returned.
        launches: the launches that it made, in order.
        layer: the layer that it computes, such as ``conv1 + relu1``; empty outside of a net.
        direction: forward or backward; empty outside of a net.
    """

    operator: str
    given: dict
    result: object
    launches: list[launching.Launch]
    layer: str = ""
    direction: str = ""

    @property
    def case(self) -> OperatorCase:
        """Its operator and shapes."""
        return case_of(self.operator, self.given)

    @property
    def tile(self) -> Tile | None:
        """The tile that a convolution's launches use; None for other operators."""
        return next((launch.kernel.tile for launch in self.launches if launch.kernel.tile), None)

    @property
    def inputs(self) -> list[np.ndarray]:
        """The arrays among its arguments, each once."""
        return _arrays(self.given.values())

    @property
    def outputs(self) -> list[np.ndarray]:
        """The arrays that it returned; its inputs if it returned none and works in place."""
        return _arrays([self.result]) or self.inputs

    @property
    def maps(self) -> list[np.ndarray]:
        """The feature maps among its arrays: N x C x H x W or N x H x W."""
        given = _arrays(value for name, value in self.given.items() if name != "weights")
        made = [] if self.operator.endswith("convolution.gradient_weights") else self.outputs
        return [array for array in given + made if array.ndim >= 3]

    @property
    def compulsory_bytes(self) -> int:
        """The bytes that must be moved: each input read once, each output written once."""
        return sum(array.nbytes for array in self.inputs + self.outputs)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a convolution, by its definition; 0 for other operators."""
        match self.operator:
            case "convolution.forward":
                return self.result.size * math.prod(self.given["weights"].shape[1:])
            case "convolution.gradient_input":
                return self.given["error"].size * math.prod(self.given["weights"].shape[1:])
            case "convolution.gradient_weights":
                return self.given["error"].size * math.prod(self.result.shape[1:])
        return 0


def _arrays(values):
    by_identity = {}
    for value in values:
        for array in value if isinstance(value, list | tuple) else [value]:
            if isinstance(array, np.ndarray):
                by_identity[id(array)] = array
    return list(by_identity.values())


def product_of(case: OperatorCase) -> tuple[str, int, int]:
    """(table, rows, columns) of the matrix of sums for which a convolution chooses its tile."""
    shapes = case.shape, (case.filters, case.shape[1], *case.kernel)
    x, weights = (Placeholder(number, shape, np.float32) for number, shape in enumerate(shapes))
    shape = forward_shape(x, weights, None, case.stride, case.dilation, None)
    return cuda_tiles.product_of(case.operator.removeprefix("convolution."), shape)


class RecordingBackend:
    """A backend whose operators record their calls and launch nothing.

    Attributes:
        calls: the calls so far, in order.
    """

    def __init__(self):
        self.name = "cuda"
        self.calls: list[Call] = []
        backend = Backend("cuda")
        for operator in OPERATORS:
            module = getattr(backend, operator)
            functions = {
                name: self._recorded(f"{operator}.{name}", function)
                for name, function in vars(module).items()
                if inspect.isfunction(function) and function.__module__ == module.__name__
            }
            setattr(self, operator, SimpleNamespace(**functions))
        self.memory = Backend("cpu").memory

    def _recorded(self, name, function):
        signature = inspect.signature(function)

        def record(*arguments, **options):
            given = dict(signature.bind(*arguments, **options).arguments)
            with launching.recorded() as launches:
                result = function(*arguments, **options)
            self.calls.append(Call(name, given, result, launches))
            return result

        return record

    def assign(self, layer: str, direction: str) -> None:
        """Attribute the calls that belong to no layer yet."""
        for number, call in enumerate(self.calls):
            if not call.layer:
                self.calls[number] = replace(call, layer=layer, direction=direction)


def of_case(case: OperatorCase, arrays: Arrays | None = None) -> Call:
    """The call of one operator."""
    recording = RecordingBackend()
    prepare(recording, case, arrays or Arrays(None))()
    return recording.calls[-1]


def of_net(name: str, size: int, form: str, *, batch: int, backward: bool) -> list[Call]:
    """The calls of one pass of the zoo's net ``name``.

    Args:
        size: labelled pixels along each side of the image.
        form: ``dense``, or ``patch``: one batch of patches.
        batch: patches in it.
        backward: whether the backward pass follows, for the gradients of all parameters.
    """
    net, recording = zoo.build(name, backend="cpu"), RecordingBackend()
    net.backend = recording
    program = Program(net, form)
    if form == "dense":
        x = np.empty((1, net.channels, *(size + r - 1 for r in net.receptive_field)), net.dtype)
    else:
        image = np.empty((1, net.channels, *(size + p - 1 for p in net.patch)), net.dtype)
        rows, columns = np.empty((2, batch), np.int32)
        x = recording.patches.extract(image, rows, columns, net.patch)
        recording.assign("cutting patches", "forward")

    def clock(direction):
        return lambda step, seconds: recording.assign(" + ".join(step.layers), direction)

    if not backward:
        program.forward(x, clock=clock("forward"))
        return recording.calls
    scores, tape = program.forward(x, keep=True, clock=clock("forward"))
    program.backward(tape, np.empty_like(scores), clock=clock("backward"))
    return recording.calls
