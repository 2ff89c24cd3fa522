"""Packages of the extras: imported where they are needed, not before."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

FRAMEWORKS = {"torch": "PyTorch", "onnx": "ONNX"}
"""What the packages that stand behind an extra of their name are called."""


def framework(package: str) -> ModuleType:
    """One of ``FRAMEWORKS``.

    Raises:
        ImportError: it is not installed, or cannot be imported; the message says how it comes.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{FRAMEWORKS[package]} cannot be imported ({error}); expected the extra {package!r}: "
            f'pip install "regularly-sparse[{package}]"',
            name=package,
        ) from error


def needed(package: str, what: str) -> ModuleType:
    """A package of the extra ``large``, which ``what`` needs.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how it comes.

    >>> needed("no_such_package", "a mosaic")
    Traceback (most recent call last):
        ...
    ModuleNotFoundError: a mosaic needs the package no_such_package: pip install no_such_package...
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(needs(package, what), name=package) from None


def needs(package: str, what: str) -> str:
    """A message: which package of the extra ``large`` is missing, and how it comes.

    >>> needs("imagecodecs", "LZW")
    'LZW needs the package imagecodecs: pip install imagecodecs, or the extra "large"'
    """
    return f'{what} needs the package {package}: pip install {package}, or the extra "large"'
