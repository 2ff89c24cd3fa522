"""How the host's operators are compiled, and when what was compiled before is thrown away.

Numba keys its on-disk cache by one function's own file: a change of a helper in another file would
go unnoticed. So the digest of all sources of this package is kept beside the cache, and the cache
is dropped when it differs.

Threads wait asleep, not spinning, unless OMP_WAIT_POLICY says otherwise: on a shared machine a
spinning thread burns the time slice that the other needs to reach the barrier, and a call of 20
microseconds takes 10 milliseconds.
"""

import functools
import hashlib
import os
from pathlib import Path

import numba

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

compiled = functools.partial(numba.njit, cache=True, error_model="numpy", nogil=True)
"""``@compiled``: to machine code for the host, cached on disk, IEEE arithmetic, no fast math."""

compiled_parallel = functools.partial(compiled, parallel=True)
"""``@compiled_parallel``: the same, with ``prange`` over Numba's threads."""


@functools.cache
def sources_digest() -> str:
    """What tells the sources of this package from those of another day."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def drop_stale_cache() -> None:
    """Remove compiled code that was made from other sources than today's."""
    package, digest = Path(__file__).parent, sources_digest()
    stamp = package / "__pycache__" / "sources.sha256"
    try:
        if stamp.exists() and stamp.read_text() == digest:
            return
        for compiled_file in package.rglob("__pycache__/*.nb[ci]"):
            compiled_file.unlink(missing_ok=True)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(digest)
    except OSError:
        return  # a read-only installation: its sources do not change either
