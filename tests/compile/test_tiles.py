"""The machine code of the convolution with every tile of its tables, compiled without a device.

The share of multiply-adds among the instructions of the main loop bounds the share of the device's
peak that a kernel can reach. A value that does not fit into the registers goes to local memory,
which is global memory.
"""

import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import pytest

from kernels.convolution import cuda as convolution
from kernels.convolution.cuda_tile import Tile
from kernels.device import api, machine_code
from tests.compile.recording import launches

MISSING = api.why_uncompilable()
pytestmark = [pytest.mark.compile, pytest.mark.skipif(bool(MISSING), reason=MISSING or "")]

CAPABILITIES = [(8, 0), (9, 0)]
X, WEIGHTS, ERROR = (np.empty(s, "float32") for s in ((2, 3, 9, 8), (5, 3, 2, 3), (2, 5, 8, 6)))
PATCHES, VECTORS = np.empty((2, 3, 2, 3), "float32"), np.empty((2, 5, 1, 1), "float32")
MAP, POINTWISE = np.empty((2, 16, 9, 8), "float32"), np.empty((5, 16, 1, 1), "float32")
CALLS = {
    "map": {
        "forward": (convolution.forward, X, WEIGHTS),
        "gradient_input": (convolution.gradient_input, ERROR, WEIGHTS, (9, 8)),
        "pointwise": (convolution.forward, MAP, POINTWISE),
    },
    "weights": {"gradient_weights": (convolution.gradient_weights, X, ERROR, (2, 3))},
    "matrix": {
        "forward": (convolution.forward, PATCHES, WEIGHTS),
        "gradient_input": (convolution.gradient_input, VECTORS, WEIGHTS, (2, 3)),
        "gradient_weights": (convolution.gradient_weights, PATCHES, VECTORS, (2, 3)),
    },
}


class Case(NamedTuple):
    """One of the public functions with a tile, for a compute capability."""

    table: str
    function: str
    tile: Tile
    capability: tuple[int, int]

    def __str__(self):
        tile, (major, minor) = self.tile, self.capability
        shape = f"{tile.height}x{tile.width}x{tile.depth}"
        return f"{self.table}-{self.function}-{shape}-sm_{major}{minor}"

    def read(self):
        function, *arguments = CALLS[self.table][self.function]
        kernel, arguments = next(
            (kernel, arguments)
            for kernel, arguments in launches(function, *arguments, tile=self.tile)
            if kernel.targetoptions["launch_bounds"] == (self.tile.threads, self.tile.blocks)
        )
        return machine_code.read(kernel, arguments, self.capability)


def target(table, tile):
    """The least share of multiply-adds in the main loops of large tiles; None for small ones."""
    if table in ("map", "matrix") and tile.height >= 64:
        return 0.87
    if table == "map" and tile.height >= 32:
        return 0.83
    if table == "weights" and tile.height * tile.width >= 32 * 96 and tile.height >= 32:
        return 0.85
    return None


def wanted_share(case):
    """The target, or for small tiles what the cost model counts on: see the table."""
    share = convolution.TILES[case.table][case.tile]
    if target(case.table, case.tile):
        return target(case.table, case.tile)
    # The figure is that of the forward convolution
    return 0.93 * share if case.function == "gradient_input" else share


def is_read(case):
    """Whether a case is compiled: small tiles differ little, and compiling takes its time."""
    newest = case.capability == CAPABILITIES[-1]
    if case.function == "pointwise":
        return newest and case.tile.height >= 64
    if (case.table, case.function) == ("map", "gradient_input") and case.tile.height in (6, 12, 28):
        return True  # few registers are left
    return newest or bool(target(case.table, case.tile))


CASES = [
    case
    for table, tiles in convolution.TILES.items()
    for function in CALLS[table]
    for tile in tiles
    for capability in CAPABILITIES
    if is_read(case := Case(table, function, tile, capability))
]


@pytest.fixture(scope="module")
def compiled(request):
    """For each case that the selected tests ask for, its machine code to come."""
    tests = [item for item in request.session.items if item.path == request.path]
    wanted = [test.callspec.params["case"] for test in tests]
    pool = ProcessPoolExecutor(mp_context=get_context("fork"))
    yield {case: pool.submit(case.read) for case in wanted}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_code_of_tile(compiled, case):
    code = compiled[case].result()
    assert code.multiply_add_share >= wanted_share(case)
    assert code.local_bytes == code.instructions["local"] == 0
    assert code.registers * case.tile.threads * case.tile.blocks <= 2**16
    assert code.barriers == 1
    assert code.main_loop["barrier"] == 1
    unrolled = 8 if case.table == "weights" else 1  # a part of a slice, at least
    assert code.main_loop["multiply-add"] % (unrolled * case.tile.rows * case.tile.columns) == 0
    if case.function == "pointwise":  # reads its pixels and no table
        fetched = case.tile.width * case.tile.depth // case.tile.threads
        assert code.main_loop["LDG 32"] == fetched
    assert not re.findall(r" D(?:ADD|MUL|FMA|SETP) ", code.text)
