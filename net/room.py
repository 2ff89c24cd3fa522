"""Whether there is room in memory: asked before anything runs, so that nothing is killed for it."""

from __future__ import annotations

from collections.abc import Callable

from kernels import Backend

SMALLEST = 8 * 2**20
"""Bytes. For less nobody asks what is free: that would take longer than many a small pass."""


def check(ops: Backend, what: str, needed: int, advice: Callable[[int], str]) -> None:
    """Refuse what takes more memory than is free, where the backend can tell.

    Args:
        ops: the backend.
        what: takes the memory, as the message begins.
        needed: bytes.
        advice: says in words what would fit into so many bytes.

    Raises:
        MemoryError: it does not fit; the message says how much is free, and the advice.

    >>> from kernels import get_backend
    >>> check(get_backend("cpu"), "a map", 2**70, lambda free: "less would fit")
    Traceback (most recent call last):
        ...
    MemoryError: a map takes 1.18e+12 GB, ... GB are free; less would fit
    """
    if needed < SMALLEST:
        return
    free = ops.memory.free_bytes()
    if free is not None and needed > free:
        raise MemoryError(
            f"{what} takes {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free; {advice(free)}"
        )
