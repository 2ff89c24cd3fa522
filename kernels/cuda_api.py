"""Everything that depends on the CUDA package or on its simulator; nothing else imports it.

Kernels say ``from kernels.cuda_api import cuda`` and are declared with ``kernel`` and ``device``.
Indices in kernels are ``u32`` throughout: a signed index costs twice the instructions, because
Numba lets it be negative. So every array that a kernel sees passes through ``flat``.
"""

from __future__ import annotations

import hashlib
import math
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda
from numba.cuda import types as types
from numba.cuda.core import config
from numba.cuda.extending import intrinsic as intrinsic
from numba.cuda.typing.typeof import typeof

SIMULATING = bool(config.ENABLE_CUDASIM)
MAX_ELEMENTS = 2**32 - 1
ELEMENTWISE_THREADS = 256

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
# To free memory is to wait for the device: do it seldom, or where memory runs out
config.CUDA_DEALLOCS_COUNT = 1000

u32 = np.uint32
# NumPy's functions keep float32 in the simulator, where math's would widen it.
_LIBRARY = np if SIMULATING else math
exp, log, sqrt, tanh = _LIBRARY.exp, _LIBRARY.log, _LIBRARY.sqrt, _LIBRARY.tanh

if SIMULATING:
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    _allocating = threading.Lock()

    def _shared_array(self, shape, dtype):
        """The block's array of one source line.

        The simulator's own looks and allocates in two steps, so that two threads which come at the
        same time get an array each, and one loses what it writes.
        """
        caller = sys._getframe(1)
        line = caller.f_code.co_filename, caller.f_lineno
        with _allocating:
            if line not in self._allocations:
                self._allocations[line] = np.empty(shape, dtype)
            return self._allocations[line]

    FakeCUDAShared.array = _shared_array


def why_unavailable() -> str | None:
    """What keeps kernels from running on a device here, as a sentence; None if nothing does."""
    if SIMULATING:
        return "the CUDA simulator is on, so there is no device"
    if cuda.is_available():
        return None
    error = " ".join((cuda.cuda_error() or "").split())
    return error or why_uncompilable() or "no CUDA device was found"


def why_uncompilable() -> str | None:
    """What keeps kernels from being compiled here, as a sentence; None if nothing does."""
    if SIMULATING:
        return "the CUDA simulator is on, and it does not compile"
    from numba.cuda.cudadrv import nvvm

    if nvvm.is_available():
        return None
    return "no CUDA compiler is installed; pip install 'numba-cuda[cu13]' (or [cu12]) brings one"


def device_name() -> str:
    """What the current device calls itself."""
    name = cuda.get_current_device().name
    return name.decode() if isinstance(name, bytes) else name


def kernel(threads: int, blocks: int = 1):
    """Declare a kernel, launched as ``function[grid, threads](...)``.

    Fast mathematics stays off: it may reorder sums, and a + b * c becomes a fused multiply-add
    without it. Compiled kernels are kept on disk where that is possible.

    Args:
        threads: the most threads a block is launched with.
        blocks: blocks that a multiprocessor must be able to hold, which limits the registers.
    """

    def declare(function):
        if SIMULATING:
            return cuda.jit(_Simulated(function))
        compiled = cuda.jit(function, launch_bounds=(threads, blocks), fastmath=False)
        _keep_on_disk(compiled)
        return compiled

    return declare


def device(function):
    """Declare a function that kernels call; it is inlined into them."""
    if not SIMULATING:
        return cuda.jit(function, device=True, forceinline=True, fastmath=False)
    # The simulator's own wrapper takes a lock at each call, and only serves functions that use cuda
    return cuda.jit(function, device=True) if "cuda" in function.__code__.co_names else function


class _Simulated:
    """A kernel for the simulator.

    Its uint32 wraps and its NaN spreads without a warning, as on a device. Where threads are
    independent, one thread of the simulator does the work of all: it can start 1000 a second.
    """

    def __init__(self, function):
        self.__globals__ = function.__globals__
        self.__name__ = function.__name__
        self._function = function
        self._count = None

    @contextmanager
    def repeated(self, count: int):
        self._count = count
        try:
            yield
        finally:
            self._count = None

    def __call__(self, *arguments):
        with np.errstate(all="ignore"):
            if self._count is None:
                self._function(*arguments)
                return
            block = threading.current_thread().blockIdx
            for block.x in range(self._count):
                self._function(*arguments)


def _keep_on_disk(compiled) -> None:
    """Cache a kernel's code; a change in any file of ``kernels`` discards what was kept."""
    try:
        compiled.enable_caching()
    except RuntimeError:  # no folder to write to
        return
    # Numba's own stamp is that of the kernel's file: it misses the device functions of other files
    compiled._cache._cache_file._source_stamp = _SOURCES


def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = _sources()


def ptx(function, arguments, capability: tuple[int, int]) -> str:
    """The PTX of a kernel for ``capability`` (major, minor); needs a compiler, but no device.

    Args:
        function: what ``kernel`` returned.
        arguments: arrays and scalars like those of a launch.
        capability: compute capability, for instance (8, 0).
    """
    return _compile(function, arguments, capability, "ptx")


def machine_code(function, arguments, capability: tuple[int, int]) -> bytes:
    """The code that a launch loads onto a device of ``capability``; takes what ``ptx`` takes."""
    intermediate = _compile(function, arguments, capability, "ltoir")
    # As Numba does, with the instructions that only this very architecture has
    arch = "sm_{}{}".format(*capability) + ("a" if capability >= (9, 0) else "")
    options = LinkerOptions(arch=arch, link_time_optimization=True)
    return Linker(ObjectCode.from_ltoir(intermediate), options=options).link("cubin").code


def _compile(function, arguments, capability, output):
    # Device functions are compiled for the current device, which there may not be
    here = mock.Mock(compute_capability=capability)
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=here):
        code, _ = cuda.compile(
            function.py_func,
            tuple(typeof(a) for a in arguments),
            device=False,
            abi="numba",
            cc=capability,
            launch_bounds=function.targetoptions["launch_bounds"],
            output=output,
        )
    return code


_recording: list | None = None


@contextmanager
def recorded():
    """Within it, launches only append (kernel, arguments) to the list it gives: see ``ptx``."""
    global _recording
    _recording = []
    try:
        yield _recording
    finally:
        _recording = None


def launch(function, blocks, threads: int, *arguments) -> None:
    """Start a kernel on a grid of ``blocks`` (an int or a tuple) of ``threads`` threads."""
    if _recording is not None:
        _recording.append((function, arguments))
    elif SIMULATING:
        # Its scheduler spins, and would keep the threads that work waiting for 5 ms at each barrier
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            function[blocks, threads](*arguments)
        finally:
            sys.setswitchinterval(interval)
    else:
        function[blocks, threads](*arguments)


def launch_over(function, count: int, *arguments) -> None:
    """Start a kernel without barriers with a thread ``cuda.grid(1)`` for each of ``count``."""
    if SIMULATING:
        with function.fn.repeated(count):
            launch(function, 1, 1, *arguments)
    else:
        launch(function, ceil_division(count, ELEMENTWISE_THREADS), ELEMENTWISE_THREADS, *arguments)


def flat(name: str, array):
    """``array``, C-contiguous, as one axis: what a kernel is given.

    Raises:
        ValueError: it has more elements than a 32-bit index can count.
    """
    if array.size > MAX_ELEMENTS:
        raise ValueError(
            f"{name} has {array.size} elements; expected at most {MAX_ELEMENTS}, "
            "because kernels index with 32 bits"
        )
    return array.reshape(array.size)


def ceil_division(a: int, b: int) -> int:
    """The least n with n * b >= a."""
    return -(-a // b)
