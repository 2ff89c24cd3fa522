"""Device time, whatever the host takes: work waits behind a kernel that keeps the device busy.

If the device idles between two events, the idle time is measured too; so all work is queued behind
a spinning kernel first, and a time that may hold such gaps is refused.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from kernels.device.api import cuda, kernel, u32
from kernels.device.launching import allocate, launch
from kernels.device.streams import stream

# A turn is a multiply-add that waits for the one before: 4 clocks, at 3 GHz or less
TURN_SECONDS = 1e-9
LONGEST_SPIN, SHORTEST_SPIN = 0.02, 2e-4
"""Seconds, or a few times as many, for which the device is kept from starting."""


@cache
def _spin_kernel():
    @kernel(1)
    def spin(
        turns,
        result,  # 1
    ):
        value, i = np.float32(0), u32(0)
        while i < u32(turns):
            value = value * np.float32(0.5) + np.float32(1)
            i = u32(i + u32(1))
        result[u32(0)] = value

    return spin


def keep_busy(seconds: float) -> None:
    """Queue a kernel that spins for ``seconds``, clamped to ``SHORTEST_SPIN`` ... ``LONGEST_SPIN``,
    or for a few times as long."""
    turns = u32(min(max(seconds, SHORTEST_SPIN), LONGEST_SPIN) / TURN_SECONDS)
    launch(_spin_kernel(), 1, 1, turns, allocate((1,), "float32"))


def on_device(call, host_seconds: float) -> tuple[object, float | None]:
    """The result of ``call()``, and the seconds that the device takes for what it launches.

    Args:
        call: launches, and waits for nothing.
        host_seconds: estimate of the host's time to queue ``call``.

    Returns:
        None in place of seconds where the device may have waited for the host: then its queue ran
        dry before everything was in it.
    """
    first, last, here = cuda.event(), cuda.event(), stream()
    keep_busy(host_seconds)
    first.record(here)
    result = call()
    last.record(here)
    is_behind = not first.query()
    last.synchronize()
    return result, cuda.event_elapsed_time(first, last) / 1e3 if is_behind else None
