"""What the profiler knows of devices: limits, peaks, and what it does without them."""

from unittest.mock import Mock

import pytest

from experiments.profiling import calls, facts, tables, timed
from experiments.profiling.asked import FactSources
from experiments.profiling.devices import DEVICES, LIMITS, resident_blocks
from experiments.profiling.operators import OperatorCase
from kernels.device import api

CONVOLUTION = OperatorCase("convolution.forward", (1, 8, 20, 150), 48, (3, 3), (1, 1), (2, 2))


@pytest.mark.parametrize(
    ("capability", "threads", "registers", "shared", "blocks"),
    [
        ((8, 0), 256, 32, 0, 8),  # threads
        ((8, 0), 32, 32, 0, 32),  # blocks
        ((8, 0), 256, 128, 0, 2),  # registers
        ((8, 0), 256, 129, 0, 1),
        ((8, 0), 128, 32, 48 * 1024, 3),  # shared memory, 1 KB more for each block
        ((7, 5), 128, 32, 16 * 1024, 4),
        ((9, 0), 96, 168, 0, 4),  # whole groups of 4 warps: 12 of them
        ((3, 5), 64, 32, 0, 16),
        ((6, 1), 128, 32, 16 * 1024, 6),
        ((8, 7), 256, 32, 40 * 1024, 4),
        ((10, 0), 256, 32, 0, 8),
        ((11, 0), 32, 32, 0, 24),
        ((12, 0), 256, 32, 0, 6),
    ],
)
def test_resident_blocks(capability, threads, registers, shared, blocks):
    assert resident_blocks(LIMITS[capability], threads, registers, shared) == blocks


def test_every_capability_that_the_compilers_name_has_its_limits():
    nvrtc = pytest.importorskip("numba.cuda.cudadrv.nvrtc")
    try:
        named = nvrtc.get_supported_ccs()
    except Exception as error:
        pytest.skip(f"no compiler is installed: {error}")
    of_cuda_12 = {(5, 0), (6, 0), (6, 1), (7, 0), (8, 7), (10, 0), (10, 1), (12, 0), (12, 1)}
    assert {*named, *of_cuda_12} <= LIMITS.keys()


def test_an_unknown_capability_loses_its_roofline_and_nothing_else(monkeypatch):
    """On a device that came after the table."""
    assert (99, 0) not in LIMITS
    device = Mock(compute_capability=(99, 0))
    monkeypatch.setattr(timed, "cuda", Mock(get_current_device=lambda: device))
    monkeypatch.setattr(api, "device_name", lambda: "a new device")
    monkeypatch.setattr(timed, "time", lambda call: timed.Time(2e-3, 1e-3, 3e-3, 20))
    common = {"net": "", "form": "", "size": ""}
    rows = facts.profile([(common, [calls.of_case(CONVOLUTION)])], FactSources(("timed",), [], []))
    (row,) = rows
    assert row["GFLOP/s"] == 2e-9 * row["multiply_adds"] / 2e-3
    missing = dict.fromkeys(tables.COLUMNS)
    row |= {"direction": None}  # as it is stored
    assert "its roofline is not known" in tables.table([missing | row])
    assert tables.figure([missing | row], {}, {}) is not None


def test_peaks_are_the_published_ones():
    published = {"K40": 5.04, "V100": 15.7, "A100": 19.5, "H100": 66.9, "RTX4090": 82.6}
    for name, teraflops in published.items():
        assert DEVICES[name].peak / 1e12 == pytest.approx(teraflops, rel=0.005)
