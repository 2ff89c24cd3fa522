"""Everything that depends on the CUDA package or on its simulator; nothing else imports it.

Kernels say ``from kernels.cuda_api import cuda`` and are declared with ``kernel`` and ``device``.
Indices in kernels are ``u32`` throughout: a signed index costs twice the instructions, because
Numba lets it be negative. So every array that a kernel sees passes through ``flat``.
"""

from __future__ import annotations

import math
import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple
from unittest import mock

import numpy as np
from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda
from numba.cuda import types as types
from numba.cuda.core import config
from numba.cuda.extending import intrinsic as intrinsic
from numba.cuda.typing.typeof import typeof

from kernels.compilation import sources_digest

SIMULATING = bool(config.ENABLE_CUDASIM)
# To the simulator threads are dear; a process that counts what the real blocks do sets this False,
# before it imports an operator
SMALL_BLOCKS = SIMULATING
# Threads of the last blocks may count beyond the last element, and must not wrap
MAX_ELEMENTS = 2**32 - 2**16
# Positions beside a map, a window or a few dilations away, must not wrap into it
MOST_ROWS = 2**29
MAX_GRID = (2**31 - 1, 65535, 65535)
ELEMENTWISE_THREADS = 256
WARP = 32

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
# To free memory is to wait for the device: do it seldom, or where memory runs out
config.CUDA_DEALLOCS_COUNT = 1000

u32 = np.uint32
# NumPy's functions keep float32 in the simulator, where math's would widen it.
_LIBRARY = np if SIMULATING else math
exp, log, sqrt, tanh = _LIBRARY.exp, _LIBRARY.log, _LIBRARY.sqrt, _LIBRARY.tanh

if SIMULATING:
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
        """Run a block's threads in turn, each up to the next barrier.

        The simulator's own scheduler lets them compete with each other, and spins meanwhile.
        """
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

    def _shared_array(self, shape, dtype):
        """The block's array of one source line; the simulator's own way to find it takes long."""
        caller = sys._getframe(1)
        line = caller.f_code.co_filename, caller.f_lineno
        if line not in self._allocations:
            array = np.empty(shape, dtype)
            self._allocations[line] = array if _watch is None else _watch(array)
        return self._allocations[line]

    BlockManager.run = _run_block
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


# A stream of Numba, of this thread or task
chosen_stream: ContextVar = ContextVar("chosen_stream", default=None)


def stream():
    """The stream that work goes to: the legacy default stream, or ``chosen_stream``."""
    return chosen_stream.get() or cuda.legacy_default_stream()


def wait_for(producer) -> None:
    """Let ``stream()``, and not the host, wait for what the stream ``producer`` has to do so far.

    Args:
        producer: a stream of Numba, or 0 where nothing is known of any.
    """
    here = stream()
    if not SIMULATING and producer and int(producer) != int(here):
        event = cuda.event(timing=False)
        event.record(producer)
        event.wait(here)


def wrapped(array):
    """The memory of ``array``, anything with ``__cuda_array_interface__``, as an array of Numba."""
    if not SIMULATING:
        return cuda.as_cuda_array(array, sync=False)
    # The simulator's device memory is the host's, and both interfaces have one format
    interface = array.__cuda_array_interface__
    there = type("Host", (), {"__array_interface__": interface, "owner": array})()
    return FakeCUDAArray(np.asarray(there))


def is_on_another_device(array) -> bool:
    """Whether an array of Numba lies on another device than the current one."""
    if SIMULATING or len(cuda.gpus) == 1 or array.size == 0:
        return False
    from numba.cuda.cudadrv import driver

    ordinal = driver.binding.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    pointer = driver.device_pointer(array)
    return driver.driver.cuPointerGetAttribute(ordinal, pointer) != cuda.get_current_device().id


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
    """A kernel for the simulator, whose uint32 wraps and whose NaN spreads without a warning."""

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


def _keep_on_disk(compiled) -> None:
    """Cache a kernel's code; a change in any file of ``kernels`` discards what was kept."""
    try:
        compiled.enable_caching()
    except RuntimeError:  # no folder to write to
        return
    # Numba's own stamp is that of the kernel's file: it misses the device functions of other files.
    # ``drop_stale_cache`` does not, but only sees this package's folder, where it can write there
    compiled._cache._cache_file._source_stamp = sources_digest()


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


class Launch(NamedTuple):
    """A kernel on a grid of ``blocks`` (x, y, z) of ``threads`` threads each.

    ``independent``: its threads share nothing and never wait for each other.
    """

    kernel: object
    blocks: tuple[int, int, int]
    threads: int
    arguments: tuple
    independent: bool

    @property
    def function(self):
        """The Python function that the kernel is made of."""
        function = self.kernel.py_func
        return function.function if SIMULATING else function


_instead = None


@contextmanager
def instead_of_launching(handle):
    """Within it, a launch only calls ``handle`` with its ``Launch``; no device is needed.

    What operators allocate lies in the host's memory then.
    """
    global _instead
    _instead = handle
    try:
        yield
    finally:
        _instead = None


@contextmanager
def recorded():
    """Within it, launches are only noted, in the list of ``Launch`` that it gives."""
    launches: list[Launch] = []
    with instead_of_launching(launches.append):
        yield launches


def device_empty(shape, dtype):
    """An uninitialised array in the device's memory."""
    if _instead is not None:
        return np.empty(shape, dtype)
    return cuda.device_array(shape, np.dtype(dtype), stream=stream())


def is_recording() -> bool:
    """Whether launches are only noted, so that host arrays will do."""
    return _instead is not None


def launch(function, blocks, threads: int, *arguments) -> None:
    """Start a kernel on a grid of ``blocks`` (an int or a tuple) of ``threads`` threads.

    Raises:
        ValueError: a grid larger than devices have.
    """
    blocks = blocks if isinstance(blocks, tuple) else (blocks,)
    if any(n > most for n, most in zip(blocks, MAX_GRID)):
        raise ValueError(f"the work takes {blocks} blocks; expected at most {MAX_GRID}")
    _handle(Launch(function, blocks + (1,) * (3 - len(blocks)), threads, arguments, False))


def launch_over(function, count: int, *arguments) -> None:
    """Start a kernel without barriers with a thread ``cuda.grid(1)`` for each of ``count``.

    Ints among the arguments arrive as uint32: a cast of 64-bit ones leaves arithmetic on 64 bits.

    Raises:
        ValueError: more threads than a 32-bit index can count.
        OverflowError: an int that does not fit.
    """
    check_count("the work", count)
    threads = 1 if SMALL_BLOCKS else ELEMENTWISE_THREADS
    blocks = ceil_division(count, threads), 1, 1
    _handle(Launch(function, blocks, threads, _narrowed(arguments), True))


def _handle(launch):
    if _instead is not None:
        _instead(launch)
    elif SIMULATING and launch.independent:
        simulate(launch, range(launch.blocks[0]), _call)
    else:
        launch.kernel[launch.blocks, launch.threads, stream()](*launch.arguments)


def _call(function, arguments):
    function(*arguments)


def simulate(launch: Launch, blocks, run, watch=None) -> None:
    """Simulate some blocks of a launch.

    Independent threads are simulated one after the other in one thread: 1000 could start a second.

    Args:
        blocks: their numbers, counted along x first.
        run: called as ``run(function, arguments)`` for each of their threads.
        watch: called with each shared array; what it returns stands for the array.
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


def _narrowed(value):
    if type(value) is int:
        return u32(value)
    if isinstance(value, tuple):
        return getattr(value, "_make", tuple)(map(_narrowed, value))
    return value


def threads_of_row(width: int) -> int:
    """Threads for a row of a map: where it is long, whole warps, so that none crosses its end."""
    return ceil_division(width, WARP) * WARP if width >= 4 * WARP else width


def flat(name: str, array):
    """``array``, C-contiguous, as one axis: what a kernel is given.

    Raises:
        ValueError: it has more elements than a 32-bit index can count.
    """
    check_count(name, array.size)
    return array.reshape(array.size)


def check_shape(name: str, shape) -> None:
    """Refuse arrays and maps too large for 32-bit indices.

    Raises:
        ValueError: naming the array.
    """
    check_count(name, math.prod(shape))
    if len(shape) == 4 and max(shape[2:]) > MOST_ROWS:
        raise ValueError(
            f"{name} is {shape[2]} x {shape[3]}; expected at most {MOST_ROWS} rows and columns, "
            "because kernels index with 32 bits"
        )


def check_count(name: str, elements: int) -> None:
    """Refuse more ``elements`` than a 32-bit index can count.

    Raises:
        ValueError: naming the array.
    """
    if elements > MAX_ELEMENTS:
        raise ValueError(
            f"{name} has {elements} elements; expected at most {MAX_ELEMENTS}, "
            "because kernels index with 32 bits"
        )


def ceil_division(a: int, b: int) -> int:
    """The least n with n * b >= a."""
    return -(-a // b)


@contextmanager
def device_seconds():
    """Gives a function that tells, after the block, the seconds it took on the device's clock."""
    first, last = cuda.event(), cuda.event()
    first.record()
    yield lambda: cuda.event_elapsed_time(first, last) / 1e3
    last.record()
    last.synchronize()
