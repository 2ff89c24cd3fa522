"""The source ``static``: machine code of the kernels that would be launched; needs no device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from experiments.profiling.devices import LIMITS, Capability, Limits, resident_blocks
from kernels.device import api, compiling, launching, machine_code
from kernels.device.machine_code import MachineCode

# From this capability on, the code's figure includes the shared memory that the system reserves
SHARED_BYTES_INCLUDE_RESERVED = (9, 0)


class NotReadable(RuntimeError):
    """A kernel cannot be compiled or disassembled; the message says why."""


@dataclass(frozen=True)
class Code:
    """The machine code of a kernel.

    Attributes:
        machine_code: the code that was read.
        capability: the compute capability that it was compiled for.
        threads: the threads of a block.
    """

    machine_code: MachineCode
    capability: Capability
    threads: int

    def resident_blocks(self, limits: Limits) -> int:
        """Blocks that a multiprocessor holds at a time."""
        shared = self.machine_code.shared_bytes
        if self.capability >= SHARED_BYTES_INCLUDE_RESERVED:
            shared -= LIMITS[self.capability].reserved_bytes
        return resident_blocks(limits, self.threads, self.machine_code.registers, shared)

    def occupancy(self, limits: Limits) -> float:
        """Share of the threads that a multiprocessor can hold."""
        return self.resident_blocks(limits) * self.threads / limits.threads


def check() -> None:
    """Check that kernels can be compiled and disassembled here.

    Raises:
        NotReadable: a package is missing.
    """
    missing = api.why_uncompilable()
    if missing:
        raise NotReadable(missing)
    try:
        machine_code.find_disassembler()
    except RuntimeError as error:
        raise NotReadable(str(error)) from None


def parse_capability(name: str) -> Capability:
    """The capability of ``sm_80``.

    Raises:
        ValueError: it is not one of those in ``LIMITS``.
    """
    for capability in LIMITS:
        if name == "sm_{}{}".format(*capability):
            return capability
    known = ", ".join("sm_{}{}".format(*capability) for capability in LIMITS)
    raise ValueError(f"--arch is {name}; expected some of {known}")


def kinds() -> Iterator[str]:
    """The kinds of instructions that are counted; of those with a width, one for each, in bits."""
    for kind in (*machine_code.CLASSES, machine_code.INTEGER):
        widths = (32, 64, 128) if kind in machine_code.WIDE else (None,)
        yield from (kind if width is None else f"{kind} {width}" for width in widths)


def target_of(capability: Capability) -> Capability:
    """The compute capability whose code a device of ``capability`` is given: its own, or the next
    one that the installed compiler makes code for.

    Raises:
        NotReadable: there is none.
    """
    for target in compiling.targets():
        if target >= capability:
            return target
    raise NotReadable("the compiler has no target from sm_{}{} on".format(*capability))


class CodeReader:
    """Reads each kernel once for each capability."""

    def __init__(self):
        self._read: dict[tuple, MachineCode] = {}

    def read(self, launch: launching.Launch, capability: Capability) -> Code:
        """The code of a launch.

        Raises:
            NotReadable: the compiler does not know ``capability``.
        """
        if capability not in compiling.targets():
            raise NotReadable("the compiler has no target sm_{}{}".format(*capability))
        types = tuple(_type(argument) for argument in launch.arguments)
        key = launch.kernel, types, capability
        if key not in self._read:
            self._read[key] = machine_code.read(launch.kernel, launch.arguments, capability)
        return Code(self._read[key], capability, launch.threads)


def _type(argument):
    return (argument.dtype, argument.ndim) if isinstance(argument, np.ndarray) else type(argument)
