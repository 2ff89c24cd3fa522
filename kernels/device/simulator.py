"""Repairs of Numba's CUDA simulator, and launches of chosen blocks whose accesses are observed.

The simulator lets the threads of a block compete with each other, spinning while they wait. It
looks up and allocates a shared array in two steps, so that two threads can get an array each. Here
a block's threads run in turn, each up to the next barrier. ``api`` calls ``repair`` where the
simulator is on.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager

import numpy as np
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray
from numba.cuda.simulator.kernel import BlockManager, BlockThread
from numba.cuda.simulator.kernelapi import FakeCUDAShared

_watch = None


class _Thread(BlockThread):
    """A simulated thread that runs up to the next barrier when it is told to."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ended = False
        self._go, self._halted = threading.Semaphore(0), threading.Semaphore(0)

    def run(self):
        self._go.acquire()
        if not self.abort:
            super().run()
        self.ended = True
        self._halted.release()

    def syncthreads(self):
        self._halted.release()
        self._go.acquire()
        if self.abort:
            raise RuntimeError("another thread of the block failed")

    def go_on(self):
        """Let it run to the next barrier, or to its end."""
        self._go.release()
        self._halted.acquire()


def _run_block(self, grid_point, *arguments):
    """Run a block's threads in turn, each up to the next barrier."""
    threads = [
        _Thread(lambda: self._f(*arguments), self, grid_point, place, self._debug)
        for place in np.ndindex(*self._block_dim)
    ]
    for thread in threads:
        thread.start()
    failed = None
    while threads:
        for thread in threads:
            thread.abort = failed is not None
            thread.go_on()
            failed = failed or thread.exception
        threads = [thread for thread in threads if not thread.ended]
    if failed:
        raise failed[0].with_traceback(failed[1])


def _shared_array(self, shape, dtype, alignment=None):
    """The block's array of one source line."""
    caller = sys._getframe(1)
    line = caller.f_code.co_filename, caller.f_lineno
    if line not in self._allocations:
        array = np.empty(shape, dtype)
        self._allocations[line] = array if _watch is None else _watch(array)
    return self._allocations[line]


def repair() -> None:
    """Replace the simulator's scheduler and shared arrays by those of this module."""
    BlockManager.run = _run_block
    FakeCUDAShared.array = _shared_array
    FakeCUDAArray.__deepcopy__ = None  # which would be that of the NumPy array inside


class Simulated:
    """A kernel for the simulator, in which uint32 overflows and NaN appears without a warning."""

    def __init__(self, function):
        self.__globals__ = function.__globals__
        self.__name__ = function.__name__
        self.function = function
        self._run = None

    @contextmanager
    def run_by(self, run):
        """Within it, each simulated thread is a call of ``run(function, arguments)``."""
        self._run = run
        try:
            yield
        finally:
            self._run = None

    def __call__(self, *arguments):
        with np.errstate(all="ignore"):
            if self._run is None:
                self.function(*arguments)
            else:
                self._run(self.function, arguments)


def simulate(launch, blocks, run, watch=None) -> None:
    """Simulate some blocks of a launch.

    Independent threads are simulated one after the other in a single thread, as starting a thread
    takes a millisecond.

    Args:
        blocks: their numbers, counted along x first.
        run: called as ``run(function, arguments)`` for each of their threads.
        watch: called with each shared array; the kernel is given what it returns instead.
    """
    global _watch

    def place(me, block):
        for axis, extent in zip("xyz", launch.blocks):
            block, at = divmod(block, extent)
            setattr(me.blockIdx, axis, at)

    def run_one(function, arguments):
        me, grid = threading.current_thread(), function.__globals__["cuda"].gridDim
        grid.x, grid.y, grid.z = launch.blocks
        place(me, blocks[me.blockIdx.x])
        run(function, arguments)

    def run_all(function, arguments):
        me = threading.current_thread()
        function.__globals__["cuda"].blockDim.x = launch.threads
        for block in blocks:
            place(me, block)
            for me.threadIdx.x in range(launch.threads):
                run(function, arguments)

    _watch = watch
    try:
        with launch.kernel.py_func.run_by(run_all if launch.independent else run_one):
            size = (1, 1) if launch.independent else (len(blocks), launch.threads)
            launch.kernel[size](*launch.arguments)
    finally:
        _watch = None
