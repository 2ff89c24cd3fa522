"""The machine code of the host's max pooling: it compares vectors, on every CPU.

What the compiler does where a loop does not become vector code shows in no result. The code is that
of a process in which Numba compiles for the CPU that its own variables name.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding
import numpy as np
import pytest

from kernels.host.vectors import BYTES
from kernels.listed_max_pooling import cpu as listed_max_pooling
from kernels.max_pooling import cpu as max_pooling
from kernels.max_pooling import cpu_joins, cpu_strided

ROOT = Path(__file__).parents[2]
AVX2, AVX512 = "+avx,+avx2,+fma", "+avx512f,+avx512dq,+avx512bw,+avx512vl"
CPUS = {
    "AVX2": ("haswell", AVX2, "ymm"),
    "AVX-512": ("skylake-avx512", f"{AVX2},{AVX512}", "zmm"),
}
INSTRUCTION = re.compile(r"^\s+(v?u?com?is[sd]|v?cmp\w*[ps][sd])\s+(.*)$", re.MULTILINE)


def comparisons(dtype):
    """(name, operands) of each comparison of numbers, for each loop of the pooling."""
    x = np.zeros((1, 1, 20, 40), dtype)
    for kernel in ((2, 2), (4, 4), (10, 11)):
        for argmax in (True, False):
            max_pooling.forward(x, kernel, argmax=argmax)
            max_pooling.forward(x, kernel, stride=2, argmax=argmax)
    channels, rows = 2 * BYTES // x.itemsize, np.array([[0, 2], [1, 3]], np.int32)
    for argmax in (True, False):
        cells = np.zeros((5, channels, 1, 1), dtype)
        listed_max_pooling.forward(cells, rows, (2, 2), argmax=argmax)
    loops = cpu_joins._join, cpu_strided._fill_run, listed_max_pooling._by_vectors
    codes = ["\n".join(loop.inspect_asm().values()) for loop in loops]
    return [INSTRUCTION.findall(code) for code in codes]


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("AVX2", "float32"),
        ("AVX-512", "float64"),
        pytest.param("AVX2", "float64", marks=pytest.mark.long),
        pytest.param("AVX-512", "float32", marks=pytest.mark.long),
    ],
)
def test_maxima_compare_whole_vectors(name, dtype, tmp_path):
    cpu, features, register = CPUS[name]
    host = llvmlite.binding.get_host_cpu_features()
    missing = [f for f in features.replace("+", "").split(",") if not host.get(f)]
    if missing:
        pytest.skip(f"this CPU has no {', '.join(missing)}")
    environment = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    environment |= {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, dtype]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    loops = json.loads(done.stdout.splitlines()[-1])
    assert all(len(found) >= 4 for found in loops), [*map(len, loops)]
    assert sum(map(len, loops)) >= 20
    for instruction, operands in [comparison for found in loops for comparison in found]:
        assert re.search(r"ps$" if dtype == "float32" else r"pd$", instruction), instruction
        assert register in operands, (instruction, operands)


if __name__ == "__main__":
    print(json.dumps(comparisons(sys.argv[1])))
