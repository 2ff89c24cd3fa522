"""The record of a run: when, with which code and versions, on which machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from experiments.storing.instructions import held_to_avx2

GENERATED = ("results", "README.md", "docs/published.md", "docs/reproduction.md")
"""What ``report`` writes: not code, so that a change of it does not count."""
DETERMINING = (*("backend", "cpu", "gpu", "driver", "tiles", "threads", "python", "versions"),)
"""The fields of a record that what is measured depends on, beside the code."""
PACKAGES = ("numba", "numba-cuda", "llvmlite", "numpy", "scikit-image", "matplotlib", "torch")


def described(backend) -> dict:
    """The record of a run: time, commit, versions, machine, command.

    A processor that is held to AVX2 counts as another one.

    Raises:
        ValueError: only a part of what is compared is held to it.
    """
    import numba

    return {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(
            _git("status", "--porcelain", "--", ".", *(f":!{path}" for path in GENERATED))
        ),
        "backend": backend.name,
        "cpu": processor_name() + ", AVX2 alone" * held_to_avx2(),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        **_of_gpu(backend),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
        "system": f"{platform.system()} {platform.machine()}",
        "command": " ".join(["python -m experiments", *sys.argv[1:]]),
    }


def slug(record: dict) -> str:
    """The folder of a machine and its backend, such as ``"intel-xeon-processor-2-cores-cpu"``."""
    name = record["gpu"] or f"{record['cpu']} {record['cores']} cores"
    words = re.sub(r"\((r|tm)\)", " ", f"{name} {record['backend']}".lower())
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def processor_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """The name of the processor, with its family and model where they are known: on a virtual
    machine, several generations of processors may have one name."""
    first = info.read_text().split("\n\n")[0] if info.exists() else ""
    fields = dict(re.findall(r"^(.*?)\s*:\s*(.*?)$", first, re.MULTILINE))
    name = fields.get("model name") or platform.processor() or "unknown"
    if {"cpu family", "model"} <= fields.keys():
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def _of_gpu(backend) -> dict:
    """Its name, its driver, and the digest of the tiles that were measured on it."""
    if backend.name != "cuda":
        return dict.fromkeys(("gpu", "driver", "tiles"))
    from kernels.convolution.cuda_tiles_measured import files_digest
    from kernels.device.api import device_name, driver_version

    return {"gpu": device_name(), "driver": driver_version(), "tiles": files_digest()}


def _installed(name):
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _git(*arguments) -> str | None:
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
