"""Packages of the extra ``large``, imported where they are needed."""

from __future__ import annotations

from importlib import import_module


def needed(package: str, what: str):
    """The package, which ``what`` needs.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how it is.

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
        raise ModuleNotFoundError(
            f'{what} needs the package {package}: pip install {package}, or the extra "large"',
            name=package,
        ) from None
