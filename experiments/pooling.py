"""The sparse max pooling alone, forward and backward."""

from __future__ import annotations

import numpy as np

from experiments.measuring import sweep
from experiments.measuring.exactness import NotEqual
from kernels import get_backend

TIMED = True
COLUMNS = sweep.COLUMNS
UNIT, CEILING = "GB/s", "gbytes"


def run(options) -> tuple[list[dict], dict]:
    """One row for each axis, setting and operation; no arrays.

    Raises:
        NotEqual: an operation is wrong on the arrays that are timed.
    """
    return sweep.swept("pooling", _measured, options), {}


def _measured(point, rng, ops, longest):
    kernel, size = (point.kernel, point.kernel), (point.size, point.size)
    x = rng.standard_normal((1, point.channels, *size)).astype(np.float32)
    error = rng.standard_normal((1, point.channels, point.image, point.image)).astype(np.float32)
    on_device, errors = ops.memory.to_device(x), ops.memory.to_device(error)
    pool = ops.max_pooling
    y, argmax = pool.forward(on_device, kernel, stride=1, dilation=point.d)
    moves = {"stride": 1, "dilation": point.d}
    jobs = {
        "forward": lambda: pool.forward(on_device, kernel, **moves),
        "forward without cells": lambda: pool.forward(on_device, kernel, **moves, argmax=False),
        "backward": lambda: pool.backward(errors, argmax, size, kernel, stride=1, dilation=point.d),
    }
    to_host = ops.memory.to_host
    _check(x, error, to_host(y), to_host(jobs["backward"]()), point)
    maps = x.nbytes + error.nbytes  # the map, its maxima or errors
    moved = dict.fromkeys(jobs, maps + argmax.nbytes) | {"forward without cells": maps}
    return sweep.rounds(ops, jobs, longest), moved


def _check(x, error, y, gradient, point):
    """Compare the last maxima with the reference, bit for bit; <e, y> = <dx, x>."""
    part = x[:, :, -(point.size - point.image + 3) :, -(point.size - point.image + 3) :]
    expected, _ = get_backend("reference").max_pooling.forward(
        part.astype(float), point.kernel, stride=1, dilation=point.d
    )
    sums = [
        float(np.vdot(a.astype(float), b.astype(float))) for a, b in ((error, y), (gradient, x))
    ]
    scale = np.linalg.norm(error.astype(float)) * np.linalg.norm(y.astype(float))
    wrong = abs(sums[0] - sums[1]) / scale
    if not (np.array_equal(y[:, :, -3:, -3:], expected) and wrong <= 1e-5):
        raise NotEqual(f"max pooling at {point} is wrong, the gradient by {wrong:.1e}")


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    return sweep.table(rows, UNIT, CEILING)


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "The d-regularly sparse max pooling and its gradient, one axis at a time from a base "
        "point, in GB/s and as a share of what a large copy reaches on this machine. The distance "
        "d of the window's cells should cost nothing: the line over d should be flat.\n\n"
        "`image` is the output's rows and columns. Bytes are those that must be moved once: the "
        "map, its maxima (or their errors) and the chosen cells, which a forward pass alone does "
        "not ask for. float32; the results on the timed arrays were checked against the reference "
        "and against one another."
    )


def figure(rows: list[dict], record: dict, arrays: dict):
    """GB/s along each axis."""
    title = f"Sparse max pooling: {record['gpu'] or record['cpu']}"
    return sweep.figure(rows, UNIT, CEILING, title)
