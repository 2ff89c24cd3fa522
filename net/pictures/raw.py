"""What every reader makes of an open file before it decodes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Raw:
    """An image whose header was read.

    Attributes:
        shape: of the array that ``read`` gives.
        itemsize: bytes of each of its numbers.
        read: decodes it.
        axes: where its channels are, as far as the file says: ``"first"``, ``"last"``, ``"pages"``
            where the first axis counts pages, which may be channels; else None.
        alpha: how many of the channels, the last ones, say what is transparent.
        copies: how often its bytes are in memory while it is decoded.
        exact: whether its values are those that were written (not so in a JPEG).
    """

    shape: tuple[int, ...]
    itemsize: int
    read: Callable[[], np.ndarray]
    axes: str | None = None
    alpha: int = 0
    copies: int = 1
    exact: bool = True
