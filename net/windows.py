"""Reading what some pixels need of an image: by windows, so that the rest of it is never read.

An image is an array or anything else with ``shape``, ``dtype`` and slicing: a memory map, an array
in a file of chunks.
"""

from __future__ import annotations

import numpy as np

from kernels import checks, foreign
from kernels.host import listing
from net import images
from net.graph import Net

__all__ = ["Windows", "readable_image"]

BLOCK_BITS = 8
"""Windows are cut at multiples of 2**8 rows and columns."""

MOST_ROWS = 2**30
"""Rows and columns of an image that is read by windows, at most: places in it are int32, and a
border that reflects counts to twice as many."""


def readable_image(net: Net, image, name: str = "image"):
    """An image C x H x W of any dtype of real numbers, checked; nothing is read.

    Raises:
        TypeError, ValueError: it has no shape, dtype and slicing, it holds no real numbers, or it
            does not suit the net; on a device, as ``net.images.admitted_image``.

    >>> from net import zoo
    >>> net = zoo.build("lenet28", backend="reference")
    >>> readable_image(net, np.zeros((1, 5, 7), np.uint8)).dtype
    dtype('uint8')
    """
    if checks.lies_on_device(name, image):
        return images.admitted_image(net, image, name)
    if hasattr(image, "__dlpack__"):  # what has __array__ alone would be read whole
        image = foreign.host_array(name, image)
    check_readable(name, image)
    shape = tuple(image.shape)
    if len(shape) != 3 or shape[0] != net.channels or min(shape) < 1:
        raise ValueError(
            f"{name} has shape {shape}; expected {net.channels} x any x any, {images.AXES}, no "
            "axis empty"
        )
    if max(shape) > MOST_ROWS:
        raise ValueError(f"{name} has shape {shape}; expected at most {MOST_ROWS} rows and columns")
    return image


def check_readable(name: str, image, expected: str = "an array") -> None:
    """Refuse what cannot be read by windows, or holds no real numbers; nothing is read.

    Args:
        expected: text that messages name beside anything with shape, dtype and slicing.

    Raises:
        TypeError: naming it.
    """
    checks.unmasked(name, image)
    parts = ("shape", "dtype", "__getitem__")
    if isinstance(image, type) or not all(hasattr(image, part) for part in parts):
        raise TypeError(
            f"{name} is {checks.kind_of(image)}; expected {expected}, or what has shape, dtype and "
            "slicing as one"
        )
    if not _holds_numbers(image.dtype):
        raise TypeError(f"{name} has dtype {image.dtype}; expected ints or floats")


def _holds_numbers(dtype) -> bool:
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False


def floats(net: Net, window) -> np.ndarray:
    """A window of an image as the net takes it, in the net's dtype and C order: ints are values as
    they were read, normalised as ``net.usage`` says; floats are taken as they are."""
    normalization = None if net.usage is None else net.usage.normalization
    if normalization is not None and np.asarray(window).dtype.kind in "biu":
        return normalization.normalized(np.asarray(window), net.dtype)
    return np.ascontiguousarray(window, net.dtype)


def whole(net: Net, image):
    """All of an image that ``readable_image`` gave, as ``net.images.admitted_image`` gives it."""
    if checks.lies_on_device("image", image) or _is_taken(net, image):
        return image
    return floats(net, image[:, :, :])


def _is_taken(net, image) -> bool:
    """Whether the net takes an image on the host as it is."""
    return isinstance(image, np.ndarray) and image.dtype == net.dtype


def is_gathered(net: Net, image) -> bool:
    """Whether the backend's kernels read cells of an image that ``readable_image`` gave
    where it lies."""
    if checks.lies_on_device("image", image):
        return True
    on_host = net.backend.name not in images.DEVICE_BACKENDS
    return on_host and _is_taken(net, image) and not images.copied_bytes(image)


def read(net: Net, image, rows: slice, columns: slice) -> np.ndarray:
    """A window of a host image that ``readable_image`` gave, C x H x W, the net's dtype.

    Raises:
        ValueError: the image gives another shape.

    >>> from net import zoo
    >>> image = np.arange(12).reshape(1, 3, 4)
    >>> read(zoo.build("lenet28", backend="cpu"), image, slice(0, 1), slice(1, 3))
    array([[[1., 2.]]], dtype=float32)
    """
    window = floats(net, image[:, rows, columns])
    shape = net.channels, rows.stop - rows.start, columns.stop - columns.start
    if window.shape != shape:
        raise ValueError(f"image gave a window of shape {window.shape}; expected {shape}")
    return window


class Windows:
    """The windows of an image that hold some cells: in each block of 2**``BLOCK_BITS`` rows and
    columns the smallest one.

    Args:
        rows, columns: coordinates of the cells in the image, int32; -1 stands for a cell of zeros.

    >>> Windows(np.int32([3, 5, -1, 700]), np.int32([9, 8, 0, 2])).slices
    [(slice(3, 6, None), slice(8, 10, None)), (slice(700, 701, None), slice(2, 3, None))]
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray):
        pitch = (int(columns.max()) >> BLOCK_BITS) + 1
        begins, block_of_run = listing.block_runs(rows, columns, BLOCK_BITS, pitch)
        blocks, block = np.unique(block_of_run, return_inverse=True)
        first, end = (np.empty((2, len(blocks)), np.int64) for _ in range(2))
        first[:], end[:] = np.iinfo(np.int64).max, -1
        for axis, places in enumerate((rows, columns)):
            np.minimum.at(first[axis], block, np.minimum.reduceat(places, begins))
            np.maximum.at(end[axis], block, np.maximum.reduceat(places, begins) + 1)
        first[:, blocks < 0] = end[:, blocks < 0] = 0
        height, width = end - first
        offsets = np.concatenate([[0], np.cumsum(height * width)])
        begin = offsets[:-1] - first[0] * width - first[1]
        self.places = listing.flat_places(rows, columns, begins, begin[block], width[block])
        self.numbers = int(offsets[-1])
        self.slices = [
            (slice(top, bottom), slice(left, right))
            for top, bottom, left, right in zip(
                *(a.tolist() for pair in zip(first, end) for a in pair)
            )
            if bottom
        ]

    def cells(self, net: Net, image):
        """The cells of a host image that ``readable_image`` gave, a list on the net's backend.

        Raises:
            ValueError: a window that the image gives has another shape.

        >>> from net import zoo
        >>> net, image = zoo.build("lenet28", backend="cpu"), np.arange(12).reshape(1, 3, 4)
        >>> Windows(np.int32([0, 1]), np.int32([2, 3])).cells(net, image).ravel()
        array([2., 7.], dtype=float32)
        """
        strip = np.empty((net.channels, max(1, self.numbers)), net.dtype)
        end = 0
        for rows, columns in self.slices:
            window = read(net, image, rows, columns)
            begin, end = end, end + window[0].size
            strip[:, begin:end] = window.reshape(net.channels, -1)
        ops = net.backend
        places = np.where(self.places < 0, self.places, 0), self.places
        return ops.listed_cells.gather(*map(ops.memory.to_device, (strip[None, :, None], *places)))
