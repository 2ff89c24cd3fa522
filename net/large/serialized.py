"""A net as bytes, as its file holds it: for a digest of it, and to travel to other processes."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from net.file_format import opened
from net.graph import Net, net_of


def net_bytes(net: Net) -> bytes:
    """The same for the same net, in every process."""
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
    """What tells a net from others."""
    return hashlib.blake2b(net_bytes(net), digest_size=16).hexdigest()
