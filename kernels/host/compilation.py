"""How the host's operators are compiled.

Where no folder for the cache can be written, code is compiled anew in every process, after a
warning. A line on standard error says when compiling begins, as it takes a while.

Threads wait asleep, not spinning, unless OMP_WAIT_POLICY says otherwise: on a shared machine a
spinning thread burns the time slice that the other needs to reach the barrier, and a call of 20
microseconds takes 10 milliseconds.
"""

import functools
import os
import sys
import warnings

import numba
from numba.core import event

from kernels.code_cache import keep_on_disk

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class _Announcement(event.Listener):
    """Says once, on standard error, that functions of this package are being compiled."""

    def on_start(self, details):
        function = details.data["dispatcher"].py_func
        if function.__module__.startswith("kernels."):
            event.unregister("numba:compile", self)
            print("compiling for this CPU, once: up to half a minute ...", file=sys.stderr)

    def on_end(self, details):
        pass


event.register("numba:compile", _Announcement())


OPTIONS = {"error_model": "numpy", "nogil": True}
"""How all of the host's code is compiled: IEEE arithmetic, no fast math, without Python's lock."""


def compiled(function, *, parallel: bool = False):
    """``@compiled``: machine code for the host, cached on disk."""
    dispatcher = numba.njit(function, **OPTIONS, parallel=parallel)
    if not keep_on_disk(dispatcher):
        _warn_once()
    return dispatcher


compiled_parallel = functools.partial(compiled, parallel=True)
"""``@compiled_parallel``: the same, with ``prange`` over Numba's threads."""


def inner(function, *, inline: bool = False):
    """``@inner``: a function that only compiled code calls, and that is cached as a part of it.

    It takes less time to compile. For closures over compiled functions there is no other way: their
    key in Numba's cache would be a new one in every process.
    """
    options = {"forceinline": inline, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(function, **OPTIONS, **options)


inlined = functools.partial(inner, inline=True)
"""``@inlined``: the same, inlined wherever it is called."""


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "no folder for compiled code can be written (beside the sources, or in the user's cache "
        "folder): it is compiled anew in every process; NUMBA_CACHE_DIR names another",
        stacklevel=3,
    )
