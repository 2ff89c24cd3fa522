"""Streams: which one work goes to, and what it waits for."""

from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from kernels.device.api import SIMULATING, cuda

# CUDA's handle of the legacy default stream
LEGACY = 1
# A stream of Numba, of this thread or task
chosen_stream: ContextVar = ContextVar("chosen_stream", default=None)


def stream():
    """The stream that work goes to: the legacy default stream, or ``chosen_stream``."""
    return chosen_stream.get() or stream_at(LEGACY)


def stream_at(handle: int):
    """The current context's stream at the address ``handle``: the same object each time, as what is
    prepared for launches on a stream is found again by the object."""
    return _stream_at(None if SIMULATING else cuda.current_context().device.id, handle)


@cache
def _stream_at(device, handle):
    # Numba keeps one context for each device, and none of them can be hashed.
    # The simulator has no streams of other libraries
    return cuda.stream() if SIMULATING else cuda.external_stream(handle)


@contextmanager
def on(chosen):
    """Within it, in this thread or task, work goes to the stream ``chosen``, which it yields."""
    token = chosen_stream.set(chosen)
    try:
        yield chosen
    finally:
        chosen_stream.reset(token)


@contextmanager
def settled():
    """Within it, in this thread, the stream and the context stay what they are; yields the stream.

    Numba asks the driver for the context at each allocation and each launch, unless one is attached
    to the thread.
    """
    if SIMULATING:
        yield stream()
        return
    from numba.cuda.cudadrv.devices import _runtime

    before = _runtime._get_attached_context()
    _runtime._set_attached_context(cuda.current_context())
    here = stream()
    token = chosen_stream.set(here)
    try:
        yield here
    finally:
        chosen_stream.reset(token)
        _runtime._set_attached_context(before)


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
