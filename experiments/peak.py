"""Peak memory of a forward pass, and of one forward and backward, in a process of their own.

On the host the operating system tells (VmHWM of /proc, reset before the pass, less what the process
held before it); on a GPU the allocators do: the largest sum of live arrays, or PyTorch's own count.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PASSES = ("forward", "forward + backward")


def peak_memory(job: dict) -> dict:
    """``peak_bytes`` and ``peak_method`` by pass, without what net and image take at rest.

    Args:
        job: ``net`` (see ``nets.prepared``), ``way`` (of ``ways``), ``labelled`` rows and columns,
            ``backend``, ``seed``, ``batch`` (patches at once, for scanning).

    Returns:
        for each of ``PASSES`` a dict; ``peak_bytes`` is None where the system does not tell, and
        ``peak_method`` then says why.

    Raises:
        RuntimeError: the process failed.
    """
    command = [sys.executable, "-m", "experiments.peak", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {job} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _measured(job) -> dict:
    from experiments import ways
    from experiments.nets import prepared
    from experiments.photographs import astronaut

    net = prepared(job["net"], seed=job["seed"], backend=job["backend"])
    size = job["labelled"]

    def case(labelled):
        image = astronaut(net.channels, tuple(labelled + p - 1 for p in net.patch), net.dtype)
        error = np.zeros((net.output.channels, labelled, labelled), net.dtype)
        if job["way"] == ways.SCANNING:
            pixels = np.stack(np.unravel_index(np.arange(job["batch"]), (labelled, labelled)), 1)
            return image, error, ways.Sample(net, pixels, job["batch"])
        return image, error, ways.way(job["way"], net)

    whole = case(size)
    image, error, way = whole if job["way"] == ways.SCANNING else case(2)
    way.gradients(image, error)  # code and workspaces come first
    image, error, way = whole
    calls = {"forward": lambda: way.forward(image)}
    calls["forward + backward"] = lambda: way.gradients(image, error)
    meter = _meter(job["backend"], job["way"] in ways.TORCH)
    peaks = {}
    for name in PASSES:
        gc.collect()
        meter.start()
        calls[name]()
        peaks[name] = {"peak_bytes": meter.peak(), "peak_method": meter.method}
    return peaks


def _meter(backend, torch):
    if backend == "cuda":
        return _TorchAllocator() if torch else _Allocator()
    return _HighWater() if _HighWater.works() else _Unknown()


class _Unknown:
    """No Linux: nobody tells."""

    method = "not measured: /proc has no VmHWM to reset"

    def start(self):
        pass

    def peak(self):
        return None


class _HighWater:
    """Linux: the largest resident set since the start, less the resident set at the start."""

    method = "VmHWM of a process of its own, less VmRSS before the pass"
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    @classmethod
    def works(cls):
        try:
            cls.reset.write_text("5")
            return "VmHWM" in cls.status.read_text()
        except OSError:
            return False

    def start(self):
        with contextlib.suppress(AttributeError):  # a C library that keeps nothing back
            ctypes.CDLL(None).malloc_trim(0)
        self.reset.write_text("5")
        self.before = self._read("VmRSS")

    def peak(self):
        return self._read("VmHWM") - self.before

    def _read(self, field):
        (line,) = (s for s in self.status.read_text().splitlines() if s.startswith(field + ":"))
        return 1024 * int(line.split()[1])


class _Allocator:
    """Arrays on the GPU: counts what ``kernels.memory`` hands out until it is dropped."""

    method = "largest sum of live arrays that the pass allocated on the GPU"

    def __init__(self):
        from kernels.memory import cuda as memory

        self.now = 0
        for name in ("empty", "to_device"):
            setattr(memory, name, self._counted(getattr(memory, name)))

    def start(self):
        self.before = self.most = self.now

    def peak(self):
        return self.most - self.before

    def _counted(self, allocate):
        def counted(*arguments):
            array = allocate(*arguments)
            self._add(array.nbytes)
            weakref.finalize(array.gpu_data, self._add, -array.nbytes)
            return array

        return counted

    def _add(self, size):
        self.now += size
        self.most = max(self.most, self.now)


class _TorchAllocator:
    """PyTorch on the GPU: its own count."""

    method = "torch.cuda.max_memory_allocated, less what was allocated before the pass"

    def start(self):
        import torch

        torch.cuda.reset_peak_memory_stats()
        self.torch, self.before = torch, torch.cuda.memory_allocated()

    def peak(self):
        return self.torch.cuda.max_memory_allocated() - self.before


if __name__ == "__main__":
    print(json.dumps(_measured(json.loads(sys.argv[1]))))
