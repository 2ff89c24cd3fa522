"""Images of PNG, JPEG, TIFF, BMP, GIF, WebP and .npy files, as arrays C x H x W of their dtype."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

from kernels import checks, get_backend
from net import free_memory
from net.files import checked_file
from net.images import channels_first
from net.pictures import raster, tiff
from net.pictures.raw import Raw

_READERS = (
    *((begin, tiff.opened) for begin in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((begin, raster.opened) for begin in raster.BEGINNINGS),
)
_NPY = b"\x93NUMPY"


class BadImage(ValueError):
    """A file that is no image, not a whole one, or none that is wanted; the message says why.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     read(file.name)
    Traceback (most recent call last):
        ...
    net.pictures.reading.BadImage: ... cannot be read: it is empty
    """


def read(path: str | Path, *, axes: str | None = None, channels: int | None = None) -> np.ndarray:
    """An image, C x H x W, in the dtype of its file.

    What is transparent is taken as it is: alpha is dropped, with a warning, but where ``channels``
    counts it. A picture of a camera is turned as its file says.

    Args:
        path: the file. An ``.npy`` is mapped, not read.
        axes: which axis holds the channels, ``"first"`` or ``"last"``, for files that do not say:
            ``.npy`` and TIFF with pages. None looks for it (``net.images.channels_first``).
        channels: number of channels that there must be.

    Raises:
        BadImage: no image of a kind that is read, a damaged one, one of other channels, or one
            where either axis may hold them.
        MemoryError: it takes more memory than is free.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.zeros((20, 30, 3), np.uint8))
    ...     read(file.name).shape
    (3, 20, 30)
    """
    axes, channels = _checked(axes, channels)
    with decoding(path) as path, raw(path) as opened:
        image, dropped = _laid_out(opened, opened.read(), axes, channels)
        if dropped:
            warnings.warn(f"{path}: alpha is dropped", stacklevel=4)
        return image


def shape_of(
    path: str | Path, *, axes: str | None = None, channels: int | None = None
) -> tuple[int, int, int]:
    """Channels, rows and columns of the image that ``read`` gives, told by the file's header.

    Args:
        path, axes, channels: as ``read``.

    Raises:
        BadImage, MemoryError, OSError: as ``read``, as far as the header tells.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.zeros((20, 30, 3), np.uint8))
    ...     shape_of(file.name)
    (3, 20, 30)
    """
    axes, channels = _checked(axes, channels)
    with decoding(path) as path, raw(path) as opened:
        outline = np.broadcast_to(np.uint8(0), opened.shape)
        return _laid_out(opened, outline, axes, channels)[0].shape


def _checked(axes, channels):
    if axes is not None:
        checks.choice("axes", axes, ("first", "last"))
    return axes, None if channels is None else checks.count("channels", channels)


def _laid_out(opened, image, axes, channels):
    """(an image as C x H x W, whether alpha was dropped)."""
    if image.dtype.kind not in "biuf":
        raise ValueError(f"it has dtype {image.dtype}; expected real numbers")
    said = "first" if opened.axes == "pages" else opened.axes
    if said and axes not in (None, said) and image.ndim == 3:
        raise ValueError(f"its channels are on the {said} axis; expected the {axes} (axes)")
    if opened.axes == "pages" and axes is None and channels != len(image):
        raise ValueError(
            f"it holds {len(image)} pages of {image.shape[1]} x {image.shape[2]}; expected one "
            "(or axes 'first', if they are channels)"
        )
    image = channels_first("it", image, axes or said, None if said else channels)
    dropped = bool(opened.alpha) and len(image) != channels
    image = image[: len(image) - opened.alpha * dropped]
    if channels not in (None, len(image)):
        raise ValueError(f"it has {len(image)} channels; expected {channels}")
    return image, dropped


@contextmanager
def raw(path: Path, *, indices: bool = False):
    """The ``Raw`` of a file, which must be an image of a kind that is read; call in ``decoding``.

    Args:
        indices: give the indices of an image with a palette, in place of its colors.

    Raises:
        MemoryError: it takes more memory than is free.
    """
    with open(path, "rb") as file:
        begin = file.read(16)
        file.seek(0)
        if not begin:
            raise ValueError("it is empty")
        if begin.startswith(_NPY):
            yield _npy(path)
            return
        reader = next((reader for known, reader in _READERS if begin.startswith(known)), None)
        if reader is None:
            raise ValueError(
                "it is no image of a kind that is read: PNG, JPEG, TIFF, BMP, GIF, WebP, .npy"
            )
        with reader(file, indices=indices) as opened:
            shape = " x ".join(map(str, opened.shape))
            if not all(0 < n <= checks.MAX_INDEX for n in opened.shape):
                raise ValueError(
                    f"it is of {shape} pixels; expected 1 to {checks.MAX_INDEX} of each"
                )
            nbytes = prod(opened.shape) * opened.itemsize * opened.copies
            free_memory.check(
                get_backend("cpu"),
                f"{path} is {shape} and",
                nbytes,
                lambda free: "expected a smaller image",
            )
            yield opened


@contextmanager
def decoding(path: str | Path):
    """The path, checked; whatever a decoder raises in the block becomes a ``BadImage`` of it.

    Raises:
        TypeError, ValueError, OSError: no path of a file.
        BadImage: in place of what was raised but MemoryError and errors of the system.
    """
    path = checked_file("path", path)
    try:
        yield path
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever comes to them where a file is damaged
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadImage(f"{path} cannot be read: {reason}") from error


def _npy(path) -> Raw:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Raw(array.shape, array.itemsize, lambda: array)
