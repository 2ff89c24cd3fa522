"""Streams: which one work goes to, what it waits for, and how long it takes on the device."""

from contextlib import contextmanager
from contextvars import ContextVar

from kernels.device.api import SIMULATING, cuda

# A stream of Numba, of this thread or task
chosen_stream: ContextVar = ContextVar("chosen_stream", default=None)


def stream():
    """The stream that work goes to: the legacy default stream, or ``chosen_stream``."""
    return chosen_stream.get() or cuda.legacy_default_stream()


def wait_for(producer) -> None:
    """Make ``stream()``, not the host, wait for the work that is pending on ``producer``.

    Args:
        producer: a stream of Numba, or 0 if there is none or it is not known.
    """
    here = stream()
    if not SIMULATING and producer and int(producer) != int(here):
        event = cuda.event(timing=False)
        event.record(producer)
        event.wait(here)


@contextmanager
def device_seconds():
    """Yields a function that returns, after the block, the seconds that the device took for it."""
    first, last = cuda.event(), cuda.event()
    first.record()
    yield lambda: cuda.event_elapsed_time(first, last) / 1e3
    last.record()
    last.synchronize()
