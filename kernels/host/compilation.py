"""How the host's operators are compiled.

Threads wait asleep, not spinning, unless OMP_WAIT_POLICY says otherwise: on a shared machine a
spinning thread burns the time slice that the other needs to reach the barrier, and a call of 20
microseconds takes 10 milliseconds.
"""

import os

import numba

from kernels.code_cache import keep_on_disk
from kernels.host import progress
from kernels.host.threads import Parallel

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
progress.report()


def compiled(function, *, parallel: bool = False):
    """``@compiled``: machine code for the host, cached on disk; IEEE arithmetic, no fast math."""
    options = {"error_model": "numpy", "nogil": True, "parallel": parallel}
    dispatcher = numba.njit(function, **options)
    keep_on_disk(dispatcher)
    return dispatcher


def compiled_parallel(function) -> Parallel:
    """``@compiled_parallel``: the same, with ``prange`` over Numba's threads."""
    return Parallel(compiled(function, parallel=True))
