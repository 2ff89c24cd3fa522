"""Regions of an image's labels, and the window of the image that each of them looks at.

A region is labelled as if the whole image had been: where its window reaches beyond the image, what
stands there follows from the image's coordinates, as ``net.images`` pads a whole one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kernels.checks import Pair
from net import images
from net.graph import Net
from net.large.sources import Source

BAND = 256
"""Rows that are normalised together."""


@dataclass(frozen=True)
class Region:
    """Rows and columns of labels.

    Attributes:
        number: in its grid, row by row.
    """

    number: int
    rows: slice
    columns: slice

    @property
    def size(self) -> Pair:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass(frozen=True)
class Grid:
    """Labels of ``size`` cut into regions.

    Attributes:
        size: rows and columns of labels.
        region: rows and columns of every region but those at the bottom and right, which may have
            fewer.

    >>> [region.size for region in Grid((5, 7), (3, 4))]
    [(3, 4), (3, 3), (2, 4), (2, 3)]
    """

    size: Pair
    region: Pair

    @property
    def counts(self) -> Pair:
        """Regions along each axis."""
        return tuple(-(-n // step) for n, step in zip(self.size, self.region))

    def __len__(self) -> int:
        return self.counts[0] * self.counts[1]

    def __getitem__(self, number: int) -> Region:
        if not 0 <= number < len(self):
            raise IndexError(number)
        places = divmod(number, self.counts[1])
        begins = [place * step for place, step in zip(places, self.region)]
        ends = [min(n, at + step) for n, at, step in zip(self.size, begins, self.region)]
        return Region(number, *map(slice, begins, ends))

    def __iter__(self) -> Iterator[Region]:
        return map(self.__getitem__, range(len(self)))

    def kinds(self) -> Iterator[tuple[Pair, int]]:
        """The sizes of the regions, each with their number."""
        rows, columns = (
            [(step, n // step)] * (n >= step) + [(n % step, 1)] * (n % step > 0)
            for n, step in zip(self.size, self.region)
        )
        for height, down in rows:
            for width, across in columns:
                yield (height, width), down * across


def window(net: Net, border: str, source: Source, region: Region) -> np.ndarray:
    """What a region's labels look at, C x (h + p - 1) x (w + p - 1), normalised: an image whose
    labels with the border ``valid`` are those of the region.

    >>> from net import zoo
    >>> from net.large.sources import opened
    >>> source = opened(np.ones((40, 50), np.uint8), 1)
    >>> net = zoo.build("lenet28", backend="reference")
    >>> window(net, "reflect", source, Grid((40, 50), (16, 16))[0]).shape
    (1, 43, 43)
    """
    wanted = [
        np.arange(part.start, part.stop + p - 1, dtype=np.int32)
        for part, p in zip((region.rows, region.columns), net.patch)
    ]
    rows, columns = images.places(net, *wanted, source.shape[1:], border)
    read = [slice(int(at[at >= 0].min()), int(at.max()) + 1) for at in (rows, columns)]
    raw = source.read(*read)
    result = np.empty((net.channels, len(rows), len(columns)), net.dtype)
    outside, inside = columns < 0, np.maximum(columns - read[1].start, 0)
    for begin in range(0, len(rows), BAND):
        band = slice(begin, begin + BAND)
        at = np.maximum(rows[band] - read[0].start, 0)
        part = images.net_input(net, raw[:, at][:, :, inside], "first")
        part[:, rows[band] < 0] = 0
        part[:, :, outside] = 0
        result[:, band] = part
    return result
