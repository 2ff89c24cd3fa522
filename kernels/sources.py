"""When compiled code that was kept on disk is thrown away.

Numba keys its on-disk cache by one function's own file: a change of a helper in another file would
go unnoticed. So the digest of all sources of this package is kept beside the cache, and the cache
is dropped when it differs.
"""

import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent


@functools.cache
def sources_digest() -> str:
    """What tells one state of this package's sources from another."""
    sources = sorted(PACKAGE.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def drop_stale_cache() -> None:
    """Remove compiled code that was made from other sources than today's."""
    digest, stamp = sources_digest(), PACKAGE / "__pycache__" / "sources.sha256"
    try:
        if stamp.exists() and stamp.read_text() == digest:
            return
        for compiled_file in PACKAGE.rglob("__pycache__/*.nb[ci]"):
            compiled_file.unlink(missing_ok=True)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(digest)
    except OSError:
        return  # a read-only installation: its sources do not change either
