"""How the host's operators are compiled.

Threads that wait go to sleep after some tens of microseconds, unless OMP_WAIT_POLICY says
otherwise. On a shared machine one that spun on would burn the time slice that the other needs to
reach the barrier, and a call of 20 microseconds would take 10 milliseconds. One that slept at once
would have to be woken up at each call of a pass.
"""

import os

import numba

from kernels.code_cache import keep_on_disk
from kernels.host import progress
from kernels.host.threads import Parallel

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # of GNU's OpenMP, which then sleep
progress.report()

OPTIONS = {"error_model": "numpy", "nogil": True}
"""How all of the host's code is compiled: IEEE arithmetic, no fast math, without Python's lock."""


def compiled(function, *, parallel: bool = False):
    """``@compiled``: machine code for the host, cached on disk; the function itself where
    NUMBA_DISABLE_JIT forbids to compile, as the backend ``reference`` runs there, too."""
    if numba.config.DISABLE_JIT:
        return function
    dispatcher = numba.njit(function, **OPTIONS, parallel=parallel)
    keep_on_disk(dispatcher)
    return dispatcher


def compiled_parallel(function) -> Parallel:
    """``@compiled_parallel``: the same, with ``prange`` over Numba's threads."""
    return Parallel(compiled(function, parallel=True))


def inner(function, *, inline: bool = False):
    """``@inner``: a function that only compiled code calls, and that is cached as a part of it.

    It takes less time to compile. For closures over compiled functions there is no other way: their
    key in Numba's cache would be a new one in every process.
    """
    options = {"forceinline": inline, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(function, **OPTIONS, **options)


def inlined(function):
    """``@inlined``: the same, inlined wherever it is called."""
    return inner(function, inline=True)
