"""Arguments of the command line, checked as they are read; nothing heavy is imported for it."""

from __future__ import annotations

import argparse
import os
import re
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path

LARGEST_SEED = 2**63 - 1
LARGEST_SIDE, LARGEST_BATCH, LARGEST_EXTENT = 2**15, 2**20, 2**31 - 1
"""Rows and columns of an image, patches that run together, and the extent of any axis."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        """Say what is wrong; exit status 2."""
        self.exit(2, f"experiments: error: {message}\n")


def integer(least: int, most: int, what: str = "") -> Callable[[str], int]:
    """The type of an argument that is an int from ``least`` to ``most``."""

    def convert(text):
        if not re.fullmatch(r"[+-]?\d{1,20}", text) or not least <= int(text) <= most:
            expected = f"an int of at least {least}, and at most {most}{what}"
            raise argparse.ArgumentTypeError(f"is {reprlib.repr(text)}; expected {expected}")
        return int(text)

    return convert


def threads(text: str) -> int:
    """The number of threads: at most one for each core that this process may use."""
    return integer(1, usable_cores(), ", the cores that this process may use")(text)


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def folder(text: str) -> Path:
    """The path of a folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected a folder")
    return Path(text)


def folder_name(text: str) -> str:
    """The name of one folder inside another one."""
    if not text.strip(".") or not text.isprintable() or "/" in text or "\\" in text:
        raise argparse.ArgumentTypeError(f"is {text!r}; expected the name of a folder")
    return text


def refused(fault) -> int:
    """Print what is wrong to stderr; returns the exit status."""
    print(f"experiments: error: {fault}", file=sys.stderr)
    return 2
