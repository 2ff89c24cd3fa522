"""Steps of nets with branches: what crops maps, and what merges them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kernels.checks import Margins
from net.passes import Workspaces
from net.steps import Step


@dataclass(frozen=True)
class CropStep(Step):
    margins: Margins

    def forward(self, run, x):
        return run.ops.padding.crop(x, self.margins), None

    def backward(self, run, saved, error, wanted):
        return [run.ops.padding.crop_backward(error, self.margins)], {}

    def output_size(self, sizes):
        (height, width), (top, left, bottom, right) = sizes[0], self.margins
        return height - top - bottom, width - left - right


@dataclass(frozen=True)
class _MergeStep(Step):
    """Merges maps after trimming them, at the bottom and right, to their common size."""

    pads_errors: ClassVar[bool] = True

    def forward(self, run, *maps):
        size = self.output_size([x.shape[2:] for x in maps])
        margins = [_trimmed(x.shape, size) for x in maps]
        trimmed = [run.ops.padding.crop(x, m) if any(m) else x for x, m in zip(maps, margins)]
        return self._merge(run.ops, trimmed), None

    def backward(self, run, saved, error, wanted):
        errors = self._split(run.ops, error, [shape[1] for shape in saved.shapes])
        for i, shape in enumerate(saved.shapes):
            margins = _trimmed(shape, error.shape[2:])
            if any(margins):
                errors[i] = run.ops.padding.crop_backward(errors[i], margins)
        return errors, {}

    def output_size(self, sizes):
        return tuple(map(min, *sizes))

    def host_workspaces(self, sizes):
        size = sizes.output[2:]
        trimmed = [shape for shape in sizes.inputs if any(_trimmed(shape, size))]
        return Workspaces(copies=tuple(sizes.nbytes((*s[:2], *size)) for s in trimmed))

    def device_workspaces(self, sizes):
        return self.host_workspaces(sizes)


@dataclass(frozen=True)
class AddStep(_MergeStep):
    passes_error: ClassVar[bool] = True

    def _merge(self, ops, maps):
        return ops.merging.add(maps)

    def _split(self, ops, error, channels):
        return [error] * len(channels)


@dataclass(frozen=True)
class ConcatenateStep(_MergeStep):
    def _merge(self, ops, maps):
        return ops.merging.concatenate(maps)

    def _split(self, ops, error, channels):
        return ops.merging.concatenate_backward(error, channels)


def _trimmed(shape, size) -> Margins:
    """What is cut off a map of ``shape`` to leave ``size``."""
    return (0, 0, shape[2] - size[0], shape[3] - size[1])
