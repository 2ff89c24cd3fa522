"""The multiprocessors of a device, by which tiles are chosen."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from kernels.device.api import SIMULATING, cuda
from kernels.device.launching import is_recording


class Multiprocessors(NamedTuple):
    """A device's multiprocessors.

    Attributes:
        count: number of multiprocessors.
        shared_bytes: shared memory for the blocks on one of them.
    """

    count: int
    shared_bytes: int


# An H100's, for launches that nothing executes
RECORDED = Multiprocessors(132, 228 * 1024)


def multiprocessors() -> Multiprocessors:
    """The current device's."""
    if SIMULATING or is_recording():
        return RECORDED
    return _of(cuda.get_current_device().id)


@cache
def _of(number):
    device = cuda.gpus[number]
    return Multiprocessors(device.MULTIPROCESSOR_COUNT, device.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
