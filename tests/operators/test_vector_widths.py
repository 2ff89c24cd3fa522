"""The host's convolutions compiled for CPUs with other vectors.

Scores and weight gradients are the same bits from every width; the input gradient may take its taps
in another order where another form of tiles suits the width. Numba's own variables name the CPU to
compile for; its cache tells CPUs apart by them.
"""

import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding
import numpy as np
import pytest

from kernels.convolution import cpu
from kernels.host.simd import VECTOR_BYTES
from tests.comparison import relative_difference

ROOT = Path(__file__).parents[2]
AVX2, AVX512 = "+avx,+avx2,+fma", "+avx512f,+avx512dq,+avx512bw,+avx512vl"
CPUS = {
    16: ("x86-64", "+sse4.2", ("float32", "float64")),  # and no fused multiply-add
    32: ("haswell", AVX2, ("float32",)),
    64: ("skylake-avx512", f"{AVX2},{AVX512}", ("float32",)),
}
"""By the bytes of a vector: name, features, and the dtypes that are compared."""
# (N, C, H, W), K, kernel, stride, dilation: narrower than a vector, wide, strided, one pixel, and
# rows that the last channels have in the lanes
CASES = [
    ((1, 1, 5, 3), 1, (2, 2), 1, 1),
    ((1, 3, 20, 70), 5, (2, 3), 1, (2, 1)),
    ((1, 5, 9, 131), 33, (1, 1), 1, 1),
    ((2, 4, 17, 19), 20, (3, 2), 2, 1),
    ((9, 6, 7, 8), 17, (3, 3), 1, 1),
    ((5, 6, 1, 1), 40, (1, 1), 1, 1),
    ((2, 3, 6, 75), 19, (3, 2), 1, (1, 5)),
    ((1, 13, 3, 66), 2, (1, 1), 1, 1),
]


def results(dtypes):
    """Every case forward and backward."""
    computed, rng = {}, np.random.default_rng(20141215)
    for i, (size, filters, kernel, stride, dilation) in enumerate(CASES):
        moves = {"stride": stride, "dilation": dilation}
        x = rng.standard_normal(size)
        weights = rng.standard_normal((filters, size[1], *kernel))
        for dtype in dtypes:
            a, w = x.astype(dtype), weights.astype(dtype)
            y = cpu.forward(a, w, **moves)
            error = np.cos(y, dtype=dtype) / 2
            computed[f"{i} {dtype} forward"] = y
            computed[f"{i} {dtype} input"] = cpu.gradient_input(error, w, size[2:], **moves)
            computed[f"{i} {dtype} weights"] = cpu.gradient_weights(a, error, kernel, **moves)
    return computed


@pytest.mark.cpu
@pytest.mark.parametrize("width", CPUS)
def test_same_bits(width, tmp_path):
    if width == VECTOR_BYTES:
        pytest.skip("the width of this process")
    cpu_name, features, dtypes = CPUS[width]
    host = llvmlite.binding.get_host_cpu_features()
    missing = [f for f in features.replace("+", "").split(",") if not host.get(f)]
    if missing:
        pytest.skip(f"this CPU has no {', '.join(missing)}")
    other = {"NUMBA_CPU_NAME": cpu_name, "NUMBA_CPU_FEATURES": features}
    cache = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, tmp_path / "results.npz", *dtypes]
    subprocess.run(command, env=os.environ | other | cache, check=True)
    with np.load(tmp_path / "results.npz") as computed:
        for case, expected in results(dtypes).items():
            if case.endswith("input"):
                limit = 1e-12 if "float64" in case else 1e-5
                assert relative_difference(computed[case], expected) <= limit, case
            else:
                np.testing.assert_array_equal(computed[case], expected, err_msg=case)


if __name__ == "__main__":
    np.savez(sys.argv[1], **results(sys.argv[2:]))
