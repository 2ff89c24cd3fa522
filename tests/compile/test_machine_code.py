"""The reader of machine code, on kernels whose code is known beforehand."""

import numpy as np
import pytest

from kernels.device import api, machine_code
from kernels.device.api import cuda, kernel, u32
from kernels.listed_max_pooling import cuda as listed_max_pooling
from kernels.max_pooling import cuda as max_pooling
from tests.compile import recording

MISSING = api.why_uncompilable()
pytestmark = [pytest.mark.compile, pytest.mark.skipif(bool(MISSING), reason=MISSING or "")]

f32 = np.float32


@kernel(64, 4)
def smoothed(x, y, count):
    """32 multiply-adds between two barriers; no other loop has any."""
    shared = cuda.shared.array(256, f32)
    thread = u32(cuda.threadIdx.x)
    sums = cuda.local.array(8, f32)
    for m in range(8):
        sums[m] = f32(0)
    at = thread
    left = u32(count)
    while left > u32(0):
        shared[u32(u32(4) * thread)] = x[at]
        cuda.syncthreads()
        for m in range(4):
            for n in range(8):
                sums[n] += shared[u32(thread + u32(m))] * shared[u32(u32(n) * u32(8))]
        cuda.syncthreads()
        at = u32(at + u32(64))
        left = u32(left - u32(1))
    for m in range(8):
        y[u32(thread + u32(m) * u32(64))] = sums[m]


@kernel(32)
def indexed_at_run_time(x, y, count):
    values = cuda.local.array(64, f32)
    m = u32(0)
    while m < u32(count):
        values[u32(m * m) % u32(64)] = x[m]
        m = u32(m + u32(1))
    y[u32(0)] = values[u32(u32(count) % u32(7))]


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=str)
def test_main_loop(capability):
    code = machine_code.read(smoothed, (np.empty(99, f32), np.empty(512, f32), 3), capability)
    times = code.main_loop["LDG 32"]  # that the compiler unrolled it
    assert 1 <= times <= 4
    assert code.main_loop["multiply-add"] == 32 * times
    assert code.main_loop["barrier"] == 2 * times
    assert code.main_loop["STS 32"] == times
    assert code.main_loop["STG 32"] == 0
    assert code.instructions["STG 32"] >= 8
    assert code.multiply_add_share == 32 * times / sum(code.main_loop.values())
    assert 16 <= code.registers <= 128
    assert code.shared_bytes - 4 * 256 in (0, 1024)  # what the system reserves on 9.0
    assert code.local_bytes == 0
    assert code.barriers == 1


NESTED = """
.section\t.text.nested
.L_x_0:
        /*0000*/                   FFMA R0, R1, R2, R0 ;
.L_x_1:
        /*0010*/                   FFMA R0, R3, R4, R0 ;
        /*0020*/                   BAR.SYNC 0x0 ;
        /*0030*/              @!P0 CALL.REL.NOINC `(.L_x_2) ;
        /*0040*/                   BRA `(.L_x_1) ;
.L_x_2:
        /*0050*/                   FFMA R0, R5, R6, R0 ;
        /*0060*/                   BAR.SYNC 0x0 ;
        /*0070*/               @P1 BRA `(.L_x_0) ;
        /*0080*/                   EXIT ;
"""


def test_a_loop_that_a_call_leaves_lies_within_the_one_around_it():
    main_loop = machine_code.parse(NESTED).main_loop
    assert main_loop == {"multiply-add": 1, "barrier": 1, "branch": 2}


IN_TURNS = """
.section\t.text.in_turns
.L_x_0:
        /*0000*/                   IADD3 R1, R1, R2, RZ ;
.L_x_1:
        /*0010*/                   FFMA R0, R3, R4, R0 ;
        /*0020*/               @P0 BRA `(.L_x_1) ;
        /*0030*/                   BAR.SYNC 0x0 ;
        /*0040*/               @P1 BRA `(.L_x_0) ;
        /*0050*/                   EXIT ;
"""


def test_loops_within_the_main_loop_count_as_often_as_they_turn():
    code = machine_code.parse(IN_TURNS, turns=4)
    assert code.main_loop == {"integer": 1, "multiply-add": 4, "branch": 4 + 1, "barrier": 1}
    assert code.multiply_add_share == 4 / 11
    assert code.loop_bytes == 5 * 16


def test_local_memory():
    code = machine_code.read(indexed_at_run_time, (np.empty(99, f32), np.empty(9, f32), 3), (9, 0))
    assert code.local_bytes == 4 * 64
    assert code.instructions["local"] >= 2
    assert code.main_loop["local"] >= 1
    assert code.multiply_add_share == 0


def test_a_missing_disassembler_names_its_package(monkeypatch):
    monkeypatch.setattr(machine_code, "find_nvidia_binary_utility", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install nvidia-cuda-nvdisasm brings it"):
        machine_code.read(smoothed, (), (9, 0))


def maxima():
    """(kernel, arguments) of all that take maxima: strided, in strips, in stages, on lists."""
    rows = np.zeros((2, 9 + 270), np.int32)
    for argmax in (True, False):
        for dtype in (np.float32, np.float64):
            x = np.zeros((1, 1, 9, 30), dtype)
            for window, stride in ((2, 2), ((1, 2), 3), (2, 1), (5, 1)):
                options = {"stride": stride, "argmax": argmax}
                yield from recording.launches(max_pooling.forward, x, window, **options)
            listed = x.reshape(1, 1, 1, -1), rows, 2
            yield from recording.launches(listed_max_pooling.forward, *listed, argmax=argmax)


def test_maxima_are_selected():
    """FMNMX would give every NaN the same bits, those with an argmax keep them."""
    read = [machine_code.read(*launch, (9, 0)) for launch in maxima()]
    assert len(read) == 20
    assert not [code for code in read if "FMNMX" in code.text]
    assert all("FSEL" in code.text or "DSETP" in code.text for code in read)
