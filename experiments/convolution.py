"""The sparse convolution alone: forward, input gradient and weight gradient."""

from __future__ import annotations

import numpy as np

from experiments.measuring import sweep
from experiments.measuring.exactness import NotEqual, relative_difference
from kernels import get_backend

TIMED = True
COLUMNS = sweep.COLUMNS
UNIT, CEILING = "GFLOP/s", "gflops"


def run(options) -> tuple[list[dict], dict]:
    """One row for each axis, setting and operation; no arrays.

    Raises:
        NotEqual: an operation is wrong on the arrays that are timed.
    """
    return sweep.swept("convolution", _measured, options, sweep.points(options.quick)), {}


def _measured(point, rng, ops, longest):
    c, k = point.channels, point.kernel
    shapes = {
        "x": (1, c, point.size, point.size),
        "weights": (c, c, k, k),
        "error": (1, c, point.image, point.image),
    }
    host = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    x, weights, error = (ops.memory.to_device(array) for array in host.values())
    jobs = {
        "forward": lambda: ops.convolution.forward(x, weights, dilation=point.d),
        "input gradient": lambda: ops.convolution.gradient_input(
            error, weights, (point.size, point.size), dilation=point.d
        ),
        "weight gradient": lambda: ops.convolution.gradient_weights(
            x, error, (k, k), dilation=point.d
        ),
    }
    _check(host, {name: ops.memory.to_host(job()) for name, job in jobs.items()}, point)
    work = 2 * point.image**2 * c * c * k * k
    return sweep.rounds(ops, jobs, longest), dict.fromkeys(jobs, work)


def _check(host, results, point):
    """Compare the last rows and columns of y with the reference; <e, w*x> = <dx, x> = <dw, w>."""
    x, weights, error = host.values()
    part = x[:, :, -(point.size - point.image + 3) :, -(point.size - point.image + 3) :]
    expected = get_backend("reference").convolution.forward(
        part.astype(float), weights.astype(float), dilation=point.d
    )
    difference = relative_difference(results["forward"][:, :, -3:, -3:], expected)
    pairs = [(error, results["forward"]), (x, results["input gradient"])]
    pairs.append((weights, results["weight gradient"]))
    sums = [float(np.vdot(a.astype(float), b.astype(float))) for a, b in pairs]
    scale = np.linalg.norm(error.astype(float)) * np.linalg.norm(results["forward"].astype(float))
    worst = max(difference, (max(sums) - min(sums)) / scale)
    if not worst <= 1e-5:
        raise NotEqual(f"a convolution at {point} is wrong by {worst:.1e}")


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    return sweep.table(rows, UNIT, CEILING)


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "The d-regularly sparse convolution and its two gradients, one axis at a time from a base "
        "point, in GFLOP/s and as a share of what a large matrix product reaches on this machine. "
        "The distance d of the kernel's entries should cost nothing: the line over d should be "
        "flat.\n\n"
        "`image` is the output's rows and columns; as many channels go in as come out. A "
        "multiplication and an addition are two FLOP. float32; the results on the timed arrays "
        "were checked against the reference and against one another."
    )


def figure(rows: list[dict], record: dict, arrays: dict):
    """GFLOP/s along each axis."""
    title = f"Sparse convolution: {record['gpu'] or record['cpu']}"
    return sweep.figure(rows, UNIT, CEILING, title)
