"""The packages of other frameworks are extras: imported where they are needed, not before."""

from __future__ import annotations

import importlib
from types import ModuleType

EXTRAS = {"torch": "PyTorch", "onnx": "ONNX"}
"""What the packages that stand behind an extra of their name are called."""


def required(package: str) -> ModuleType:
    """One of ``EXTRAS``.

    Raises:
        ImportError: it is not installed; the message says how it is.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{EXTRAS[package]} cannot be imported ({error}); expected the extra {package!r}: "
            f'pip install "regularly-sparse[{package}]"',
            name=package,
        ) from error
