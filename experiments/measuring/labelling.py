"""Labelling region by region: its time beside that of one pass, and its memory under a limit."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments.measuring.timing import FEWEST, LONGEST, QUICKLY, interleaved, spread
from kernels.checks import Pair
from net.dense import Dense
from net.graph import Net
from net.large import layouts, plan
from net.large.labelling import LabellingPlan
from net.large.regions import Grid
from net.large.sinks import NpySink
from net.large.sources import Source, opened
from net.large.work import Labeller, Work
from net.layers import Convolution, FullyConnected, ReLU

ROOT = Path(__file__).parents[2]
SIDE = 20_000
"""Rows and columns of the image that regions are chosen for."""
QUICK_REGION = (64, 64)


def timed_regions(
    net: Net, memory: int, regions: Pair, seed: int, folder: Path, quick: bool
) -> dict:
    """Seconds of a pass over one region, and of runs of some of them from an ``.npy`` into another:
    as ``label`` does it, and with nothing at the same time; rounds of all alternate.

    Args:
        net: labels.
        memory: bytes, for which regions are chosen.
        regions: of a run, down and across.
        seed: of the image.
        folder: for files of a while.
        quick: regions of ``QUICK_REGION``, and rounds for ``QUICKLY``.
    """
    large = Source(
        np.broadcast_to(np.uint8(0), (net.channels, SIDE, SIDE)), (0, 1, 2), net.channels
    )
    layout = layouts.chosen(net, large, None, memory)
    region = QUICK_REGION if quick else layout.grid.region
    size = tuple(n * count for n, count in zip(region, regions))
    rng, dense = np.random.default_rng(seed), Dense(net, "valid")
    shape = (net.channels, *(n + p - 1 for n, p in zip(region, net.patch)))
    window = rng.normal(0, 1, shape).astype(net.dtype)
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        image = Path(inside, "image.npy")
        np.save(image, rng.integers(0, 256, (net.channels, *size), np.uint8))
        source, labeller = opened(image, net.channels, "first"), Labeller(net, "reflect", None)
        grid = Grid(size, region)
        legend = labeller.legend

        def of_work(name):
            sink = NpySink(Path(inside, name), size, legend.dtype, region, legend)
            return Work(labeller, grid, source, None, (sink,))

        def labelled():
            work = of_work("labels.npy")
            path = work.sinks[0].path
            LabellingPlan(work, layout, path, {}, 0).execute()
            for made in path.parent.glob("labels.*"):
                made.unlink()

        def one_by_one():
            work = of_work("alone.npy")
            (sink,) = work.sinks
            sink.create()
            for one in grid:
                work.write(one, work.label(one, work.take(one)))
            sink.path.unlink()

        jobs = {
            "pass": lambda: dense.forward(window),
            "labelled": labelled,
            "one_by_one": one_by_one,
        }
        for job in jobs.values():
            job()  # compiles
        jobs = {name: _clocked(job) for name, job in jobs.items()}
        seconds = interleaved(jobs, QUICKLY if quick else LONGEST, FEWEST, min_rounds=FEWEST)
    one = np.array(seconds["pass"]) * len(grid)
    row = {"rows": region[0], "columns": region[1], "wasted": layout.wasted}
    row |= spread(np.array(seconds["labelled"]))
    row |= {"share": float(np.median(one / seconds["labelled"]))}
    row |= {"share_one_by_one": float(np.median(one / seconds["one_by_one"]))}
    return row | {"labelled": size[0] * size[1]}


def _clocked(job):
    def seconds():
        started = time.perf_counter()
        job()
        return time.perf_counter() - started

    return seconds


def limited_run(side: int, memory: int, limit: int, folder: Path) -> dict:
    """How a process of its own labels an ``.npy`` of ``side`` x ``side`` pixels, all 0, with a tiny
    net, its memory limited by the system: the largest resident set, what the plan said, seconds.

    Args:
        memory: bytes that ``label`` is given.
        limit: bytes of memory that the system lets the process have (RLIMIT_DATA).
        folder: for files of a while.

    Raises:
        RuntimeError: the process failed.
    """
    job = json.dumps({"side": side, "memory": memory, "folder": str(folder.absolute())})
    command = [sys.executable, "-m", "experiments.measuring.labelling", job]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    if done.returncode:
        raise RuntimeError(f"labelling {side} x {side} pixels failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _limited(side, memory, folder):
    layers = [Convolution(2, 3), ReLU(), FullyConnected(2)]
    net = Net(layers, channels=1, patch=4, backend="cpu")
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        image = Path(inside, "image.npy")
        np.lib.format.open_memmap(image, "w+", np.uint8, (side, side)).flush()
        planned = plan(image, net, Path(inside, "labels.npy"), memory=memory)
        started = time.perf_counter()
        planned.execute()
        seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text().split()
    layout = planned.layout
    return {
        **dict(zip(("rows", "columns"), layout.grid.region)),
        **{"wasted": layout.wasted, "labelled": side * side, "seconds": seconds},
        "peak_bytes": 1024 * int(status[status.index("VmHWM:") + 1]),
    }


if __name__ == "__main__":
    print(json.dumps(_limited(**json.loads(sys.argv[1]))))
