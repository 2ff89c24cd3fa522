"""TIFF: tiled, striped, with pages, of any depth; decoded by tifffile, which scikit-image has."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from math import prod

import numpy as np
import tifffile

from net.extras import needs
from net.pictures.raw import Raw

_CHANNEL_AXES = "SC"
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
_JPEGS = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)
MOST_PAGES = 2**16
MOST_UNUSED = 2**24
"""Numbers of a tile that is larger than the image."""

# What it logs about damaged files is in the errors that follow
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@contextmanager
def opened(file, *, indices: bool = False):
    """The ``Raw`` of an open file: the first series, at full size.

    Args:
        indices: give the indices of an image with a palette, in place of its colors.
    """
    size = file.seek(0, 2)
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        if not tiff.series:
            raise ValueError("it holds no image, or is truncated")
        series = tiff.series[0]
        page = series.keyframe
        axes, shape = _squeezed(series.axes, series.shape)
        channels = axes.translate({ord(a): None for a in "YX"})
        if "Y" not in axes or "X" not in axes or len(channels) > 1 or "YX" not in axes:
            raise ValueError(
                f"its axes are {axes}, {' x '.join(map(str, shape))}; expected rows, columns and "
                "at most one more"
            )
        _check_segments(series, size)
        if prod(page.chunks) > max(prod(shape), MOST_UNUSED):
            raise ValueError(f"its tiles of {page.chunks} are larger than its {shape}")
        palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE and not indices
        if palette and (channels or page.colormap is None):
            raise ValueError("it has a palette and several channels")
        if palette:
            shape, channels, axes = (*shape, 3), "S", axes + "S"
        where = "last" if axes.endswith(tuple(_CHANNEL_AXES)) else "first"
        if channels and channels not in _CHANNEL_AXES:
            where = "pages"
        alpha = sum(sample in _ALPHA for sample in page.extrasamples) if channels else 0
        itemsize = 1 if palette else series.dtype.itemsize

        def read():
            array = _decoded(series, page).reshape(shape[:2] if palette else shape)
            return (page.colormap.T >> 8).astype(np.uint8)[array] if palette else array

        exact = page.compression not in _JPEGS
        yield Raw(shape, itemsize, read, where, alpha, copies=1 + 3 * palette, exact=exact)


def _squeezed(axes, shape):
    dimensions = [(a, n) for a, n in zip(axes, shape) if n != 1 or a in "YX"]
    return "".join(a for a, _ in dimensions), tuple(n for _, n in dimensions)


def _check_segments(series, size):
    """Refuse a file that is shorter than it says, which would be filled in with zeros."""
    if len(series.pages) > MOST_PAGES:
        raise ValueError(f"it holds {len(series.pages)} pages; expected at most {MOST_PAGES}")
    for page in series.pages:
        if page is None:
            raise ValueError("a page of it is missing")
        if len(page.dataoffsets) < prod(series.keyframe.chunked):
            raise ValueError("it lacks a part of its pixels")
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts)]
        if max(ends, default=size + 1) > size:
            raise ValueError("it is truncated")


def _decoded(series, page):
    try:
        return series.asarray()
    except ValueError as error:
        if "imagecodecs" in str(error):
            name = getattr(page.compression, "name", page.compression)
            raise ValueError(needs("imagecodecs", f"its compression {name}")) from None
        raise
