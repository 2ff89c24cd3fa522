"""Specifications of devices, for occupancy and for the roofline model.

Sources: the whitepapers and data sheets that NVIDIA publishes for each device; the table "Technical
Specifications per Compute Capability" of the CUDA C++ Programming Guide for the limits, and
``cuda/__device/arch_traits.h`` of the CUDA Core Compute Libraries 3.3 where it has no column (8.8,
10.7). Rates of L2 caches are published for few devices; ``l2_source`` says where each comes from.
What large float32 matrix products reach was measured by others; ``Reached`` says by whom.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.device.multiprocessors import Multiprocessors

Capability = tuple[int, int]


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor of a compute capability can hold.

    Attributes:
        threads, blocks: the threads and blocks resident at a time.
        shared_bytes: the shared memory for all its blocks.
        reserved_bytes: the shared memory that the system takes for each block.
        shared_unit: the bytes to whose multiple a block's share is rounded up.
        lanes: float32 multiply-adds issued in a clock.
        issues: warp instructions issued in a clock.
    """

    threads: int
    blocks: int
    shared_bytes: int
    reserved_bytes: int
    shared_unit: int
    lanes: int
    issues: int


REGISTERS, REGISTER_UNIT, WARP_UNIT = 65536, 256, 4
"""Registers of a multiprocessor; a warp's are allocated in units of 256; warps in units of 4."""
KIB = 1024
# Limits of every capability that the CUDA 12 and CUDA 13 compilers name, and of the K40
LIMITS = {
    (3, 5): Limits(2048, 16, 48 * KIB, 0, 256, lanes=192, issues=8),
    (5, 0): Limits(2048, 32, 64 * KIB, 0, 256, lanes=128, issues=8),
    (5, 2): Limits(2048, 32, 96 * KIB, 0, 256, lanes=128, issues=8),
    (5, 3): Limits(2048, 32, 64 * KIB, 0, 256, lanes=128, issues=8),
    (6, 0): Limits(2048, 32, 64 * KIB, 0, 256, lanes=64, issues=4),
    (6, 1): Limits(2048, 32, 96 * KIB, 0, 256, lanes=128, issues=8),
    (6, 2): Limits(2048, 32, 64 * KIB, 0, 256, lanes=128, issues=8),
    (7, 0): Limits(2048, 32, 96 * KIB, 0, 256, lanes=64, issues=4),
    (7, 2): Limits(2048, 32, 96 * KIB, 0, 256, lanes=64, issues=4),
    (7, 5): Limits(1024, 16, 64 * KIB, 0, 256, lanes=64, issues=4),
    (8, 0): Limits(2048, 32, 164 * KIB, KIB, 128, lanes=64, issues=4),
    (8, 6): Limits(1536, 16, 100 * KIB, KIB, 128, lanes=128, issues=4),
    (8, 7): Limits(1536, 16, 164 * KIB, KIB, 128, lanes=128, issues=4),
    (8, 8): Limits(1536, 16, 100 * KIB, KIB, 128, lanes=128, issues=4),
    (8, 9): Limits(1536, 24, 100 * KIB, KIB, 128, lanes=128, issues=4),
    (9, 0): Limits(2048, 32, 228 * KIB, KIB, 128, lanes=128, issues=4),
    (10, 0): Limits(2048, 32, 228 * KIB, KIB, 128, lanes=128, issues=4),
    (10, 1): Limits(1536, 24, 228 * KIB, KIB, 128, lanes=128, issues=4),  # 11.0 since CUDA 13
    (10, 3): Limits(2048, 32, 228 * KIB, KIB, 128, lanes=128, issues=4),
    (10, 7): Limits(1024, 16, 228 * KIB, KIB, 128, lanes=128, issues=4),  # lanes assumed
    (11, 0): Limits(1536, 24, 228 * KIB, KIB, 128, lanes=128, issues=4),
    (12, 0): Limits(1536, 24, 100 * KIB, KIB, 128, lanes=128, issues=4),
    (12, 1): Limits(1536, 24, 100 * KIB, KIB, 128, lanes=128, issues=4),
}


@dataclass(frozen=True)
class Reached:
    """What a large float32 matrix product, without tensor cores, was measured to reach.

    Attributes:
        rate: operations/s, two for a multiply-add.
        peak: the peak of the device that it was measured on, at its highest published clock.
        source: the publication, and the device.
    """

    rate: float
    peak: float
    source: str

    @property
    def share(self) -> float:
        """The rate as a share of the peak."""
        return self.rate / self.peak


@dataclass(frozen=True)
class Device:
    """A device at its highest published clock.

    Attributes:
        capability: compute capability.
        multiprocessors: their number.
        clock: Hz.
        bandwidth: bytes/s of its memory.
        memory: the bytes of its memory.
        l2_bytes: the bytes of its L2 cache.
        l2_bytes_per_clock: the bytes that the cache delivers to all multiprocessors.
        source, l2_source: the sources of these figures.
        reached: the rate that others reached with kernels made for this architecture.
    """

    name: str
    capability: Capability
    multiprocessors: int
    clock: float
    bandwidth: float
    memory: float
    l2_bytes: int
    l2_bytes_per_clock: int
    source: str
    l2_source: str
    reached: Reached

    @property
    def limits(self) -> Limits:
        """Limits of one of its multiprocessors."""
        return LIMITS[self.capability]

    @property
    def seen_by_kernels(self) -> Multiprocessors:
        """What kernels know of it when they choose their tiles and share out their work."""
        return Multiprocessors(self.multiprocessors, self.limits.shared_bytes)

    @property
    def peak(self) -> float:
        """float32 operations/s, two for a multiply-add."""
        return 2 * self.multiprocessors * self.limits.lanes * self.clock

    @property
    def l2_bandwidth(self) -> float:
        """bytes/s from the L2 cache."""
        return self.l2_bytes_per_clock * self.clock


MIB = KIB**2
DEVICES = {
    "K40": Device(
        *("Tesla K40", (3, 5), 15, 875e6, 288e9, 12e9, 1536 * KIB, 768),
        "Tesla K40 board specification BD-06902 (highest boost clock)",
        "twice Fermi's 384 bytes a clock, after the Kepler GK110 whitepaper",
        Reached(
            *(3275e9, 5040e9),
            "cuBLAS 7.0 on a K40 at its boost clock, 4096 x 4096: clMathLibraries/clBLAS, "
            "doc/performance/cuBLAS_7.0/Tesla_K40/sgemm.csv",
        ),
    ),
    "V100": Device(
        *("Tesla V100 SXM2", (7, 0), 80, 1530e6, 900e9, 16e9, 6 * MIB, 2048),
        "NVIDIA Tesla V100 architecture whitepaper",
        "NVIDIA A100 whitepaper, which compares the two",
        Reached(
            *(14e12, 15.7e12),
            "PyTorch's matrix product on a V100, two digits: transformers-benchmarks, README",
        ),
    ),
    "A100": Device(
        *("A100 SXM4 40 GB", (8, 0), 108, 1410e6, 1555e9, 40e9, 40 * MIB, 5120),
        "NVIDIA A100 architecture whitepaper",
        "NVIDIA A100 architecture whitepaper",
        Reached(
            *(17.736e12, 19.5e12),
            "a hand-written kernel on an A100 SXM4 80 GB, 4096 x 4096, without TF32: "
            "AG0708/sgBLAS, release 0.1.0",
        ),
    ),
    "H100": Device(
        *("H100 SXM5", (9, 0), 132, 1980e6, 3352e9, 80e9, 50 * MIB, 5120),
        "NVIDIA H100 data sheet (66.9 TFLOP/s give the clock)",
        "assumed to be the A100's",
        Reached(
            *(47.28e12, 60e12),
            "cuBLASLt on an H200 NVL, the same multiprocessor under a lower power limit (the peak "
            "is its data sheet's): xzwgit/gpu-flops-bench, README",
        ),
    ),
    "RTX4090": Device(
        *("GeForce RTX 4090", (8, 9), 128, 2520e6, 1008e9, 24e9, 72 * MIB, 2048),
        "NVIDIA Ada architecture whitepaper",
        "assumed",
        Reached(
            *(57.55e12, 82.6e12),
            "cuBLASLt on an RTX 4090: xzwgit/gpu-flops-bench, README",
        ),
    ),
}


def resident_blocks(limits: Limits, threads: int, registers: int, shared_bytes: int) -> int:
    """Blocks that are resident on a multiprocessor at a time.

    Args:
        threads: the threads of a block.
        registers: the registers of a thread.
        shared_bytes: the shared memory of a block, without what the system reserves.
    """
    warps = -(-threads // 32)
    of_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    warps_with_registers = REGISTERS // of_warp // WARP_UNIT * WARP_UNIT
    units = -(-(shared_bytes + limits.reserved_bytes) // limits.shared_unit)
    by_shared = limits.shared_bytes // (units * limits.shared_unit) if units else limits.blocks
    return min(
        limits.blocks, limits.threads // (32 * warps), warps_with_registers // warps, by_shared
    )
