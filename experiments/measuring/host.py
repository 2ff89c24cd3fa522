"""The host's time for a pass on a GPU, its own CPU time, with a device that does nothing.

In a process of its own: while the device stands in, there is no other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from experiments.measuring.timing import spread
from net import zoo
from net.program import Program

ROUNDS, QUICK_ROUNDS = 300, 5
COUNTED = ("prepared", "launches", "allocations", "allocated")
"""See ``kernels.device.stand_in``; of a pass on arrays of shapes that came before."""
DIRECTIONS = ("forward", "forward + backward")


def measured(net: str, labelled: int, quick: bool) -> list[dict]:
    """A row for each direction of a net's dense form on an image.

    Raises:
        RuntimeError: the process failed; the message ends with its standard error.
    """
    rounds = QUICK_ROUNDS if quick else ROUNDS
    command = [sys.executable, "-m", "experiments.measuring.host", net, str(labelled), str(rounds)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise RuntimeError(f"measuring the host's time failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def passes(name: str, labelled: int) -> dict:
    """Functions without arguments that run the net's dense form, by direction; within
    ``stand_in``."""
    from kernels.backends import Backend

    net = zoo.build(name, backend="cpu")
    net.backend = ops = Backend("cuda")
    for arrays in (net.parameters, net.statistics):
        arrays |= {key: ops.memory.empty(a.shape, a.dtype) for key, a in arrays.items()}
    program = Program(net, "dense")
    size = (labelled + field - 1 for field in net.receptive_field)
    x = ops.memory.empty((1, net.channels, *size), net.dtype)
    scores = program.forward(x)
    error = ops.memory.empty(scores.shape, scores.dtype)

    def both():
        program.backward(program.forward(x, keep=True)[1], error)

    return dict(zip(DIRECTIONS, (lambda: program.forward(x), both)))


def _measured(name, labelled, rounds):
    from kernels.device.stand_in import stand_in

    with stand_in() as counts:
        runs = passes(name, labelled)
        return [_row(direction, run, counts, rounds) for direction, run in runs.items()]


def _row(direction, run, counts, rounds):
    run()
    counts.clear()
    run()
    row = {"direction": direction} | {name: counts[name] for name in COUNTED}
    seconds = []
    for _ in range(rounds):
        started = time.thread_time()  # other work on the machine does not count
        run()
        seconds.append(time.thread_time() - started)
    return row | spread(np.array(seconds))


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1], *map(int, sys.argv[2:]))))
