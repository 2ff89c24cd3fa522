"""Streams: where work goes, what it waits for, and the seconds that it takes on the device."""

from contextlib import contextmanager
from contextvars import ContextVar

from kernels.device.api import SIMULATING, cuda

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


@contextmanager
def device_seconds():
    """Gives a function that tells, after the block, the seconds it took on the device's clock."""
    first, last = cuda.event(), cuda.event()
    first.record()
    yield lambda: cuda.event_elapsed_time(first, last) / 1e3
    last.record()
    last.synchronize()
