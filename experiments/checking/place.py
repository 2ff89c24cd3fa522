"""Where the checks run: device, driver, compiler, versions."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from experiments.storing import machine

COMPILERS = {
    "nvvm": ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12"),
    "nvJitLink": ("nvidia-nvjitlink", "nvidia-nvjitlink-cu12"),
    "nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
}
"""What Numba compiles and links with: the packages that bring it for CUDA 13 and for CUDA 12."""


def found(ops) -> Iterator[str]:
    """A line on each thing that the results depend on.

    Args:
        ops: a backend.
    """
    record = machine.described(ops)
    if ops.name == "cuda":
        yield from _device(record)
        yield compilers()
    else:
        yield f"{record['cpu']}, {record['threads']} threads"
    yield f"Python {record['python']}, " + ", ".join(
        f"{name} {version}" for name, version in record["versions"].items()
    )
    yield f"commit {record['commit']}" + " with uncommitted changes" * record["dirty"]


def compilers() -> str:
    """The versions of the CUDA compilers' libraries, as far as pip knows them."""
    return ", ".join(
        f"{name} {next(filter(None, map(_version, packages)), 'not from pip')}"
        for name, packages in COMPILERS.items()
    )


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device(record):
    from experiments.profiling.devices import LIMITS
    from kernels.device.api import cuda

    device = cuda.get_current_device()
    capability = device.compute_capability
    free, total = cuda.current_context().get_memory_info()
    known = "" if capability in LIMITS else ", which has no roofline here"
    yield f"{record['gpu']}, compute capability {capability[0]}.{capability[1]}{known}"
    yield f"driver {record['driver']}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    yield f"measured tiles: {record['tiles'] or 'none, a cost model chooses (experiments tune)'}"
