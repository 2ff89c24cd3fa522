"""What every reader makes of an open file before it decodes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Raw:
    """An image whose header was read.

    Attributes:
        shape: shape of the array that ``read`` gives.
        itemsize: bytes of each of its numbers.
        read: function that decodes it.
        axes: place of its channels, as far as the file says: ``"first"``, ``"last"``, ``"pages"``
            where the first axis counts pages, which may be channels; else None.
        alpha: number of channels, the last ones, that say what is transparent.
        copies: number of copies of its bytes in memory while it is decoded.
        exact: whether its values are those that were written (not so in a JPEG).
    """

    shape: tuple[int, ...]
    itemsize: int
    read: Callable[[], np.ndarray]
    axes: str | None = None
    alpha: int = 0
    copies: int = 1
    exact: bool = True
