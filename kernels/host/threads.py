"""Calls of compiled functions that share their work among Numba's threads.

All of them pass through ``Parallel``, which

- leaves work that is too small to share to the calling thread: on a busy machine the others wake up
  a time slice late, and all wait for them;
- refuses a process that was forked after GNU's OpenMP had started its threads: it has none of
  them, and would end without a word, or wait for ever;
- lets calls of several Python threads take turns where Numba's own threads serve one at a time
  (the layer ``workqueue``, which would abort the process).

There are at most as many threads as cores that the process may use.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import warnings
from contextlib import nullcontext

import numba
from numba.np.ufunc import parallel

# Nanoseconds of one thread. Sharing costs 15,000 where a core is free, and a time slice of some
# millions where none is: too much for what a small net's layers would gain
SMALLEST_SHARED_WORK_NS = 100_000
# About how long one thread takes for an element of a map that is read, changed a little and
# written; for an exponential or the like; and for a multiply-add of a convolution
ELEMENT_NS, EXPONENTIAL_NS, MULTIPLY_ADD_NS = 0.3, 5, 0.05

_turn = threading.Lock()
_lost_by_fork = False


class Parallel:
    """A function compiled with ``prange``.

    Args:
        dispatcher: what Numba's ``njit`` returned, or the function itself where it may not compile.
    """

    def __init__(self, dispatcher):
        self.dispatcher = dispatcher
        functools.update_wrapper(self, getattr(dispatcher, "py_func", dispatcher))

    def __call__(self, *arguments, work: float = math.inf):
        """Call the function.

        Args:
            work: about how many nanoseconds it takes one thread. What the function gives must not
                depend on the number of threads.

        Raises:
            RuntimeError: the process was forked after OpenMP's threads had started.
        """
        if _lost_by_fork:
            raise RuntimeError(
                "this process was forked after Numba's OpenMP threads had started, and they do "
                "not survive a fork; start processes by 'spawn' or 'forkserver' "
                "(multiprocessing.get_context), or fork before the first call"
            )
        with _turns():
            if work >= SMALLEST_SHARED_WORK_NS:
                return self.dispatcher(*arguments)
            threads = parallel._get_num_threads()
            parallel._set_num_threads(1)
            try:
                return self.dispatcher(*arguments)
            finally:
                parallel._set_num_threads(threads)


@functools.cache
def _turns():
    """What a call holds while it runs; starts the threads."""
    numba.get_num_threads()
    return _turn if numba.threading_layer() == "workqueue" else nullcontext()


def _started_by_openmp() -> bool:
    """Whether there are threads that a forked child loses; Numba starts its others anew there."""
    try:
        if numba.threading_layer() != "omp":
            return False
    except ValueError:  # not started
        return False
    from numba.np.ufunc import omppool

    return omppool.openmp_vendor == "GNU"


def _in_forked_child():
    global _lost_by_fork
    _turn.release()
    _lost_by_fork = _started_by_openmp()


def _at_most_one_for_each_core():
    cores = numba.config.NUMBA_DEFAULT_NUM_THREADS
    if cores < parallel.NUM_THREADS:
        warnings.warn(
            f"NUMBA_NUM_THREADS is {parallel.NUM_THREADS}; {cores} threads are used, one for each "
            "core that this process may use",
            stacklevel=2,
        )
        parallel.NUM_THREADS = cores


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_in_forked_child
    )
_at_most_one_for_each_core()
