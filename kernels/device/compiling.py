"""Kernels compiled without a device: to PTX, or to the machine code that a launch would load."""

from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from cuda.core import Linker, LinkerOptions, ObjectCode
from numba.cuda import dispatcher
from numba.cuda.cudadrv import nvrtc
from numba.cuda.typing.typeof import typeof

from kernels.device.api import cuda


@cache
def targets() -> tuple[tuple[int, int], ...]:
    """The compute capabilities that the installed compiler makes code for, in order."""
    return tuple(sorted(nvrtc.get_supported_ccs()))


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
    with _device_of(capability):
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


class _Device(NamedTuple):
    """All that Numba asks of a device while it compiles."""

    compute_capability: tuple[int, int]


@contextmanager
def _device_of(capability):
    """Within it, Numba compiles device functions for ``capability``.

    ``cuda.compile`` does not hand ``cc`` down to them: each asks the current device, which there
    may not be.
    """
    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: _Device(capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked
