"""The only way to ``numba.cuda``: what kernels are written with, and whether they can run here.

Kernels say ``from kernels.device.api import cuda`` and are declared with ``kernel`` and ``device``.
Nothing outside of ``kernels.device`` imports the CUDA packages.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from numba import cuda
from numba.cuda import extending
from numba.cuda import types as types
from numba.cuda.core import config

from kernels.code_cache import keep_on_disk

SIMULATING = bool(config.ENABLE_CUDASIM)
# The simulator starts few threads a second, so its blocks are small. A process that counts the
# accesses of real blocks sets this to False before it imports an operator
SMALL_BLOCKS = SIMULATING

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
# Freeing memory waits for the device: do it seldom, or when memory runs out
config.CUDA_DEALLOCS_COUNT = 1000

LOADED_DRIVER = Path("/proc/driver/nvidia/version")

u32 = np.uint32
# NumPy's functions keep float32 in the simulator, where math's would widen it.
_LIBRARY = np if SIMULATING else math
exp, expm1 = _LIBRARY.exp, _LIBRARY.expm1
log, log1p = _LIBRARY.log, _LIBRARY.log1p
sqrt, tanh = _LIBRARY.sqrt, _LIBRARY.tanh

if SIMULATING:
    from kernels.device import simulator

    simulator.repair()


def why_unavailable() -> str | None:
    """Why kernels cannot run on a device here; None if they can."""
    if SIMULATING:
        return "the CUDA simulator is on, so there is no device"
    if cuda.is_available():
        return None
    error = " ".join((cuda.cuda_error() or "").split())
    return error or why_uncompilable() or "no CUDA device was found"


def why_uncompilable() -> str | None:
    """Why kernels cannot be compiled here; None if they can."""
    if SIMULATING:
        return "the CUDA simulator is on, and it does not compile"
    from numba.cuda.cudadrv import nvvm

    if nvvm.is_available():
        return None
    return "no CUDA compiler is installed; pip install 'numba-cuda[cu13]' (or [cu12]) brings one"


def device_name() -> str:
    """The current device's name."""
    name = cuda.get_current_device().name
    return name.decode() if isinstance(name, bytes) else name


def driver_version() -> str:
    """The version of the device's driver, and of the newest CUDA that it knows."""
    from numba.cuda.cudadrv import driver, error

    try:
        of_cuda = "CUDA {}.{}".format(*driver.get_version())
    except error.CudaSupportError:  # something else executes the kernels
        return "none"
    try:
        match = re.search(r"Kernel Module\s.*?(\d+(?:\.\d+)+)", LOADED_DRIVER.read_text())
    except OSError:  # on other systems than Linux
        match = None
    return f"{match[1]}, {of_cuda}" if match else of_cuda


def kernel(threads: int, blocks: int = 1, turns: int = 1, tile=None):
    """Declare a kernel, launched as ``function[grid, threads](...)``.

    Fast mathematics stays off: it may reorder sums, and a + b * c becomes a fused multiply-add
    without it. Compiled kernels are kept on disk where that is possible.

    Args:
        threads: the most threads a block is launched with.
        blocks: blocks that a multiprocessor must be able to hold, which limits the registers.
        turns: iterations of a loop nested in the main loop; used to count executed instructions.
        tile: what a block computes, where there is a choice; kept as an attribute.
    """

    def declare(function):
        if SIMULATING:
            declared = cuda.jit(simulator.Simulated(function))
        else:
            declared = cuda.jit(function, launch_bounds=(threads, blocks), fastmath=False)
            keep_on_disk(declared)
        declared.turns, declared.tile = turns, tile
        return declared

    return declare


def device(function):
    """Declare a function that kernels call; it is inlined into them."""
    if not SIMULATING:
        return cuda.jit(function, device=True, forceinline=True, fastmath=False)
    # The simulator's wrapper takes a lock at each call; only functions that use cuda need it
    return cuda.jit(function, device=True) if "cuda" in function.__code__.co_names else function


class _Intrinsic(extending._Intrinsic):
    """Pickled by its name. Numba's is pickled with its body and an identity that is new in each
    process, and the key of a kernel on disk holds what its closure pickles to."""

    def __reduce__(self):
        return self.__qualname__


def intrinsic(function):
    """Declare a function of a module that emits the instructions for calls of it."""
    declared = _Intrinsic(function.__name__, function, target="cuda")
    declared._register()
    return declared
