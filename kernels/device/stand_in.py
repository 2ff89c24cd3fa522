"""A fake device that executes nothing, to time the host's part of launches and count its requests.

All of Numba's host code runs, down to the calls of the driver, which come back at once. Nothing is
compiled and no memory is allocated: arrays may be as large as any device's.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

from cuda.core._kernel_arg_handler import ParamHolder
from numba.cuda import dispatcher, types
from numba.cuda.cudadrv import devices, driver

from kernels.device import prepared
from kernels.device.multiprocessors import RECORDED
from kernels.device.streams import _stream_at

CAPABILITY, MEMORY = (9, 0), 80 * 2**30
_ALIGNMENT = 256


@contextmanager
def stand_in():
    """Within it, the process has such a device; yields counts of what was asked of it.

    They are ``launches``, ``allocations`` by the driver, ``allocated`` (bytes), ``freed`` (bytes),
    ``waits`` for a stream or the whole device, ``compilations`` and ``prepared`` (constants that
    were packed for launches).
    """
    asked = _Asked()
    # Else the driver makes it when it is found
    driver._logger = driver.make_logger()
    with ExitStack() as stack:
        # What is prepared for a stream is for one device: neither takes over the other's
        _stream_at.cache_clear()
        stack.callback(_stream_at.cache_clear)
        stack.enter_context(_with_attributes(driver.driver, asked.driver_calls()))
        for owner, name, value in (
            (type(devices.gpus), "lst", [_device()]),
            (dispatcher, "launch", asked.launch),
            (dispatcher.CUDADispatcher, "compile", asked.compiler()),
            (prepared.Constant, "__init__", asked.preparation()),
            (driver, "_alloc_finalizer", asked.finalizer),
        ):
            stack.enter_context(_with_attributes(owner, {name: value}))
        yield asked.counts


class _Asked:
    """What is asked of the device, counted, and answered at once."""

    def __init__(self):
        self.counts: Counter = Counter()
        self._end, self._taken = _ALIGNMENT, 0
        self._recorded: dict[int, float] = {}  # events

    def driver_calls(self) -> dict:
        """The driver's functions, by name."""
        binding, recorded = driver.binding, self._recorded
        return {
            "cuCtxGetCurrent": lambda: binding.CUcontext(1),
            "cuCtxGetDevice": lambda: 0,
            "cuMemAlloc": self._allocate,
            "cuEventCreate": self._create_event,
            "cuEventRecord": lambda event, stream: recorded.update({event: time.perf_counter()}),
            "cuEventQuery": lambda event: None,
            "cuEventSynchronize": lambda event: None,
            "cuEventElapsedTime": lambda first, last: 1e3 * (recorded[last] - recorded[first]),
            "cuStreamWaitEvent": lambda stream, event, flags: None,
            "cuEventDestroy": lambda event: None,
            "cuCtxSynchronize": self._wait,
            "cuStreamSynchronize": self._wait,
            "cuMemcpyHtoD": self._wait,
            "cuMemcpyDtoH": self._wait,
            "cuMemcpyHtoDAsync": lambda to, source, nbytes, stream: None,
            "cuMemcpyDtoHAsync": lambda to, source, nbytes, stream: None,
            "cuMemGetInfo": lambda: (MEMORY - self._taken, MEMORY),
        }

    def _allocate(self, nbytes):
        if self._taken + nbytes > MEMORY:
            raise driver.CudaAPIError(driver.binding.CUresult.CUDA_ERROR_OUT_OF_MEMORY, "full")
        self.counts["allocations"] += 1
        self.counts["allocated"] += nbytes
        begin = self._end
        self._end += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        self._taken += nbytes
        return driver.binding.CUdeviceptr(begin)

    def _create_event(self, flags):
        event = len(self._recorded) + 1
        self._recorded[event] = 0.0
        return event

    def _wait(self, *arguments):
        self.counts["waits"] += 1

    def finalizer(self, manager, address, key, nbytes):
        """What is called when memory is not used any more, also after the stand-in."""

        def free(address):
            self.counts["freed"] += nbytes
            self._taken -= nbytes

        def put_off():
            manager.allocations.pop(key, None)
            manager.deallocations.add_item(free, address, nbytes)

        return put_off

    def launch(self, stream, config, kernel, *words):
        """In place of the launch of a kernel."""
        self.counts["launches"] += 1
        ParamHolder(words)  # as cuda.core does

    def compiler(self):
        """The method in place of Numba's compiler."""

        def compile_(kernel, kinds):
            self.counts["compilations"] += 1
            return _kernel(kinds)

        return compile_

    def preparation(self):
        """The constructor of constants, counted."""
        init = prepared.Constant.__init__

        def prepare(constant, *arguments):
            self.counts["prepared"] += 1
            return init(constant, *arguments)

        return prepare


def _device():
    device = SimpleNamespace(id=0, compute_capability=CAPABILITY, name="stand-in")
    device.MULTIPROCESSOR_COUNT = RECORDED.count
    device.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = RECORDED.shared_bytes
    context = driver.Context(device, driver.binding.CUcontext(1))
    device.get_primary_context = lambda: context
    return device


@contextmanager
def _with_attributes(owner, values):
    """Within it, attributes of ``owner`` have other values, by name."""
    before = {name: vars(owner)[name] for name in values if name in vars(owner)}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name in values.keys() & vars(owner).keys():
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)


def _kernel(kinds):
    """A kernel of Numba for arguments of these types, without code."""
    function = SimpleNamespace(kernel=None, name="")

    def find():
        return {devices.get_context().device.id: function}[0]

    kernel = dispatcher._Kernel.__new__(dispatcher._Kernel)
    kernel.signature = types.void(*kinds)
    kernel._codelibrary = SimpleNamespace(get_cufunc=find)
    kernel.extensions, kernel.debug, kernel.cooperative = [], False, False
    return kernel
