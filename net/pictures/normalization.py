"""The normalisation of images in files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kernels import checks
from net.pictures.reading import decoding, read
from net.usage import Normalization


def normalization_of(
    paths: Iterable[str | Path], *, axes: str | None = None, channels: int | None = None
) -> Normalization:
    """Mean and deviation over all pixels of all images, of which one is in memory at a time.

    Args:
        paths: the files, read by ``net.pictures.read``.
        axes, channels: arguments of ``read``; where ``channels`` is None, those of the first image.

    Raises:
        BadImage: as ``read``; or NaN or infinities.
        MemoryError: an image takes more memory than is free.
        OSError: a file cannot be read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.array([[1, 3]], np.uint8))
    ...     normalization_of([file.name])
    Normalization(mean=(2.0,), deviation=(1.0,))
    """
    checks.sequence("paths", paths)

    def images():
        count = channels
        for path in paths:
            image = read(path, axes=axes, channels=count)
            with decoding(path):
                if not np.isfinite((image.min(), image.max())).all():
                    raise ValueError("it holds NaN or infinities")
            count = len(image)
            yield image

    return Normalization.of(images())
