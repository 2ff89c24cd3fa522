"""The work of one region: read its window, label it, write it. It is the same in every process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kernels.host.classes import NEAR, most_probable
from net.dense import Dense
from net.graph import Net
from net.large.legend import Legend
from net.large.regions import Grid, ImageWindow, Region, labelled
from net.large.sinks import Sink
from net.large.sources import Source

PROBABILITIES = {"float16": np.dtype(np.float16), "uint8": np.dtype(np.uint8)}
"""Storage dtype of probabilities; uint8 is 255 * p, rounded. Unlabelled pixels hold NaN, or 0 in
uint8."""


class Taken(NamedTuple):
    """What a region is labelled from.

    Attributes:
        window: window of the image; None where nothing of the region is wanted.
        wanted: mask of the wanted pixels of the region; None is all.
    """

    window: np.ndarray | None
    wanted: np.ndarray | None


class Labels(NamedTuple):
    """What is written of a region: label values h x w, and probabilities K x h x w or None."""

    classes: np.ndarray
    probabilities: np.ndarray | None


class Labeller:
    """Labels regions of images of one net.

    Args:
        net: the net that labels.
        border: border of the whole image.
        probabilities: a key of ``PROBABILITIES``; None keeps none.
    """

    def __init__(self, net: Net, border: str, probabilities: str | None):
        self.net, self.border = net, border
        self.probabilities = None if probabilities is None else PROBABILITIES[probabilities]
        self.legend = Legend.of(net)
        self._dense = Dense(net, "valid")

    def part(self, size: tuple[int, int], region: Region) -> Region | None:
        """What of a region of an image of ``size`` has labels."""
        return region.within(*labelled(self.net, self.border, size))

    def labels(self, size: tuple[int, int], region: Region, taken: Taken) -> Labels:
        """The labels of a region of an image of ``size``."""
        legend, dtype = self.legend, self.probabilities
        classes = np.full(region.size, legend.unlabelled, legend.dtype)
        shares = None
        if dtype is not None:
            nothing = np.nan if dtype.kind == "f" else 0
            shares = np.full((len(legend.names), *region.size), nothing, dtype)
        if taken.window is None:
            return Labels(classes, shares)
        part = self.part(size, region)
        place = tuple(
            slice(inner.start - outer.start, inner.stop - outer.start)
            for inner, outer in ((part.rows, region.rows), (part.columns, region.columns))
        )
        if taken.wanted is None and self.net.backend.name != "reference":
            classes[place], probabilities = self._of_all(taken.window)
        else:
            indices, probabilities = self._dense.predict(taken.window, mask=taken.wanted)
            classes[place] = legend.encoded(indices)
        if dtype is not None:
            if dtype.kind == "u":
                probabilities *= 255
                np.nan_to_num(np.rint(probabilities, out=probabilities), copy=False)
            shares[:, *place] = probabilities
        return Labels(classes, shares)

    def _of_all(self, window):
        """(label values, probabilities) as of ``Dense.predict``; probabilities only if they are
        kept."""
        ops, legend, near = self.net.backend, self.legend, 0
        maps = self._dense.program.forward(self._dense.enter(window))
        if not self.net.gives_probabilities:
            if self.probabilities is None:
                near = NEAR[self.net.dtype]
            else:
                maps = ops.softmax.forward(maps)
        maps = ops.memory.to_host(maps)[0]
        values = np.array(legend.values, legend.dtype)
        classes, doubt = most_probable(maps, values, legend.unlabelled, near)
        if doubt is not None:
            scores = ops.memory.to_device(np.ascontiguousarray(maps[:, doubt])[None, :, None])
            probabilities = ops.memory.to_host(ops.softmax.forward(scores))[0, :, 0]
            classes[doubt] = values[probabilities.argmax(axis=0)]
        return classes, maps


@dataclass(eq=False)
class Work:
    """What is done with each region.

    Attributes:
        labeller: the labeller of the regions.
        grid: the regions.
        source: the image; None where what is read comes from elsewhere.
        where: an image of the same size: where a channel is above 0 labels are wanted; None is all.
        sinks: files of the classes and, where they are kept, of the probabilities.
    """

    labeller: Labeller
    grid: Grid
    source: Source | None
    where: Source | None
    sinks: tuple[Sink, ...]

    def take(self, region: Region) -> Taken:
        """Read the window that a region needs; nothing is read where nothing of the region is
        wanted."""
        part = self.labeller.part(self.grid.size, region)
        if part is None:
            return Taken(None, None)
        wanted = None
        if self.where is not None:
            wanted = (self.where.read(part.rows, part.columns) > 0).any(axis=0)
            if not wanted.any():
                return Taken(None, None)
            wanted = None if wanted.all() else wanted
        net = self.labeller.net
        window = ImageWindow.of(net, self.labeller.border, self.grid.size, part)
        return Taken(window.framed(net, self.source.read(*window.read)), wanted)

    def label(self, region: Region, taken: Taken) -> Labels:
        """The labels of a region."""
        return self.labeller.labels(self.grid.size, region, taken)

    def write(self, region: Region, labels: Labels) -> None:
        """Put the labels of a region where they belong."""
        for sink, values in zip(self.sinks, labels):
            sink.write(region.rows, region.columns, values)
