"""Running a net's steps on arrays of its backend, forward and backward."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from net.graph import IMAGE, Net
from net.steps import Learning, Run, Step, steps_of

Clock = Callable[[Step, float], None]


@dataclass
class Tape:
    """What one forward pass keeps for one backward pass."""

    run: Run
    kept: list


class Program:
    """The steps of a net in one form.

    Args:
        net: its parameters are read at every call, never copied.
        form: ``"patch"`` (maps of the compact strided sizes) or ``"dense"`` (stride 1, dilated).

    Attributes:
        steps: what runs forward and backward, in order.
        forward_steps: what runs where no backward pass follows.
        learns: by layer, whether its output depends on parameters.
    """

    def __init__(self, net: Net, form: str):
        self.net = net
        self.steps = steps_of(net, form)
        self.forward_steps = steps_of(net, form, backward=False)
        self.learns = {IMAGE: False}
        for step in self.steps:
            own = any(name.startswith(f"{step.node.name}.") for name in net.parameters)
            self.learns[step.output] = own or any(self.learns[name] for name in step.inputs)

    def forward(
        self,
        x,
        *,
        keep: bool = False,
        learning: Learning | None = None,
        clock: Clock | None = None,
    ):
        """The net's output for ``x``, N x C x H x W on the backend.

        Args:
            keep: also return the ``Tape`` for ``backward``; without it, maps are dropped as soon as
                no step needs them.
            learning: what dropout draws from; None switches it off.
            clock: called after each step with the step and its seconds.

        Returns:
            N x K x Ho x Wo, or (that, tape).
        """
        run = self.run(learning)
        maps, kept = {IMAGE: x}, []
        for step in self.steps if keep else self.forward_steps:
            started = time.perf_counter()
            kept.append(self.advance(run, step, maps))
            if not keep:
                kept.clear()
            self._tell(clock, step, started)
        output = maps[self.steps[-1].output]
        return (output, Tape(run, kept)) if keep else output

    def run(self, learning: Learning | None = None) -> Run:
        """What the steps of one pass share."""
        arrays = self.net.parameters | self.net.statistics
        return Run(self.net.backend, arrays, self.steps[-1], learning)

    def advance(self, run: Run, step: Step, maps: dict):
        """Run one step on ``maps`` (by layer), drop what no later step reads.

        Returns:
            what the step's backward pass needs.
        """
        inputs = [maps[name] for name in step.inputs]
        maps[step.output], for_backward = step.forward(run, *inputs)
        for name in step.drops:
            del maps[name]
        return for_backward

    def backward(self, tape: Tape, error, *, image: bool = False, clock: Clock | None = None):
        """Gradients of sum(error * output) by all parameters.

        Args:
            tape: of the forward pass; used up by this call.
            error: the error map, shaped like the output.
            image: also the gradient by the input.
            clock: called after each step with the step and its seconds.

        Returns:
            (gradients by parameter name, gradient by the input or None).
        """
        errors, gradients = {self.steps[-1].output: error}, {}
        for step in reversed(self.steps):
            started = time.perf_counter()
            wanted = [self.learns[name] or image for name in step.inputs]
            kept = tape.kept.pop()
            if step.output not in errors:
                continue
            # No name may hold on to a map that the step is done with
            error = step.differentiate(tape.run, kept, errors.pop(step.output))
            for_inputs, own = step.backward(tape.run, kept, error, wanted)
            del kept, error
            gradients |= own
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
