"""The pixels that a caller chooses: by a mask, or by their rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from kernels import checks, foreign, get_backend
from kernels.checks import Pair
from kernels.cross_entropy import UNLABELLED
from net import free_memory, images, windows
from net.graph import Net


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some pixels of a map of scores.

    Attributes:
        labelled: rows and columns of the map.
        mask: Ho x Wo of bool on the host, True where a pixel is chosen; None where they are listed.
        listed: P x 2, row and column of each, in any order, the same one several times or not; None
            where a mask chooses.

    >>> some = Chosen.of_pixels((3, 4), [[2, 1], [0, 3], [2, 1]])
    >>> some.of_map(np.arange(12).reshape(1, 3, 4))
    array([[9, 3, 9]])
    >>> some.added_up(np.array([[1, 2, 4]]))
    array([[[0, 0, 0, 2],
            [0, 0, 0, 0],
            [0, 5, 0, 0]]])
    """

    labelled: Pair
    mask: np.ndarray | None = None
    listed: np.ndarray | None = None

    @classmethod
    def of_pixels(cls, labelled: Pair, pixels) -> Chosen:
        """Pixels as a caller lists them, checked."""
        return cls(tuple(labelled), listed=checked_pixels(pixels, labelled))

    @property
    def count(self) -> int:
        """How many they are, P."""
        return int(np.count_nonzero(self.mask)) if self.listed is None else len(self.listed)

    @property
    def pixels(self) -> np.ndarray:
        """P x 2: in the order of the list, or row by row for a mask, which makes a new array of 16
        bytes for each pixel."""
        if self.listed is not None:
            return self.listed
        numbers = np.flatnonzero(self.mask)  # much faster than in two dimensions
        pixels = np.empty((len(numbers), 2), np.int64)
        np.divmod(numbers, self.labelled[1], out=(pixels[:, 0], pixels[:, 1]))
        return pixels

    @property
    def repeats(self) -> bool:
        """Whether a pixel is listed several times."""
        return self.mask is None and len(np.unique(self.pixels, axis=0)) < len(self.pixels)

    def same_as(self, other: Chosen) -> bool:
        """Whether both are the same pixels, chosen in the same way, of maps of one size."""
        return self.labelled == other.labelled and all(
            (a is None) == (b is None) and (a is None or np.array_equal(a, b))
            for a, b in ((self.mask, other.mask), (self.listed, other.listed))
        )

    def copied(self) -> Chosen:
        """The same in arrays of its own, which the caller cannot change."""
        return Chosen(
            self.labelled, *(None if a is None else a.copy() for a in (self.mask, self.listed))
        )

    def as_mask(self) -> np.ndarray:
        """Ho x Wo, bool."""
        if self.mask is not None:
            return self.mask
        mask = np.zeros(self.labelled, bool)
        mask[*self.pixels.T] = True
        return mask

    def result(self, values: np.ndarray) -> np.ndarray:
        """Host values K x P in the form that a caller gets: as they are for listed pixels; for a
        mask K x Ho x Wo, NaN where no pixel is chosen."""
        if self.mask is None:
            return values
        maps = np.full((len(values), *self.labelled), np.nan, values.dtype)
        maps[:, self.mask] = values
        return maps

    def of_map(self, maps: np.ndarray) -> np.ndarray:
        """The values of the chosen pixels, in the form of ``result``, out of those of all pixels,
        K x Ho x Wo on the host."""
        if self.mask is None:
            return np.ascontiguousarray(maps[:, *self.pixels.T])
        return np.where(self.mask, maps, np.nan)

    def check_result(self, channels: int, dtype: str) -> None:
        """Refuse pixels whose ``result``, K x Ho x Wo for a mask, does not fit into the host's
        memory.

        Raises:
            MemoryError: it does not.

        >>> huge = Chosen((2**20, 2**20), np.broadcast_to(False, (2**20, 2**20)))
        >>> huge.check_result(10, "float32")
        Traceback (most recent call last):
            ...
        MemoryError: a result of 10 x 1048576 x 1048576 takes ... free; pixels, in place of ...
        """
        if self.mask is not None:
            shape = channels, *self.labelled
            what = f"a result of {' x '.join(map(str, shape))}"
            advice = "pixels, in place of the mask, give that of these alone"
            needed = prod(shape) * np.dtype(dtype).itemsize
            free_memory.check(get_backend("cpu"), what, needed, lambda free: advice)

    def added_up(self, values: np.ndarray) -> np.ndarray:
        """A map K x Ho x Wo of host values K x P: those of a pixel that is listed several times are
        added up, and other pixels have 0."""
        maps = np.zeros((len(values), *self.labelled), values.dtype)
        np.add.at(maps, (slice(None), *self.pixels.T), values)
        return maps

    def label_map(self, labels: np.ndarray) -> np.ndarray:
        """A map Ho x Wo of the labels of different pixels, P; other pixels are ``UNLABELLED``.

        Raises:
            ValueError: a pixel is listed several times.
        """
        if self.repeats:
            raise ValueError("pixels lists one several times; expected each once in this form")
        maps = np.full(self.labelled, UNLABELLED, labels.dtype)
        maps[*self.pixels.T] = labels
        return maps


def image_and_pixels(net: Net, border: str, image, mask=None, pixels=None) -> tuple:
    """An image and its pixels, checked: (image, (Ho, Wo) of its output, ``Chosen`` pixels or None).

    A list of pixels lets the image be read by windows (``net.windows.readable_image``); otherwise
    it is taken as ``net.images.admitted_image`` does. A mask on a device is copied to the host.

    Raises:
        TypeError, ValueError: one of them does not suit the net, or both are given.
    """
    if mask is not None and pixels is not None:
        raise ValueError("mask and pixels are both given; expected one of them")
    given = images.admitted_image if pixels is None else windows.readable_image
    x = given(net, image)
    labelled = images.output_size(net, x.shape[1:], border)
    if pixels is not None:
        return x, labelled, Chosen.of_pixels(labelled, pixels)
    if mask is None:
        return x, labelled, None
    mask = images.admitted_array(net, "mask", mask, "bool", labelled)
    if not isinstance(mask, np.ndarray):
        mask = net.backend.memory.to_host(mask)
    return x, labelled, Chosen(labelled, mask)


def chosen_of(labelled: int | Pair | None, mask, pixels) -> tuple[Pair, Chosen | None]:
    """(``labelled`` as a pair, ``Chosen`` pixels or None) where there is no image. If ``labelled``
    is None, it is the mask's size, or else 256."""
    if mask is not None:
        if pixels is not None:
            raise ValueError("mask and pixels are both given; expected one of them")
        checks.array("mask", mask, (None, None), ("bool",), any_layout=True)
        if not mask.any():
            raise ValueError("mask chooses no pixel; expected at least one")
    if labelled is None:
        labelled = 256 if mask is None else mask.shape
    labelled = checks.pair("labelled", labelled)
    if pixels is not None:
        return labelled, Chosen.of_pixels(labelled, pixels)
    if mask is not None and mask.shape != labelled:
        raise ValueError(f"mask has shape {mask.shape}; expected labelled, {labelled}")
    return labelled, None if mask is None else Chosen(labelled, mask)


def checked_pixels(pixels, labelled: Pair, name: str = "pixels") -> np.ndarray:
    """P x 2 ints, at least one, of a map of ``labelled`` rows and columns; ``name`` is their name
    in messages.

    Raises:
        TypeError, ValueError: they are none.

    >>> checked_pixels([[2, 1], [0, 3]], (3, 4))
    array([[2, 1],
           [0, 3]])
    """
    pixels = foreign.host_array(name, pixels)
    checks.unmasked(name, pixels)
    try:
        pixels = np.asarray(pixels)
    except ValueError:
        raise ValueError(f"{name} is {pixels!r}; expected n x 2 ints (y, x)") from None
    if pixels.ndim != 2 or pixels.shape[1] != 2 or pixels.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has shape {pixels.shape} and dtype {pixels.dtype}; expected n x 2 ints (y, x)"
        )
    if len(pixels) == 0:
        raise ValueError(f"{name} chooses no pixel; expected at least one")
    if (pixels < 0).any() or (pixels >= labelled).any():
        raise ValueError(
            f"{name} reach from {tuple(pixels.min(axis=0).tolist())} to "
            f"{tuple(pixels.max(axis=0).tolist())}; expected pixels of a {labelled[0]} x "
            f"{labelled[1]} map"
        )
    return pixels.astype(np.int64, copy=False)
