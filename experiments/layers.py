"""Each layer of the zoo on one thread of the host, as a share of a matrix product beside it.

A process of its own measures a net: Numba and NumPy's BLAS have one thread there, and BLAS picks
its kernels for the instructions that Numba compiles for. Times are the processor's, which other
processes do not lengthen; each share is of one round, in which product and layer follow each other.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.inputs.nets import QUICK, affordable
from experiments.measuring.ceilings import FORCING
from experiments.measuring.exactness import NotEqual
from experiments.measuring.timing import LONGEST, QUICKLY, ROUNDS, interleaved, mark, spread
from experiments.storing.instructions import held_to_avx2
from kernels import get_backend
from net import zoo
from net.conversion import dense_window
from net.summary import multiply_adds

TIMED = True
ROOT = Path(__file__).parents[1]
LABELLED, QUICK_LABELLED = 256, 16
"""Labelled rows and columns, fewer where a pass takes too long (``affordable``)."""
SIDE, QUICK_SIDE = 1536, 256
"""Rows and columns of the product's matrices."""
DIRECTIONS = ("forward", "input gradient", "weight gradient")
AIM, LARGE = 0.85, 0.1
"""The share of the product that we aim at, in layers with at least this share of their net's
multiply-adds."""
COLUMNS = {
    **dict.fromkeys(("net", "layer", "window", "direction"), str),
    **dict.fromkeys(("labelled", "d", "channels", "filters", "multiply_adds", "bytes"), int),
    **dict.fromkeys(("of_work", "seconds", "seconds_p20", "seconds_p80"), float),
    **{"repeats": int, "product_seconds": float, "side": int, "blas": str | None},
    **dict.fromkeys(("share", "share_p20", "share_p80"), float),
}


def unavailable(backend: str) -> str | None:
    """Why this experiment cannot run here, as a sentence; None if it can."""
    return None if backend == "cpu" else "it measures the host alone, with --backend cpu"


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, layer with weights and direction; no arrays.

    Raises:
        RuntimeError: the process that measures failed, or a layer is wrong on the timed arrays.
    """
    rows = []
    for net in tqdm(options.nets or (QUICK if options.quick else zoo.ZOO), desc="layers"):
        (labelled,) = affordable(net, (LABELLED,), "cpu")
        job = {"net": net, "labelled": QUICK_LABELLED if options.quick else labelled}
        job |= {"side": QUICK_SIDE if options.quick else SIDE, "seed": options.seed}
        job |= {"longest": QUICKLY if options.quick else LONGEST}
        rows += options.cache.measured(job, lambda job=job: _in_a_process(job))
    return rows, {}


def _in_a_process(job):
    environment = {k: v for k, v in os.environ.items() if k not in FORCING}
    environment |= dict.fromkeys(
        ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"
    )
    environment |= {"OPENBLAS_CORETYPE": "Haswell"} if held_to_avx2() else {}
    command = [sys.executable, "-m", "experiments.layers", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the layers of {job} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _measured(job) -> list[dict]:
    """The rows of a net; on as many threads as this process has."""
    rng, net = np.random.default_rng(job["seed"]), zoo.build(job["net"], backend="reference")
    a, b, c = (rng.random((job["side"], job["side"]), np.float32) for _ in range(3))
    work = {n.name: multiply_adds(net, n, job["labelled"])[1] for n in net.nodes.values()}
    rows = []
    for node in net.nodes.values():
        if node.layer.has_weights:
            spacing, (k, channels, *kernel) = node.sources[0].spacing, node.weights_shape
            maps, jobs = _jobs(net, node, job["labelled"], rng)
            jobs["product"] = lambda: np.matmul(a, b, out=c)
            jobs["product"]()
            clocked = {name: lambda call=call: _seconds(call) for name, call in jobs.items()}
            times = interleaved(clocked, job["longest"])
            product = np.array(times.pop("product"))
            layer = {"net": job["net"], "layer": node.name, "labelled": job["labelled"]}
            layer |= {"window": " x ".join(map(str, kernel)), "d": spacing[0]}
            layer |= {"channels": channels, "filters": k, "multiply_adds": work[node.name]}
            layer |= {"bytes": maps, "of_work": work[node.name] / sum(work.values())}
            layer |= {"product_seconds": np.median(product), "side": job["side"], "blas": _blas()}
            of_product = work[node.name] / job["side"] ** 3
            for direction, seconds in times.items():
                shares = spread(of_product * product / seconds, "share")
                rows.append(layer | {"direction": direction} | spread(seconds) | shares)
    return rows


def _jobs(net, node, labelled, rng):
    """(bytes of the layer's maps, its calls by direction) in the dense form; all were called.

    Raises:
        NotEqual: <e, w*x> = <dx, x> = <dw, w> does not hold.
    """
    size, output = (
        tuple(labelled + whole - r for whole, r in zip(net.receptive_field, place.extent))
        for place in (node.sources[0], node.output)
    )
    k, channels, *kernel = node.weights_shape
    shapes = (1, k, *output), (1, channels, *size), node.weights_shape
    error, x, weights = (rng.standard_normal(shape, np.float32) for shape in shapes)
    dilation = dense_window(node.window, node.sources[0].spacing).dilation
    convolution, moves = get_backend("cpu").convolution, {"dilation": dilation}
    calls = (
        lambda: convolution.forward(x, weights, **moves),
        lambda: convolution.gradient_input(error, weights, size, **moves),
        lambda: convolution.gradient_weights(x, error, tuple(kernel), **moves),
    )
    made = [call().astype(float) for call in calls]
    sums = [np.vdot(one, other.astype(float)) for one, other in zip(made, (error, x, weights))]
    if not np.ptp(sums) <= 1e-5 * np.linalg.norm(made[0]) * np.linalg.norm(error):
        raise NotEqual(f"{node.name} of {net} is wrong: its sums are {sums}")
    return x.nbytes + error.nbytes, dict(zip(DIRECTIONS, calls))


def _seconds(call):
    started = time.process_time()
    call()
    return time.process_time() - started


def _blas() -> str | None:
    """What OpenBLAS calls the kernels that NumPy multiplies with; None for another BLAS."""
    numpy = ctypes.CDLL(np._core._multiarray_umath.__file__)  # finds what it is linked with, too
    for name in ("scipy_openblas_get_corename64_", "openblas_get_corename"):
        if hasattr(numpy, name):
            getattr(numpy, name).restype = ctypes.c_char_p
            return getattr(numpy, name)().decode()
    return None


def missed(rows: list[dict], direction: str) -> list[dict]:
    """Those of the layers that do much of their net's work whose share is below the aim."""
    large = (row for row in rows if row["of_work"] >= LARGE and row["direction"] == direction)
    return [row for row in large if row["share"] < AIM]


def table(rows: list[dict]) -> str:
    """What misses the aim, and the Markdown tables of the layers with much work and of the rest."""
    by_layer = {}
    for row in rows:
        by_layer.setdefault((row["net"], row["layer"]), {})[row["direction"]] = row
    large, rest = [], []
    for place, of_layer in by_layer.items():
        row = of_layer[DIRECTIONS[0]]
        work, channels = f"{row['of_work']:.1%}", f"{row['channels']} -> {row['filters']}"
        cells = [*place, work, f"{row['window']}, {row['d']}", channels]
        is_large = row["of_work"] >= LARGE
        cells += [_cell(of_layer[direction], is_large) for direction in DIRECTIONS]
        (large if is_large else rest).append(f"| {' | '.join(cells)} |")
    heads = ["net", "layer", "of work", "window, d", "channels", *DIRECTIONS]
    head = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines = [f"* {_verdict(rows, direction)}" for direction in DIRECTIONS]
    lines += [f"* {_product(rows)}", f"* Labelled pixels: {_sizes(rows)}."]
    lines += ["", f"With at least {LARGE:.0%} of their net's multiply-adds:", "", *head, *large]
    lines += ["", "All others; GB/s are of the maps that are read and written:", "", *head, *rest]
    few = f"`†`: fewer than {ROUNDS} rounds fitted into {LONGEST:.0f} seconds."
    return "\n".join([*lines, "", few])


def _verdict(rows, direction):
    below = [f"{row['net']} {row['layer']} {row['share']:.3f}" for row in missed(rows, direction)]
    said = f"below {AIM} on {', '.join(below)}" if below else f"nowhere below {AIM}"
    return f"{direction.capitalize()} of layers with at least {LARGE:.0%} of the work: {said}."


def _product(rows):
    rates = [2e-9 * row["side"] ** 3 / row["product_seconds"] for row in rows]
    side, blas = rows[0]["side"], rows[0]["blas"]
    by = f"OpenBLAS's kernels {blas}" if blas else "another BLAS than OpenBLAS"
    return f"The product, {side} x {side} by {by}: {min(rates):.0f} to {max(rates):.0f} GFLOP/s."


def _sizes(rows):
    nets = {}
    for row in rows:
        nets.setdefault(row["labelled"], {})[row["net"]] = True
    return "; ".join(f"{size} x {size} of {', '.join(of)}" for size, of in nets.items())


def _cell(row, is_large):
    share = f"{row['share']:.3f}{mark(row)}"
    share = f"**{share}**" if is_large and row["share"] < AIM else share
    rate = "" if is_large else f"; {1e-9 * row['bytes'] / row['seconds']:.1f} GB/s"
    return f"{share} ({row['share_p20']:.3f} to {row['share_p80']:.3f}){rate}"


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "Each layer of the nets on one thread of the host, beside a matrix product on the same "
        "thread: the useful multiply-adds of a second, as a share of the product's. Layers with "
        f"at least {LARGE:.0%} of their net's multiply-adds aim at {AIM}.\n\n"
        "The dense form, float32. The product is NumPy's, with the same instructions. Time of the "
        "processor in interleaved rounds in one process; the median of the rounds' shares, and "
        "their p20 to p80. The input gradient of a first layer, which no net computes, is measured "
        "all the same. The three results on the timed arrays were checked against one another."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> None:
    """None: the table is enough."""


if __name__ == "__main__":
    print(json.dumps(_measured(json.loads(sys.argv[1]))))
