"""PNG, JPEG, BMP, GIF and WebP, decoded by Pillow, which scikit-image brings."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import partial

import numpy as np
from PIL import ExifTags, Image, ImageOps

from net.extras import needs
from net.pictures.raw import Raw

BEGINNINGS = (_PNG := b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF")
"""First bytes of the files."""
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_TURNED = ("JPEG", "MPO", "WEBP")
"""Formats of cameras, whose headers say how a picture was held."""
_ORIENTATION = ExifTags.Base.Orientation
_MODES = {
    **{"1": (1, 1, 0), "L": (1, 1, 0), "I;16": (1, 2, 0), "I": (1, 4, 0), "F": (1, 4, 0)},
    **{"LA": (2, 1, 1), "RGB": (3, 1, 0), "RGBA": (4, 1, 1), "RGBX": (4, 1, 1)},
}
"""Channels, bytes of each, and how many are alpha, of the modes that are read as they are."""
_DEEP = {2: (3, 0), 4: (2, 1), 6: (4, 1)}
"""Channels and alpha by the color type of a PNG that Pillow reduces to 8 bits if it has 16."""


@contextmanager
def opened(file, *, indices: bool = False):
    """The ``Raw`` of an open file.

    Args:
        indices: give the indices of an image with a palette, in place of its colors.
    """
    begin = file.read(33)
    file.seek(0)
    if begin.startswith(_PNG) and begin[24:25] == b"\x10" and begin[25] in _DEEP:
        yield _deep_png(file, begin)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(file, formats=_FORMATS)
        except Image.UnidentifiedImageError:
            raise ValueError("its header is damaged") from None
        except Image.DecompressionBombError:
            raise ValueError(
                f"it is of more than {2 * Image.MAX_IMAGE_PIXELS} pixels, as decompression bombs "
                "are; a TIFF or .npy may be larger"
            ) from None
    with image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise ValueError(f"it holds {image.n_frames} frames; expected one")
        mode = image.mode
        if mode == "P" and indices:
            mode = "L"
        elif mode in ("P", "PA"):
            mode = "RGBA" if "transparency" in image.info or mode == "PA" else "RGB"
        if mode not in _MODES:
            raise ValueError(f"its colors are {mode}; expected grey, RGB or RGBA")
        channels, itemsize, alpha = _MODES[mode]
        size = image.height, image.width
        if image.format in _TURNED and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):
            size = size[::-1]
        shape = size if channels == 1 else (*size, channels)
        read = partial(_decoded, image, mode)
        exact = image.format != "JPEG" and image.format != "MPO"
        yield Raw(shape, itemsize, read, "last", alpha, copies=2, exact=exact)


def _decoded(image, mode):
    if image.mode == "P" and mode == "L":
        return np.array(image)
    turned = ImageOps.exif_transpose(image) if image.format in _TURNED else image
    return np.array(turned if turned.mode == mode else turned.convert(mode))


def _deep_png(file, begin) -> Raw:
    width, height = (int.from_bytes(begin[at : at + 4]) for at in (16, 20))
    channels, alpha = _DEEP[begin[25]]

    def read():
        try:
            import imagecodecs
        except ImportError:
            what = "a PNG of 16 bits and several channels"
            raise ValueError(needs("imagecodecs", what)) from None
        return imagecodecs.png_decode(file.read())

    return Raw((height, width, channels), 2, read, "last", alpha, copies=2)
