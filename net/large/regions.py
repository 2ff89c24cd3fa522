"""Regions of an image's labels, and the window of the image that each of them looks at.

A region is labelled as if the whole image had been: where its window reaches beyond the image, it
is padded by the image's coordinates, as ``net.images`` pads a whole image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kernels.checks import Pair
from net import images
from net.borders import patch_margins
from net.graph import Net

BAND = 64
"""Rows that are normalised together."""


@dataclass(frozen=True)
class Region:
    """Rows and columns of labels.

    Attributes:
        number: its number in the grid, row by row.
    """

    number: int
    rows: slice
    columns: slice

    @property
    def size(self) -> Pair:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def within(self, rows: slice, columns: slice) -> Region | None:
        """Its part in these rows and columns; None where it has none there."""
        parts = [
            slice(max(one.start, other.start), min(one.stop, other.stop))
            for one, other in ((self.rows, rows), (self.columns, columns))
        ]
        return Region(self.number, *parts) if all(p.start < p.stop for p in parts) else None


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


def labelled(net: Net, border: str, size: Pair) -> tuple[slice, slice]:
    """Rows and columns of an image of ``size`` that have labels, as two slices.

    Raises:
        ValueError: the image is smaller than the patch and the border is ``valid``.

    >>> from net import zoo
    >>> labelled(zoo.build("lenet28", backend="reference"), "valid", (30, 40))
    (slice(13, 16, None), slice(13, 26, None))
    """
    labels = images.output_size(net, size, border)
    before = patch_margins(net.patch)[:2] if border == "valid" else (0, 0)
    return tuple(slice(b, b + n) for b, n in zip(before, labels))


@dataclass(frozen=True, eq=False)
class ImageWindow:
    """What the labels of a region look at: an image whose labels with the border ``valid`` are
    those of the region.

    Attributes:
        rows, columns: rows and columns of the image, in the order of the window; -1 is a row or
            column of zeros.
        read: slices of rows and columns that hold them all.
    """

    rows: np.ndarray
    columns: np.ndarray
    read: tuple[slice, slice]

    @classmethod
    def of(cls, net: Net, border: str, size: Pair, region: Region) -> ImageWindow:
        """The window of a region that has labels all over, of an image of ``size``.

        >>> from net import zoo
        >>> net = zoo.build("lenet28", backend="reference")
        >>> ImageWindow.of(net, "reflect", (40, 50), Grid((40, 50), (16, 16))[0]).read
        (slice(0, 30, None), slice(0, 30, None))
        """
        wanted = [
            np.arange(part.start, part.stop + p - 1, dtype=np.int32)
            for part, p in zip((region.rows, region.columns), net.patch)
        ]
        # All of a region with the border valid lies within the image
        around = "zero" if border == "valid" else border
        rows, columns = images.places(net, *wanted, size, around)
        read = [slice(int(at[at >= 0].min()), int(at.max()) + 1) for at in (rows, columns)]
        return cls(rows, columns, tuple(read))

    def framed(self, net: Net, raw: np.ndarray) -> np.ndarray:
        """The window C x (h + p - 1) x (w + p - 1), normalised, of what was read."""
        result = np.empty((net.channels, len(self.rows), len(self.columns)), net.dtype)
        top, left = (part.start for part in self.read)
        columns = _run(np.maximum(self.columns - left, 0))
        for begin in range(0, len(self.rows), BAND):
            rows = self.rows[begin : begin + BAND]
            band = raw[:, _run(np.maximum(rows - top, 0))][:, :, columns]
            band = images.net_input(net, band, "first")
            result[:, begin : begin + BAND] = band
        result[:, self.rows < 0] = 0
        result[:, :, self.columns < 0] = 0
        return result


def _run(places):
    """Places that follow one another as a slice."""
    first, count = int(places[0]), len(places)
    follow = np.array_equal(places, np.arange(first, first + count))
    return slice(first, first + count) if follow else places
