"""Kernels compiled without a device: to PTX, or to the machine code that a launch would load."""

from unittest import mock

from cuda.core import Linker, LinkerOptions, ObjectCode
from numba.cuda.typing.typeof import typeof

from kernels.device.api import cuda


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
