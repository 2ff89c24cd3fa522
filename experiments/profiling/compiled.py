"""Facts about machine code that have bounds: of any kernel, and of every tile's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.profiling import bounds, calls, roofline
from experiments.profiling.bounds import BOUNDS
from experiments.profiling.calls import Call
from experiments.profiling.devices import REGISTERS, Capability
from experiments.profiling.operators import OperatorCase
from kernels.convolution.cuda_tile import Tile
from kernels.convolution.cuda_tiles import TILES
from kernels.device import launching, machine_code
from kernels.device.machine_code import MachineCode

WIDTH = 150
"""Columns of the maps."""


@dataclass(frozen=True)
class TileCase:
    """A convolution with one tile of the tables.

    Attributes:
        table: the table of ``TILES`` that holds the tile.
        case: the convolution, with its tile.
    """

    table: str
    case: OperatorCase

    @property
    def tile(self) -> Tile:
        """The tile of the case."""
        return self.case.tile

    @property
    def direction(self) -> str:
        """``forward``, ``gradient_input`` or ``gradient_weights``."""
        return self.case.operator.split(".")[1]

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a 1 x 1 convolution of a map, which needs no table of taps."""
        return self.table == "map" and self.case.kernel == (1, 1)

    @property
    def group(self) -> str:
        """The kind of convolution, whatever its tile."""
        kind = "fully connected " if self.table == "matrix" else ""
        if self.case.operator.startswith("listed_"):
            kind = "listed "
        return kind + self.direction + (", 1 x 1" if self.is_pointwise else "")

    def __str__(self) -> str:
        tile = self.tile
        shape = f"{tile.height} x {tile.width} x {tile.depth}"
        return f"{self.group}, tile {shape}, {tile.threads} threads"


def tile_cases() -> Iterator[TileCase]:
    """Each direction with each tile of the tables, on a wide map."""
    window = {"kernel": (2, 2), "dilation": (2, 3)}

    def tiled(table, direction, tile, shape, filters, **window):
        operator = f"convolution.{direction}"
        return TileCase(table, OperatorCase(operator, shape, filters, tile=tile, **window))

    for tile in TILES["map"]:
        yield tiled("map", "forward", tile, (1, 6, 4, WIDTH), tile.height, **window)
        yield tiled("map", "gradient_input", tile, (1, tile.height, 4, WIDTH), 16, **window)
        yield tiled("map", "forward", tile, (1, 32, 1, WIDTH), tile.height)
    yield from map(weights_case, TILES["weights"])
    for tile in TILES["matrix"]:
        for direction in ("forward", "gradient_input", "gradient_weights"):
            yield tiled("matrix", direction, tile, (96, 24, 2, 2), 96, kernel=(2, 2))


def weights_case(tile) -> TileCase:
    """The weight gradient with a tile, on a wide map."""
    shape, window = (1, -(-tile.width // 4), 3, WIDTH), {"kernel": (2, 2), "dilation": (2, 3)}
    case = OperatorCase("convolution.gradient_weights", shape, tile.height, tile=tile, **window)
    return TileCase("weights", case)


def listed_cases() -> Iterator[TileCase]:
    """The convolutions of lists with each tile of the tables."""
    window, size = {"kernel": (2, 2), "dilation": (2, 2)}, (40, WIDTH)

    def tiled(table, direction, tile, channels, filters, **window):
        operator = f"listed_convolution.{direction}"
        case = OperatorCase(operator, (1, channels, *size), filters, tile=tile, **window)
        return TileCase(table, case)

    for tile in TILES["map"]:
        yield tiled("map", "forward", tile, 6, tile.height, **window)
        yield tiled("map", "gradient_input", tile, tile.height, 16, **window)
        yield tiled("map", "forward", tile, 32, tile.height)
    for tile in TILES["weights"]:
        yield tiled("weights", "gradient_weights", tile, -(-tile.width // 4), tile.height, **window)


def of_maps(listed: TileCase) -> TileCase:
    """The convolution of a map with the same direction and tile, and as many cells of a window."""
    alike = (
        case
        for case in tile_cases()
        if (case.table, case.direction, case.tile) == (listed.table, listed.direction, listed.tile)
    )
    return next(case for case in alike if case.is_pointwise == listed.is_pointwise)


def multiplying_launch(call: Call) -> launching.Launch:
    """The launch of a convolution that multiplies; others pack weights or add partial sums."""
    if call.operator.startswith("listed_"):
        name = call.operator.replace(".", "_")
        return next(launch for launch in call.launches if launch.function.__name__ == name)
    return next(launch for launch in call.launches if roofline.executed_multiply_adds(call, launch))


def code_of(tile_case: TileCase, capability: Capability) -> MachineCode:
    """The machine code of the kernel that multiplies."""
    launch = multiplying_launch(calls.of_case(tile_case.case))
    return machine_code.read(launch.kernel, launch.arguments, capability)


def facts_of_tile(tile_case: TileCase, capability: Capability, code: MachineCode) -> Iterator[dict]:
    """A row for each bound on a tile's machine code."""
    tile, which = tile_case.tile, name_of(capability)
    yield from facts_of_code(f"every tile, {which}", tile_case, code)
    used = code.registers * tile.threads * tile.blocks / REGISTERS
    yield bounds.fact("registers", f"every tile, {which}", tile_case, used)
    if BOUNDS["loop"].applies(tile_case):
        yield bounds.fact("loop", f"every tile, {which}", tile_case, code.loop_bytes)
    target, value = bounds.share_fact(tile_case, capability, code.multiply_add_share)
    yield bounds.fact(target, f"{tile_case.group}, {which}", tile_case, value)


def facts_of_list(case: TileCase, capability: Capability, codes) -> Iterator[dict]:
    """A row for each bound on the machine code of a list's tile; ``codes`` are its own, and that of
    the map's (``of_maps``)."""
    (code, of_map), which, tile = codes, name_of(capability), case.tile
    yield from facts_of_code(f"every tile of lists, {which}", case, code)
    used = code.registers * tile.threads * tile.blocks / REGISTERS
    yield bounds.fact("registers", f"every tile of lists, {which}", case, used)
    if BOUNDS["loop"].applies(case):
        yield bounds.fact("loop", f"every tile of lists, {which}", case, code.loop_bytes)
    if BOUNDS["share, lists"].applies(case):
        less = of_map.multiply_add_share - code.multiply_add_share
        yield bounds.fact("share, lists", f"{case.group}, {which}", case, less)


def facts_of_code(of: str, case, code: MachineCode) -> Iterator[dict]:
    """A row for each bound on the machine code of any kernel."""
    doubles = re.findall(r"\sD(?:ADD|MUL|FMA|SETP|MNMX)\b", code.text)
    atomics = re.findall(r"\s(?:ATOM|RED)\w*\.", code.text)
    yield bounds.fact("local", of, case, code.local_bytes)
    yield bounds.fact("double", of, case, len(doubles))
    yield bounds.fact("atomics", of, case, len(atomics))


def name_of(capability: Capability) -> str:
    """The name of a compute capability as an architecture: ``sm_80``."""
    return "sm_{}{}".format(*capability)
