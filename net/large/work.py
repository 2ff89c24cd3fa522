"""The work of one region: read its window, label it, write it. Wherever that happens, it is this."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from net.dense import Dense
from net.graph import Net
from net.large.legend import Legend
from net.large.regions import Grid, Region, window
from net.large.sinks import Sink
from net.large.sources import Source

PROBABILITIES = {"float16": np.float16, "uint8": np.uint8}
"""How probabilities are kept: as they are, rounded; or times 255, rounded, 0 where unlabelled."""


class Taken(NamedTuple):
    """What a region is labelled from: the window of its image, and which of its pixels are wanted;
    None is all."""

    window: np.ndarray | None
    wanted: np.ndarray | None


class Labels(NamedTuple):
    """What is written of a region: label values h x w, and probabilities K x h x w or None."""

    classes: np.ndarray
    probabilities: np.ndarray | None


@dataclass(eq=False)
class Work:
    """What is done with each region of ``grid``.

    Attributes:
        net: labels.
        border: of the whole image.
        probabilities: a key of ``PROBABILITIES``; None keeps none.
        grid: the regions.
        source: the image; None where windows come from somewhere else.
        where: an image of which above 0 is wanted, as large as the labels; None is all.
        sinks: for the classes and, where they are kept, the probabilities.
    """

    net: Net
    border: str
    probabilities: str | None
    grid: Grid
    source: Source | None = None
    where: Source | None = None
    sinks: tuple[Sink, ...] = ()

    @cached_property
    def legend(self) -> Legend:
        """Of the classes' values."""
        return Legend.of(self.net)

    @cached_property
    def dense(self) -> Dense:
        """Labels windows."""
        return Dense(self.net, "valid")

    def take(self, region: Region) -> Taken:
        """Read what a region needs; of an image that nothing wants, nothing."""
        wanted = None
        if self.where is not None:
            wanted = self.where.read(region.rows, region.columns)[0] > 0
            if not wanted.any():
                return Taken(None, wanted)
            wanted = None if wanted.all() else wanted
        return Taken(window(self.net, self.border, self.source, region), wanted)

    def label(self, region: Region, taken: Taken) -> Labels:
        """The labels of a region."""
        classes = len(self.legend.names)
        dtype = PROBABILITIES.get(self.probabilities)
        if taken.window is None:
            values = np.full(region.size, self.legend.unlabelled, self.legend.dtype)
            nothing = None
            if dtype is not None:
                fill = np.nan if dtype is np.float16 else 0
                nothing = np.full((classes, *region.size), fill, dtype)
            return Labels(values, nothing)
        found, shares = self.dense.predict(taken.window, mask=taken.wanted)
        values = self.legend.encoded(found)
        if dtype is np.uint8:
            shares *= 255
            np.nan_to_num(np.rint(shares, out=shares), copy=False)
        return Labels(values, None if dtype is None else shares.astype(dtype))

    def write(self, region: Region, labels: Labels) -> None:
        """Put the labels of a region where they belong."""
        for sink, values in zip(self.sinks, labels):
            sink.write(region.rows, region.columns, values)
