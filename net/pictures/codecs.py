"""Decoders that another package brings."""

from __future__ import annotations


def with_imagecodecs(what: str):
    """The package imagecodecs, which decodes ``what``.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import imagecodecs
    except ImportError:
        raise ValueError(needs_imagecodecs(what)) from None
    return imagecodecs


def needs_imagecodecs(what: str) -> str:
    """A message: which package is missing, and how it comes.

    >>> needs_imagecodecs("LZW")
    'LZW needs the package imagecodecs: pip install imagecodecs, or the extra "large"'
    """
    return f'{what} needs the package imagecodecs: pip install imagecodecs, or the extra "large"'
