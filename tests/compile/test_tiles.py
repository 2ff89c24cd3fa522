"""The machine code of the convolution with every tile of its tables, compiled without a device.

The cases and the bounds are those of the list of targets (``experiments profile --targets``).
"""

import itertools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from experiments.profiling import compiled
from experiments.profiling.bounds import BOUNDS, is_as_known, share_fact
from kernels.convolution.cuda_tiles import tiles_on
from kernels.device import api
from kernels.device.multiprocessors import Multiprocessors

MISSING = api.why_uncompilable()
pytestmark = [pytest.mark.compile, pytest.mark.skipif(bool(MISSING), reason=MISSING or "")]

CAPABILITIES = [(8, 0), (9, 0)]
SAMPLED = 3
"""One in so many cases is compiled each time, the others in the long tests."""
SHORT_OF_REGISTERS = (1, 2, 4)
"""Rows of small tiles with which the gradient by the input takes nearly all registers."""


def is_read(case, capability):
    """Whether a case is compiled: small tiles differ little, and compiling takes its time."""
    newest = capability == CAPABILITIES[-1]
    if case.is_pointwise:
        return newest and case.tile.height >= 64
    if (case.table, case.direction) == (
        "map",
        "gradient_input",
    ) and case.tile.height in SHORT_OF_REGISTERS:
        return True
    bound, _ = share_fact(case, capability, 0)
    return newest or not bound.startswith("share, small")


READ = [
    (case, capability)
    for case, capability in itertools.product(compiled.tile_cases(), CAPABILITIES)
    if is_read(case, capability)
]
CASES = [
    pytest.param(
        *read,
        id=f"{read[0]}, {compiled.name_of(read[1])}",
        marks=[] if number % SAMPLED == 0 else pytest.mark.long,
    )
    for number, read in enumerate(READ)
]


HARDEST = {
    *(("forward", 4, 256), ("forward", 128, 128), ("gradient_input", 4, 256)),
    *(("gradient_weights", 10, 64), ("gradient_weights", 6, 32)),
}
"""Of lists: most look-ups, or fewest registers to spare. Others are compiled in the long tests."""


def is_hardest(case):
    key = case.direction, case.tile.height, case.tile.width
    return key in HARDEST and not case.is_pointwise


LISTS = [
    pytest.param(
        *(case, capability),
        id=f"{case}, {compiled.name_of(capability)}",
        marks=[] if is_hardest(case) else pytest.mark.long,
    )
    for case, capability in itertools.product(compiled.listed_cases(), CAPABILITIES)
]


T4 = Multiprocessors(40, 64 * 1024)
SHALLOW = [tile for tile in tiles_on(T4, "weights") if tile.depth < 32]
"""Where shared memory is little, slices of the weight gradient are shorter."""


@pytest.fixture(scope="module")
def codes(request):
    """For each case that the selected tests ask for, its machine code to come."""
    every = request.config.getoption("--long")
    cases = [
        item.callspec.params
        for item in request.session.items
        if item.path == request.path
        and hasattr(item, "callspec")
        and (every or not item.get_closest_marker("long"))
    ]
    wanted = [(of["case"], of["capability"]) for of in cases if "case" in of]
    for listed, capability in ((of["listed"], of["capability"]) for of in cases if "listed" in of):
        wanted += [(listed, capability), (compiled.of_maps(listed), capability)]
    pool = ProcessPoolExecutor(mp_context=get_context("forkserver"))
    yield {key: pool.submit(compiled.code_of, *key) for key in dict.fromkeys(wanted)}
    pool.shutdown(cancel_futures=True)


def test_the_tiles_that_are_named_exist():
    hardest = [case for case in compiled.listed_cases() if is_hardest(case)]
    assert {(case.direction, case.tile.height, case.tile.width) for case in hardest} == HARDEST
    heights = {case.tile.height for case in compiled.tile_cases() if case.table == "map"}
    assert heights >= set(SHORT_OF_REGISTERS)


@pytest.mark.parametrize(("case", "capability"), CASES)
def test_code_of_tile(codes, case, capability):
    code, tile = codes[case, capability].result(), case.tile
    for row in compiled.facts_of_tile(case, capability, code):
        assert is_as_known(row), row
    assert code.instructions["local"] == 0
    assert code.barriers == 1
    assert code.main_loop["barrier"] == 1
    unrolled = 32 if case.table == "weights" else 1  # all steps of a slice, in turns
    assert code.main_loop["multiply-add"] % (unrolled * tile.rows * tile.columns) == 0
    if case.is_pointwise:  # reads its pixels and no table
        assert code.main_loop["LDG 32"] == tile.width * tile.depth // tile.threads


@pytest.mark.parametrize(
    ("case", "capability"),
    [
        pytest.param(
            *(compiled.weights_case(tile), (7, 5)),
            id=f"{tile.height} x {tile.width} x {tile.depth}",
            marks=[] if tile == SHALLOW[-1] else pytest.mark.long,
        )
        for tile in SHALLOW
    ],
)
def test_code_of_a_shallow_weight_tile(codes, case, capability):
    code = codes[case, capability].result()
    assert case.tile.depth in (8, 16)
    assert BOUNDS["loop"].holds(code.loop_bytes)
    assert code.instructions["local"] == 0
    assert code.main_loop["barrier"] == 1


@pytest.mark.parametrize(("listed", "capability"), LISTS)
def test_code_of_list(codes, listed, capability):
    both = [codes[case, capability].result() for case in (listed, compiled.of_maps(listed))]
    facts = list(compiled.facts_of_list(listed, capability, both))
    applies = BOUNDS["share, lists"].applies(listed)
    assert ("share, lists" in {row["target"] for row in facts}) == applies
    assert applies or not is_hardest(listed)
    for row in facts:
        assert is_as_known(row), row
    assert both[0].instructions["local"] == 0
    assert both[0].main_loop["barrier"] == 1
