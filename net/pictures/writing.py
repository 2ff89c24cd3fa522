"""Images as the bytes of a file."""

from __future__ import annotations

import io

import numpy as np
import tifffile
from PIL import Image


def png(image: np.ndarray) -> bytes:
    """A PNG of H x W uint8 or uint16, or H x W x 3 uint8.

    >>> png(np.zeros((2, 3), np.uint8))[:4]
    b'\\x89PNG'
    """
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(content, "PNG")
    return content.getvalue()


def tiff(maps: np.ndarray, names: tuple[str, ...]) -> bytes:
    """A TIFF of C x H x W numbers, a page for each of the named channels.

    >>> tiff(np.zeros((2, 4, 5), np.float32), ("cell", "rest"))[:2]
    b'II'
    """
    content = io.BytesIO()
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(content, maps, ome=True, metadata=metadata, photometric="minisblack")
    return content.getvalue()
