"""Images that are read by windows, whatever holds them, so that only what is being labelled is in
memory."""

from __future__ import annotations

import hashlib
import mmap
import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from kernels import checks
from kernels.checks import Pair
from net.files import checked_file
from net.images import channel_axis
from net.large import tiff_files, zarr_files
from net.pictures import read
from net.pictures.reading import decoding
from net.windows import check_readable

SAMPLES = 8
"""Windows per axis, hashed to identify an image."""
SAMPLE = 16
"""Rows and columns of each."""

_ROWS, _COLUMNS, _CHANNELS = "y", "x", "cs"


@dataclass(eq=False)
class Source:
    """An image C x H x W.

    Attributes:
        array: anything with shape, dtype and slicing.
        axes: which axes of it are channels (None: there is one), rows and columns; the others have
            the extent 1.
        channels: number of channels that are read, from the first.
        chunks: rows and columns that its storage reads together.
        path: the file or folder, None where it is none.
        known_by: properties that tell the file from others, beside its samples.
        stated: axis that the caller said to hold the channels.
    """

    array: Any
    axes: tuple[int | None, int, int]
    channels: int
    chunks: Pair = (1, 1)
    path: Path | None = None
    known_by: dict = field(default_factory=dict)
    stated: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """C x H x W."""
        return (self.channels, *(int(self.array.shape[axis]) for axis in self.axes[1:]))

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the numbers."""
        return np.dtype(self.array.dtype)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """The window C x h x w.

        Raises:
            ValueError: the image gives a window of another shape, or a file is damaged.
        """
        with nullcontext() if self.path is None else decoding(self.path):
            window = np.asarray(self.part(rows, columns))
        if self.path is not None and isinstance(self.array, np.memmap):
            window = np.array(window)
            self.array._mmap.madvise(mmap.MADV_DONTNEED)  # pages of the file are not kept
        wanted = self.channels, rows.stop - rows.start, columns.stop - columns.start
        if window.shape != wanted:
            raise ValueError(f"image gave a window of shape {window.shape}; expected {wanted}")
        return window

    def part(self, rows: slice, columns: slice):
        """The window C x h x w as the array gives it: of a Dask array, one of these."""
        place: list[int | slice] = [0] * len(self.array.shape)
        for axis, part in zip(self.axes, (slice(0, self.channels), rows, columns)):
            if axis is not None:
                place[axis] = part
        window = self.array[tuple(place)]
        axes = [axis for axis in self.axes if axis is not None]
        order = [sorted(axes).index(axis) for axis in axes]
        if order != sorted(order):
            window = (window if hasattr(window, "transpose") else np.asarray(window)).transpose(
                order
            )
        return window[None] if self.axes[0] is None else window

    def identity(self) -> dict:
        """What tells this image from others: shape, dtype, a digest of windows spread over it, and
        of a file its size and when it was last changed."""
        digest = hashlib.blake2b(digest_size=16)
        if isinstance(self.array, np.ndarray) and not isinstance(self.array, np.memmap):
            digest.update(np.ascontiguousarray(self.array))
        else:
            for rows in _spread(self.shape[1]):
                for columns in _spread(self.shape[2]):
                    digest.update(np.ascontiguousarray(self.read(rows, columns)))
        facts = {"shape": list(self.shape), "dtype": self.dtype.name, "samples": digest.hexdigest()}
        return facts | self.known_by


def _spread(length):
    starts = {round(i * max(0, length - SAMPLE) / (SAMPLES - 1)) for i in range(SAMPLES)}
    return [slice(start, min(length, start + SAMPLE)) for start in sorted(starts)]


def opened(image, channels: int | None, axes: str | None = None, name: str = "image") -> Source:
    """The ``Source`` of an image.

    Args:
        image: the path of an ``.npy``, TIFF or OME-TIFF file, or of a Zarr array or OME-Zarr image
            (version 2 or 3), read by windows; of a PNG or the like, read whole; or an array: of
            NumPy, Dask, Zarr, or anything with shape, dtype and slicing. A pyramid is taken at full
            size.
        channels: number of channels that there must be; None takes any. Alpha is dropped, but where
            it is counted.
        axes: which axis holds the channels, ``"first"`` or ``"last"``, where nothing else says so.
        name: the image's name in messages.

    Raises:
        TypeError, ValueError: no image of real numbers with ``channels`` channels.
        ModuleNotFoundError: its format needs a package that is missing; the message names it.
        OSError: it cannot be read.

    >>> opened(np.zeros((20, 30, 3), np.uint8), 3).shape
    (3, 20, 30)
    """
    if axes is not None:
        checks.choice("axes", axes, ("first", "last"))
    path, known_by, names, alpha, chunks = None, {}, None, 0, None
    if isinstance(image, str | Path):
        path = checked_file(name, image)
        name = str(path)
        image, names, alpha, chunks, known_by = _of_file(path, channels, axes)
    check_readable(name, image, "the path of a file, an array")
    shape = tuple(image.shape)
    if not all(isinstance(n, Integral) for n in shape):
        raise ValueError(f"{name} has shape {shape}; expected known numbers of rows and columns")
    if names is None:
        places = _unnamed(name, shape, axes, channels)
    else:
        places = _named(name, shape, names, axes, channels, alpha)
    chunks = (chunks or zarr_files.chunks_of(image) or (1,) * len(shape))[-len(shape) :]
    if channels is None:
        channels = (1 if places[0] is None else int(shape[places[0]])) - alpha
    chunk = tuple(chunks[axis] for axis in places[1:])
    path = None if path is None else path.absolute()
    return Source(image, places, channels, chunk, path, known_by, axes)


def _of_file(path, channels, axes):
    """(array, names of its axes or None, number of alpha channels, chunks, what it is known by)"""
    if path.is_dir():
        array, names, metadata = zarr_files.image_in(path)
        return array, names, 0, None, {"metadata": metadata}
    with path.open("rb") as file:
        begin, state = file.read(8), os.fstat(file.fileno())
    known_by = {"bytes": state.st_size, "changed": state.st_mtime_ns}
    if begin.startswith(b"\x93NUMPY"):
        with decoding(path):
            return np.load(path, "r", allow_pickle=False), None, 0, None, known_by
    if begin[:4] in tiff_files.BEGINNINGS:
        return (*tiff_files.image_in(path), known_by)
    return read(path, axes=axes, channels=channels), "cyx", 0, None, known_by


def _unnamed(name, shape, axes, channels):
    places = list(range(len(shape)))
    for axis in range(len(shape) - 2):
        if len(places) > 3 and shape[axis] == 1:
            places.remove(axis)
    axis = channel_axis(name, tuple(shape[place] for place in places), axes, channels)
    of_channels = None if axis is None else places.pop(axis)
    return of_channels, *places


def _named(name, shape, names, axes, channels, alpha):
    said = f"{name} has axes {names}, {' x '.join(map(str, shape))}"
    of_channels = [axis for axis, one in enumerate(names) if one in _CHANNELS]
    others = [a for a, one in enumerate(names) if one not in _CHANNELS + "yx" and shape[a] > 1]
    if axes == "first" and not of_channels and len(others) == 1:
        of_channels, others = others, []  # pages that are channels
    if names.count(_ROWS) != 1 or names.count(_COLUMNS) != 1 or others or len(of_channels) > 1:
        raise ValueError(f"{said}; expected rows, columns and at most channels")
    count = shape[of_channels[0]] if of_channels else 1
    if channels is not None and count not in (channels, channels + alpha):
        raise ValueError(f"{said}: {count} channels; expected {channels}")
    place = of_channels[0] if of_channels else None
    return place, names.index(_ROWS), names.index(_COLUMNS)
