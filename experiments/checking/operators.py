"""Each operator but those over lists (``equality``), on random arrays, against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from experiments.profiling.operators import OPERATORS, Arrays, OperatorCase, prepare
from kernels import get_backend

SHAPE, FILTERS, WINDOW = (2, 4, 19, 23), 5, {"kernel": (3, 2), "dilation": (2, 1)}
TOLERANCE = 1e-5
"""Largest difference over the largest value, of float32."""
SEED = 20141215


def checks(ops) -> Iterator[tuple[str, object]]:
    """See ``experiments.checking``."""
    for name in OPERATORS:
        yield name, partial(_check, ops, name)


def _check(ops, name):
    case = OperatorCase(name, SHAPE, FILTERS if name.startswith("convolution.") else None, **WINDOW)
    ours = _results(ops, case)
    with np.errstate(invalid="ignore"):
        theirs = _results(get_backend("reference"), case)
    worst = 0.0
    for result, expected in zip(ours, theirs, strict=True):
        if result.shape != expected.shape or result.dtype.kind != expected.dtype.kind:
            raise ValueError(
                f"the result is {result.shape}, {result.dtype}; expected {expected.shape}, "
                f"{expected.dtype.kind}"
            )
        worst = max(worst, difference(result, expected))
    if worst > TOLERANCE:
        raise ValueError(f"differs from the reference by {worst:.1e}; expected {TOLERANCE:.0e}")
    return f"differs from the reference by {worst:.1e}"


def difference(result: np.ndarray, expected: np.ndarray) -> float:
    """max|a - b| / max|b|; infinite where only one is NaN or infinite."""
    finite = np.isfinite(expected)
    if (np.isfinite(result) != finite).any():
        return np.inf
    result, expected = (a[finite].astype("float64") for a in (result, expected))
    worst = np.abs(result - expected).max(initial=0.0)
    return float(worst and worst / np.abs(expected).max(initial=np.finfo("float64").tiny))


def _results(ops, case):
    """What the operator returns, or its arguments where it works in place, on the host."""
    run = prepare(ops, case, Arrays(SEED, ops.memory.to_device))
    result = run()
    return [ops.memory.to_host(array) for array in _arrays(run.args if result is None else result)]


def _arrays(value):
    if isinstance(value, list | tuple):
        return [array for part in value for array in _arrays(part)]
    return [value] if hasattr(value, "dtype") and hasattr(value, "shape") else []
