"""Peak memory of a forward pass, and of one forward and backward, in a process of their own.

On the host it is the operating system's figure: VmHWM of /proc, reset before the pass, less what
the process held before. On a GPU it is the allocators': the largest sum of live arrays, or
PyTorch's own count. The same pass ran once before, so that no code is loaded, or compiled, in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import numpy as np

from experiments.inputs.nets import prepared
from experiments.inputs.photographs import astronaut
from experiments.inputs.strokes import chosen_pixels
from experiments.measuring import runners
from kernels import get_backend
from kernels.memory import cpu as memory

ROOT = Path(__file__).parents[2]
PASSES = ("forward", "forward + backward")
PEAK = {"peak_bytes": int | None, "peak_method": str | None}
"""The columns of ``peak_memory``, and their kinds."""


def peak_memory(job: dict) -> dict:
    """``peak_bytes`` and ``peak_method`` by pass, without the memory that net and image take.

    Args:
        job: ``net`` (see ``nets.prepared``), ``runner`` (its name), ``labelled`` rows and columns,
            ``backend``, ``seed``, ``batch`` (patches in a batch, for scanning).

    Returns:
        for each of ``PASSES`` a dict; where the system has no such figure, ``peak_bytes`` is None
        and ``peak_method`` says why.

    Raises:
        RuntimeError: the process failed.
    """
    return _in_a_process(job)


def masked_peaks(job: dict, cases: list[tuple[str, int]]) -> dict[tuple[str, int], dict]:
    """As ``peak_memory`` with a runner of chosen pixels (``runners.OF_CHOSEN``), for each (how
    pixels are drawn, how many) of ``cases``, fewest first."""
    cases = sorted(cases, key=lambda case: case[1])
    return dict(zip(cases, _in_a_process(job | {"cases": cases})))


def _in_a_process(job):
    if job["backend"] == "cuda":
        get_backend("cuda").memory.release()  # to the process: it has the device beside this one
    command = [sys.executable, "-m", "experiments.measuring.peak", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {job} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _measured(job) -> dict | list[dict]:
    net = prepared(job["net"], seed=job["seed"], backend=job["backend"])
    size = job["labelled"]
    image = astronaut(net.channels, tuple(size + p - 1 for p in net.patch), net.dtype)
    error = np.zeros((net.output.channels, size, size), net.dtype)
    meter = _meter(job["backend"], job["runner"] in runners.TORCH)
    peaks = [_peaks(meter, image, error, made) for made in _makers(job, net)]
    return peaks if "cases" in job else peaks[0]


def _makers(job, net):
    """For each case a function that makes its runner."""
    name, shape = job["runner"], (job["labelled"], job["labelled"])
    if name in runners.OF_CHOSEN:
        for drawn, number in job["cases"]:
            mask = np.zeros(shape, bool)
            mask[*chosen_pixels(drawn, shape, number, job["seed"]).T] = True
            yield partial(runners.OF_CHOSEN[name], net, mask)
    elif name == runners.SCANNING:
        pixels = np.stack(np.unravel_index(np.arange(job["batch"]), shape), axis=1)
        yield partial(runners.SampledScan, net, pixels, job["batch"])
    else:
        yield partial(runners.runner, name, net)


def _peaks(meter, image, error, made):
    calls = {
        "forward": lambda runner: runner.forward(image),
        "forward + backward": lambda runner: runner.gradients(image, error),
    }
    peaks = {}
    for name in PASSES:
        calls[name](made())  # loads compiled code, or compiles it
        runner = made()
        meter.reset()
        calls[name](runner)
        peaks[name] = {"peak_bytes": meter.peak(), "peak_method": meter.method}
    return peaks


def _meter(backend, torch):
    if backend == "cuda":
        return _TorchAllocator() if torch else _Allocator()
    return _HighWater() if _HighWater.works() else _Unknown()


class _Unknown:
    """Not Linux: there is no such figure."""

    method = "not measured: /proc has no VmHWM to reset"

    def reset(self):
        pass

    def peak(self):
        return None


class _HighWater:
    """Linux: the largest resident set since ``reset``, less the resident set at ``reset``.

    What earlier passes left to the allocators, the host's and the C library's, is returned first.
    """

    method = "VmHWM of a process of its own, less its VmRSS before the pass"
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    @classmethod
    def works(cls):
        try:
            cls.clear.write_text("5")
            return "VmHWM" in cls.status.read_text()
        except OSError:
            return False

    def reset(self):
        self._release()
        self.before = self._read("VmRSS")
        self.clear.write_text("5")

    def _release(self):
        gc.collect()
        memory.release()
        with contextlib.suppress(AttributeError):  # not every C library has it
            ctypes.CDLL(None).malloc_trim(0)

    def peak(self):
        return self._read("VmHWM") - self.before

    def _read(self, field):
        (line,) = (s for s in self.status.read_text().splitlines() if s.startswith(field + ":"))
        return 1024 * int(line.split()[1])


class _Allocator:
    """Arrays on the GPU: counts what ``kernels`` allocates until it is freed."""

    method = "largest sum of live arrays that the pass allocated on the GPU"

    def __init__(self):
        from kernels.device import launching

        self.now = self.most = 0
        launching.allocate = self._counted(launching.allocate)

    def reset(self):
        self.before = self.most = self.now

    def peak(self):
        return self.most - self.before

    def _counted(self, allocate):
        def counted(*arguments):
            array = allocate(*arguments)
            self._add(array.nbytes)
            # Views share the memory: it may outlive the array that was allocated
            weakref.finalize(array.gpu_data.owner, self._add, -array.nbytes)
            return array

        return counted

    def _add(self, size):
        self.now += size
        self.most = max(self.most, self.now)


class _TorchAllocator:
    """PyTorch on the GPU: its own count."""

    method = "torch.cuda.max_memory_allocated, less what was allocated before the pass"

    def __init__(self):
        import torch

        self.cuda = torch.cuda

    def reset(self):
        self.before = self.cuda.memory_allocated()
        self.cuda.reset_peak_memory_stats()

    def peak(self):
        return self.cuda.max_memory_allocated() - self.before


if __name__ == "__main__":
    print(json.dumps(_measured(json.loads(sys.argv[1]))))
