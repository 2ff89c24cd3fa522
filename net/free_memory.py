"""Checks that a pass fits into free memory before it starts."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

from kernels import Backend
from kernels.checks import Pair
from net.ledger import UNINDEXABLE

SMALLEST = 8 * 2**20
"""Bytes. For less nobody asks what is free: that would take longer than many a small pass."""


def check(ops: Backend, what: str, needed: int, advice: Callable[[int], str]) -> None:
    """Refuse what takes more memory than is free, where the backend can tell.

    Args:
        ops: the backend.
        what: takes the memory, as the message begins.
        needed: bytes.
        advice: says in words what would fit into the free bytes, its argument.

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
        taken = f"{needed / 1e9:.3g} GB"
        if needed >= UNINDEXABLE:
            taken = f"a map of more than {ops.memory.MOST_ELEMENTS} numbers"
        raise MemoryError(f"{what} takes {taken}, {free / 1e9:.3g} GB are free; {advice(free)}")


def fitting_side(peak_bytes: Callable[[Pair], int], available: int) -> int:
    """The largest n for which ``peak_bytes((n, n))`` is at most ``available``; 0 if none."""
    low, high = 0, isqrt(available) + 1
    while high - low > 1:
        side = (low + high) // 2
        low, high = (side, high) if peak_bytes((side, side)) <= available else (low, side)
    return low
