"""Tiles of the weight gradient stay in registers, whatever their shape.

What the compiler moves to memory and back shows in no result, but takes up to twice the time.
"""

import platform
import re

import numba
import pytest
from numba import types

from kernels.convolution import cpu_gradient_weights
from kernels.host import simd
from kernels.host.compilation import inlined
from kernels.host.simd import CHANNEL_COLUMNS

FMA = re.compile(r"\bvfmadd\w+\b.*%[xyz]mm")
KEPT_ON_THE_STACK = re.compile(r"\bvmov\w+\s+%[xyz]mm\d+, .*\(%rsp\)")


def blocks(vectors, dtype):
    """The basic blocks of machine code that multiply and add, of the loop for such tiles."""
    loop, array = inlined(cpu_gradient_weights._loop(vectors)), dtype[::1]

    @numba.njit(error_model="numpy")
    def run(partial, to, pitch, rows, errors, source, pixels, taps, lanes):
        loop((partial, to, pitch), rows, errors, source, pixels, taps, lanes)

    places = types.int64[::1]
    run.compile((array, *[types.int64] * 3, array, array, places, places, types.int64))
    (code,) = run.inspect_asm().values()
    return [block for block in re.split(r"^\.L\w+:", code, flags=re.MULTILINE) if FMA.search(block)]


@pytest.mark.cpu
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads code of x86")
@pytest.mark.parametrize("dtype", [types.float32, types.float64], ids=str)
@pytest.mark.parametrize("vectors", range(1, len(CHANNEL_COLUMNS) + 1))
def test_a_step_moves_no_sum_to_memory(vectors, dtype):
    found = blocks(vectors, dtype)
    steps = [len(FMA.findall(block)) / (vectors * CHANNEL_COLUMNS[vectors - 1]) for block in found]
    assert steps
    assert all(step >= 1 and step == int(step) for step in steps)
    assert not any(KEPT_ON_THE_STACK.search(block) for block in found)


def test_tiles_of_channels_fit_the_registers():
    """Beside the sums the fewer of both, vectors or numbers, and one of the others."""
    for vectors, columns in enumerate(CHANNEL_COLUMNS, 1):
        assert vectors * columns + min(vectors, columns) + 1 <= simd.REGISTERS
