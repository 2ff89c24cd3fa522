"""Running a net's steps on arrays of its backend, forward and backward."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from net.conversion import steps_of
from net.graph import Net
from net.nodes import IMAGE
from net.passes import Learning, Run, Saved
from net.steps import Step

Clock = Callable[[Step, float], None]


@dataclass
class Tape:
    """One forward pass, as one backward pass needs it: what each step saved, in order."""

    run: Run
    saved: list[Saved]


class Program:
    """The steps of a net in one form.

    Args:
        net: its parameters are read at every call, never copied.
        form: ``"patch"`` (maps of the compact strided sizes) or ``"dense"`` (stride 1, dilated).

    Attributes:
        steps: the steps that run forward and backward, in order.
        learns: whether a layer's output depends on parameters, by layer.
        plans: plans that ``net.planning`` remembers of the last passes.

    Raises:
        TypeError, ValueError: no net, or another form.

    >>> import numpy as np
    >>> from net import zoo
    >>> program = Program(zoo.build("lenet28", backend="reference"), "dense")
    >>> program.forward(np.ones((1, 1, 30, 29))).shape
    (1, 10, 3, 2)
    """

    def __init__(self, net: Net, form: str):
        self._form = form
        self._set(net, steps_of(net, form))

    @cached_property
    def forward_steps(self) -> list[Step]:
        """What runs where no backward pass follows, in order."""
        return steps_of(self.net, self._form, backward=False)

    def _set(self, net, steps):
        self.net, self.steps = net, steps
        self.plans: dict = {}
        self.learns = {IMAGE: False}
        for step in steps:
            self.learns[step.output] = step.learns or any(map(self.learns.get, step.inputs))

    def forward(
        self,
        x,
        *,
        keep: bool = False,
        learning: Learning | None = None,
        clock: Clock | None = None,
    ):
        """The net's output for ``x``, N x C x H x W on the backend.

        Maps are dropped as soon as no step needs them: ``x`` too, if the caller holds no reference
        to it.

        Args:
            keep: also return the ``Tape`` for ``backward``.
            learning: the source of dropout's masks; None switches dropout off.
            clock: called after each step with the step and its seconds.

        Returns:
            N x K x Ho x Wo, or (that, tape).
        """
        run = self.run(learning, backward=keep)
        maps, saved = {IMAGE: x}, []
        del x
        for step in self.steps if keep else self.forward_steps:
            started = time.perf_counter()
            for_backward = self.advance(run, step, maps)
            if keep:
                saved.append(for_backward)
            del for_backward
            self._tell(clock, step, started)
        output = maps[self.steps[-1].output]
        return (output, Tape(run, saved)) if keep else output

    def run(self, learning: Learning | None = None, *, backward: bool = False) -> Run:
        """What the steps of one pass share; ``backward`` tells whether a backward pass follows.

        Raises:
            TypeError, ValueError: an array of the net was replaced by one that does not fit.
        """
        arrays = self.net.arrays()
        return Run(self.net.backend, arrays, self.steps[-1].output, learning, backward)

    def advance(self, run: Run, step: Step, maps: dict) -> Saved:
        """Run one step on ``maps`` (by layer), drop what no later step reads.

        Returns:
            what the step saves for backward.
        """
        inputs = [maps[name] for name in step.inputs]
        maps[step.output], argmax = step.forward(run, *inputs)
        for name in step.drops:
            del maps[name]
        return step.saved(inputs, maps[step.output], argmax)

    def backward(self, tape: Tape, error, *, image: bool = False, clock: Clock | None = None):
        """Gradients of sum(error * output) by all parameters.

        Args:
            tape: the forward pass's tape; used up by this call.
            error: the error map, shaped like the output; dropped as soon as no step needs it, if
                the caller holds no reference to it.
            image: also the gradient by the input.
            clock: called after each step with the step and its seconds.

        Returns:
            (gradients by parameter name, gradient by the input or None).
        """
        errors, gradients = {self.steps[-1].output: error}, {}
        del error
        for step in reversed(self.steps):
            started = time.perf_counter()
            wanted = [self.learns[name] or image for name in step.inputs]
            saved = tape.saved.pop()
            if step.output not in errors:
                continue
            error = step.differentiate(tape.run, saved, errors.pop(step.output))
            for_inputs, by_parameter = step.backward(tape.run, saved, error, wanted)
            del saved, error  # no name may hold a map that the step is done with
            gradients |= by_parameter
            for name, want in zip(step.inputs, wanted):
                e = for_inputs.pop(0)
                if want and name in errors:
                    errors[name] = self.net.backend.merging.add([errors[name], e])
                elif want:
                    errors[name] = e
                del e
            self._tell(clock, step, started)
        return gradients, errors.get(IMAGE)

    def _tell(self, clock, step, started):
        if clock is not None:
            self.net.backend.memory.synchronize()
            clock(step, time.perf_counter() - started)


def added(ops, total: dict, gradients: dict) -> dict:
    """``total`` + ``gradients``, array by array on the backend; an empty total is 0."""
    if not total:
        return gradients
    sums = {}
    for name, gradient in gradients.items():
        maps = [array.reshape(1, 1, 1, gradient.size) for array in (total[name], gradient)]
        sums[name] = ops.merging.add(maps).reshape(gradient.shape)
    return sums
