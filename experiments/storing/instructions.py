"""The instructions that are measured: those of the processor, or AVX2 alone where it has AVX-512.

Most machines have AVX2 and no more. On a processor with AVX-512, both sides of a comparison can be
held to AVX2 by their own variables, which they read once, when their process starts.
"""

from __future__ import annotations

import importlib.util
import os

AVX2 = {
    # Numba's LLVM, the kernels of PyTorch itself, its oneDNN and its MKL
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    # torch.compile would take code from its cache that it made for AVX-512, and give wrong scores
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
}
"""The variables that hold a process to AVX2."""


def narrower() -> dict | None:
    """The environment in which the same command measures AVX2; None where that is measured anyway,
    or nothing but it could be."""
    import llvmlite.binding

    from kernels.host.simd import VECTOR_BYTES

    has_more = llvmlite.binding.get_host_cpu_features().get("avx512f")
    return os.environ | AVX2 if has_more and VECTOR_BYTES == 64 else None


def held_to_avx2() -> bool:
    """Whether this process is held to AVX2 on a processor that has AVX-512.

    Raises:
        ValueError: only Numba is, or only PyTorch.
    """
    import llvmlite.binding

    from kernels.host.simd import VECTOR_BYTES

    if not llvmlite.binding.get_host_cpu_features().get("avx512f"):
        return False
    sides = {"Numba": VECTOR_BYTES == 32, "oneDNN": os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2"}
    if any(sides.values()) and importlib.util.find_spec("torch"):
        import torch

        sides["PyTorch"] = torch.backends.cpu.get_cpu_capability() == "AVX2"
    if len(set(sides.values())) > 1:
        only = ", ".join(side for side, held in sides.items() if held)
        variables = " ".join(f"{name}={value}" for name, value in AVX2.items())
        raise ValueError(f"only {only} is held to AVX2; expected none, or all by {variables}")
    return sides["Numba"]
