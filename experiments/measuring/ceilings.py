"""The ceilings of this machine: the rates of a large matrix product and of a large copy.

They are measured in a process of its own, in which BLAS picks its kernels for this processor:
variables that force others (``OPENBLAS_CORETYPE``, ``OPENBLAS_L2_SIZE``) are unset.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORCING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
SIDE, WORDS = 3072, 2**26
"""Rows and columns of the matrices; float32 words of the copied array."""
TIMES = 7


def ceilings(backend: str, threads: int, quick: bool) -> dict:
    """Measure ``gflops`` and ``gbytes``, both 1e9 a second; ``method`` says how.

    A flop is one multiplication or one addition; bytes are those read and those written. Each is
    the best of ``TIMES`` runs. On ``cuda`` the product is PyTorch's: None without it. ``quick``
    takes a sixteenth of the memory.

    Raises:
        RuntimeError: the process failed.
    """
    environment = {k: v for k, v in os.environ.items() if k not in FORCING}
    environment |= {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "experiments.measuring.ceilings", backend, str(threads)]
    command += ["quick"] if quick else []
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the ceilings failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _on_host(threads, side, words) -> dict:
    import numpy as np

    a, b = (np.random.default_rng(i).random((side, side), np.float32) for i in (0, 1))
    c = np.empty_like(a)
    source, target = np.ones(words, np.float32), np.zeros(words, np.float32)
    with ThreadPoolExecutor(threads) as workers:
        copy = copying(workers, threads, source, target)
        return {
            "gflops": 2e-9 * side**3 / _best(lambda: np.matmul(a, b, out=c)),
            "gbytes": 2e-9 * source.nbytes / _best(copy),
            "method": f"{side} x {side} float32 product by NumPy's BLAS, copy of "
            f"{source.nbytes / 1e6:.0f} MB, {threads} threads, best of {TIMES}",
        }


def copying(workers: ThreadPoolExecutor, threads: int, source, target) -> Callable:
    """A call that copies a flat array, with each thread a part of it."""
    import numpy as np

    ends = [len(source) * i // threads for i in range(threads + 1)]
    parts = [slice(*between) for between in pairwise(ends)]
    return lambda: list(workers.map(lambda part: np.copyto(target[part], source[part]), parts))


def _on_gpu(side, words) -> dict:
    from experiments.measuring.torch_layers import why_unavailable
    from kernels import get_backend

    memory = get_backend("cuda").memory
    source, target = memory.zeros(4 * words, "float32"), memory.zeros(4 * words, "float32")

    def copy():
        target.copy_to_device(source)
        memory.synchronize()

    gbytes = 2e-9 * 16 * words / _best(copy)
    method = f"copy of {16 * words / 1e6:.0f} MB on the device, best of {TIMES}"
    reason = why_unavailable("cuda")
    if reason:
        return {"gflops": None, "gbytes": gbytes, "method": f"no product: {reason}; {method}"}
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.rand(4 * side, 4 * side, device="cuda") for _ in range(2))

    def product():
        a @ b
        torch.cuda.synchronize()

    gflops = 2e-9 * (4 * side) ** 3 / _best(product)
    method = f"{4 * side} x {4 * side} float32 product by PyTorch without TF32, {method}"
    return {"gflops": gflops, "gbytes": gbytes, "method": method}


def _best(call):
    call()
    seconds = []
    for _ in range(TIMES):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    place, count, *quick = sys.argv[1:]
    sizes = (SIDE // 4, WORDS // 16) if quick else (SIDE, WORDS)
    print(json.dumps(_on_gpu(*sizes) if place == "cuda" else _on_host(int(count), *sizes)))
