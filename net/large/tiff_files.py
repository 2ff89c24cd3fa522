"""TIFF and OME-TIFF, read by windows through tifffile: tiled, striped, pyramids."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from net.extras import needed

BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of the files."""


def image_in(path: Path) -> tuple:
    """(array, names of its axes, number of alpha channels, chunks) of the first image of a file, at
    full size; none of its pixels are read.

    Raises:
        ModuleNotFoundError: it needs a package that is missing.
        ValueError: no image, or a truncated one.
    """
    import tifffile

    try:
        tiff = tifffile.TiffFile(path)
        series = tiff.series[0]
        page = series.keyframe
    except (IndexError, tifffile.TiffFileError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    for one in series.pages:
        counts = np.asarray(one.databytecounts, np.uint64)
        ends = np.asarray(one.dataoffsets, np.uint64) + counts
        if ends.max(initial=0) > tiff.filehandle.size:
            raise ValueError(f"{path} cannot be read: it is truncated")
    alpha = sum(int(sample) in (1, 2) for sample in page.extrasamples)
    names = series.axes.lower()
    if series.dataoffset is not None:  # one run of numbers, as an .npy
        array = np.memmap(
            path,
            series.dtype.newbyteorder(tiff.byteorder),
            "r",
            series.dataoffset,
            shape=series.shape,
        )
        return array, names, alpha, (1,) * len(series.shape)
    if page.compression not in (1, 8, 32946, 32773):
        needed("imagecodecs", f"the compression {page.compression!s} of {path}")
    zarr = needed("zarr", f"{path}, read by windows,")
    array = zarr.open_array(series.aszarr(level=0), mode="r")
    return array, names, alpha, array.chunks
