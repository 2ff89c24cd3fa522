"""Label images and masks of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kernels import checks
from kernels.checks import Pair
from net.images import channels_first
from net.pictures.reading import decoding, raw, read
from net.usage import LabelRule


def read_values(path: str | Path, rule: LabelRule) -> np.ndarray:
    """The values of a label image: H x W, or H x W x 3 uint8 where ``rule`` is of colors.

    Of an image with a palette these are the indices, or the colors if the rule is of those.

    Raises:
        BadImage: no such image, or a JPEG, which does not keep values.
        MemoryError: it takes more memory than is free.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.array([[0, 7]], np.uint8))
    ...     np.array(read_values(file.name, LabelRule()))
    array([[0, 7]], dtype=uint8)
    """
    checks.instance("rule", rule, LabelRule)
    with decoding(path) as path, raw(path, indices=not rule.of_colors) as opened:
        if not opened.exact:
            raise ValueError("it is compressed with loss; expected labels that keep their values")
        if not rule.of_colors and len(opened.shape) != 2:
            raise ValueError(
                f"it is of shape {' x '.join(map(str, opened.shape))}; expected rows x columns, a "
                "value for each pixel (or a label rule of colors)"
            )
        values = opened.read()
        if rule.of_colors:
            values = channels_first("it", values, opened.axes).transpose(1, 2, 0)
            values = values[..., : values.shape[2] - opened.alpha]
        return values


def read_labels(
    path: str | Path, rule: LabelRule, classes: int, size: Pair | None = None
) -> np.ndarray:
    """The classes of a label image, as ``LabelRule.decoded`` gives them: H x W int32, -1 where
    there is no label.

    Args:
        path: the file.
        rule: which value is which class.
        classes: number of classes.
        size: rows and columns that it must have.

    Raises:
        BadImage: as ``read_values``; or another size, or values that the rule does not name.
        MemoryError: it takes more memory than is free.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.array([[0, 1, 2]], np.uint8))
    ...     read_labels(file.name, LabelRule(), 2)
    array([[-1,  0,  1]], dtype=int32)
    """
    size = None if size is None else checks.pair("size", size)
    checks.instance("rule", rule, LabelRule)
    rule.of(classes)
    values = read_values(path, rule)
    with decoding(path):
        _check_size(values.shape[:2], size)
        return rule.decoded(values, classes)


def read_mask(path: str | Path, size: Pair | None = None) -> np.ndarray:
    """A mask of pixels, H x W bool: where a channel of the image is above 0.

    Args:
        path: the file.
        size: rows and columns that it must have.

    Raises:
        BadImage: as ``net.pictures.read``, or another size.
        MemoryError: it takes more memory than is free.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.array([[0, 7, 0.5]]))
    ...     read_mask(file.name, (1, 3))
    array([[False,  True,  True]])
    """
    size = None if size is None else checks.pair("size", size)
    image = read(path)
    with decoding(path):
        _check_size(image.shape[1:], size)
        return (image > 0).any(axis=0)


def _check_size(shape, size):
    if size is not None and tuple(shape) != size:
        raise ValueError(f"it is {shape[0]} x {shape[1]}; expected {size[0]} x {size[1]}")
