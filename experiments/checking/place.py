"""Where the checks run: device, driver, compiler, versions."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.storing import machine


def found(ops) -> Iterator[str]:
    """A line on each thing that the results depend on.

    Args:
        ops: a backend.
    """
    record = machine.described(ops)
    if ops.name == "cuda":
        yield from _device(record)
    else:
        yield f"{record['cpu']}, {record['threads']} threads"
    yield f"Python {record['python']}, " + ", ".join(
        f"{name} {version}" for name, version in record["versions"].items()
    )
    yield f"commit {record['commit']}" + " with uncommitted changes" * record["dirty"]


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
