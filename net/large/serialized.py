"""A net as the bytes of its file: for a digest of it, and to be sent to other processes."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from net.file_format import opened
from net.graph import Net, net_of


def net_bytes(net: Net) -> bytes:
    """The bytes of a net's file, equal for equal nets in every process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net")
        net.save(path)
        return path.read_bytes()


def load_bytes(content: bytes, backend: str) -> Net:
    """The net of ``net_bytes``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net")
        path.write_bytes(content)
        with opened(path) as contents:
            return net_of(contents.document, contents.arrays(), backend)


def digest(net: Net) -> str:
    """A digest that tells a net from others."""
    return hashlib.blake2b(net_bytes(net), digest_size=16).hexdigest()
