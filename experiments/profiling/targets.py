"""The targets that the CUDA kernels are held to: what was read or counted, and the verdicts.

Nothing here needs a device. Read from the machine code: every kernel that a net of the zoo
launches, and the convolutions with every tile of their tables. Counted on the simulator: every
operator in the dense form at several d, all its blocks; and the convolutions with every tile.
Counted in the launches: the work and the workspace of every layer of the zoo.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
from tqdm import tqdm

from experiments.profiling import calls, roofline, traced
from experiments.profiling.calls import Call
from experiments.profiling.devices import REGISTERS, Capability
from experiments.profiling.operators import OPERATORS, Case
from kernels.convolution.cuda import TILES
from kernels.device import machine_code
from net.zoo import ZOO

SIZE, BATCH = 256, 64
"""Labelled pixels a side of the zoo's dense nets, and patches of its patch nets."""
WIDTH = 150
DILATIONS = ((1, 1), (2, 3), (8, 8))
FEW_CHANNELS, FEW_CLASSES = (1, 3), range(2, 11)
POINTWISE = ("activation", "batch_normalization", "softmax", "cross_entropy", "masking", "merging")
POINTWISE += ("dropout", "sgd", "adam")
ONE_BY_ONE = "convolution.forward", "convolution.gradient_input"
MET, NOT_MET = "met", "not met"


@dataclass(frozen=True)
class Target:
    """A bound.

    Attributes:
        text: what is bounded.
        bound: the least value allowed where ``least``, else the largest.
        form: of values, for ``format``.
    """

    text: str
    bound: float
    form: str
    least: bool = False

    def worst(self, rows: list[dict]) -> dict:
        """The first of the rows with the worst value."""
        return (min if self.least else max)(rows, key=lambda row: row["value"])

    def holds(self, row: dict) -> bool:
        """Whether a row keeps the bound."""
        return row["value"] >= self.bound if self.least else row["value"] <= self.bound


_SHARE = "multiply-adds of the main loop's instructions"
TARGETS = {
    "share, wide": Target(f"{_SHARE}, tiles of 64 channels and more", 0.87, ".1%", True),
    "share, narrow": Target(f"{_SHARE}, tiles of 32 to 63 channels", 0.83, ".1%", True),
    "share, weights": Target(f"{_SHARE}, gradient by the weights", 0.85, ".1%", True),
    "local": Target("bytes of local memory a thread", 0, "d"),
    "registers": Target(
        "registers that the promised blocks take, of the multiprocessor's", 1, ".0%"
    ),
    "double": Target("instructions in double precision", 0, "d"),
    "atomics": Target("atomic instructions", 0, "d"),
    "compile": Target("seconds to compile a net's pass forward and backward", 60, ".1f"),
    "waste": Target(
        "multiply-adds wasted, inputs of 1 or 3 channels, 2 to 10 classes", 1 / 3, ".1%"
    ),
    "workspace": Target(
        "the input gradient's copies of weights and maps, of the weights", 1, ".2f"
    ),
    "taps": Target("requests for places of taps in the main loop of 1 x 1 layers", 0, "d"),
    "partial": Target("MiB of the weight gradient's partial sums", 64, ".1f"),
    "argmax": Target("bytes of an argmax", 1, "d"),
    "beyond": Target("sectors of a full warp in a row beyond those that its bytes fill", 1, "d"),
    "sectors": Target("sectors a request, mean of a launch on maps 128 wide or wider", 5, ".2f"),
    "conflicts": Target("wavefronts of ideal in main loops", 1.05, ".3f"),
    "passes": Target("times that a kernel reads, or writes, an element", 1, ".2f"),
}


def measure(capabilities: list[Capability]) -> list[dict]:
    """Rows of ``target``, ``of`` (whose kernels), ``case`` and ``value``, one for each fact.

    Args:
        capabilities: to compile for; the time to compile is that of the last one.
    """
    rows = [*_compiled_nets(capabilities[-1]), *_launched()]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        tiles = [(*tile, capability) for tile in tile_cases() for capability in capabilities]
        codes = [pool.submit(_code_of_tile, *tile) for tile in tiles]
        rows += _traced()
        for code in tqdm(codes, desc="tiles", unit="kernel", leave=False):
            rows += code.result()
    order = list(TARGETS)
    return sorted(rows, key=lambda row: (order.index(row["target"]), row["of"]))


def _row(target, of, case, value):
    return {"target": target, "of": of, "case": str(case), "value": value}


def tile_cases() -> Iterator[tuple[str, Case]]:
    """(table, convolution) for each direction with each tile of the tables, on a wide map."""
    window = {"kernel": (2, 2), "dilation": (2, 3)}
    for tile in TILES["map"]:
        common = {"tile": tile} | window
        shape = 1, 6, 4, WIDTH
        yield "map", Case("convolution.forward", shape, tile.height, **common)
        shape = 1, tile.height, 4, WIDTH
        yield "map", Case("convolution.gradient_input", shape, 16, **common)
        yield "map", Case("convolution.forward", (1, 32, 1, WIDTH), tile.height, tile=tile)
    for tile in TILES["weights"]:
        common = {"tile": tile} | window
        shape = 1, -(-tile.width // 4), 3, WIDTH
        yield "weights", Case("convolution.gradient_weights", shape, tile.height, **common)
    for tile in TILES["matrix"]:
        for direction in ("forward", "gradient_input", "gradient_weights"):
            patches = Case(f"convolution.{direction}", (96, 24, 2, 2), 96, (2, 2), tile=tile)
            yield "matrix", patches


def dense_case(operator: str, dilation=(2, 3)) -> Case:
    """An operator in the dense form on a map ``WIDTH`` wide, with d where it has a window."""
    of_window = {"dilation": dilation}
    match operator.split("."):
        case ["convolution", "gradient_bias"]:
            return Case(operator, (1, 2, 8, WIDTH))
        case ["convolution", direction]:
            rows, filters = (2, 20) if direction == "forward" else (1, 8)
            shape = 1, 3, dilation[0] + rows, WIDTH
            return Case(operator, shape, filters, kernel=(2, 2), **of_window)
        case ["max_pooling" | "average_pooling", _]:
            return Case(operator, (1, 2, 2 * dilation[0] + 4, WIDTH), kernel=(3, 2), **of_window)
        case ["patches", _]:
            return Case(operator, (1, 2, 8, WIDTH), kernel=(4, 140))
    return Case(operator, (1, 2, 8, WIDTH))


def _compiled_nets(capability):
    """The kernels of each net's dense form, compiled in a process that has compiled nothing."""
    with tqdm(ZOO, desc="nets", unit="net", leave=False) as nets:
        for net in nets:
            with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
                yield from pool.submit(_compile_net, net, capability).result()


def _compile_net(net, capability):
    launches = {}
    for call in calls.of_net(net, SIZE, "dense", batch=BATCH, backward=True):
        for launch in call.launches:
            types = tuple(getattr(a, "dtype", type(a)) for a in launch.arguments)
            launches.setdefault((launch.kernel, types), launch)
    started, busy = time.perf_counter(), time.process_time()
    codes = [
        (launch.function.__name__, machine_code.read(launch.kernel, launch.arguments, capability))
        for launch in launches.values()
    ]
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    case = f"{net}, {len(codes)} kernels, {busy:.1f} s of them at work"
    rows = [_row("compile", _name(capability), case, seconds)]
    of = f"every kernel of the nets, {_name(capability)}"
    for name, code in codes:
        rows += _code_rows(of, f"{net}, {name}", code)
    return rows


def _name(capability):
    return "sm_{}{}".format(*capability)


def _code_rows(of, case, code):
    yield _row("local", of, case, code.local_bytes)
    yield _row("double", of, case, len(re.findall(r"\sD(?:ADD|MUL|FMA|SETP|MNMX)\b", code.text)))
    yield _row("atomics", of, case, len(re.findall(r"\s(?:ATOM|RED)\w*\.", code.text)))


def _product(call: Call):
    """The launch that multiplies."""
    return next(launch for launch in call.launches if roofline.executed_multiply_adds(call, launch))


def _code_of_tile(table, case, capability):
    tile, launch = case.tile, _product(calls.of_case(case))
    code = machine_code.read(launch.kernel, launch.arguments, capability)
    operator = case.operator.removeprefix("convolution.")
    operator += ", 1 x 1" if case.kernel == (1, 1) else ""
    of = f"{operator}, {_name(capability)}"
    if table == "matrix":
        of = f"fully connected {of}"
    which = f"tile {tile.height} x {tile.width} x {tile.depth}, {tile.threads} threads"
    every = f"every tile, {_name(capability)}", f"{operator}, {which}"
    used = code.registers * tile.threads * tile.blocks / REGISTERS
    rows = [*_code_rows(*every, code), _row("registers", *every, used)]
    if operator == "gradient_weights":
        large = tile.height >= 32 and tile.width >= 64
        of = f"{of}, {'32 x 64 and more' if large else 'smaller tiles'}"
        rows.append(_row("share, weights", of, which, code.multiply_add_share))
    elif tile.height >= 32:
        target = "share, wide" if tile.height >= 64 else "share, narrow"
        rows.append(_row(target, of, which, code.multiply_add_share))
    return rows


def _launched():
    """The work and the workspace of every layer of the zoo."""
    for net in ZOO:
        for form in ("dense", "patch"):
            for call in calls.of_net(net, SIZE, form, batch=BATCH, backward=True):
                where = f"{net}, {call.layer}"
                yield from _wasted(call, form, where)
                yield from _kept(call, form, where)


def _wasted(call, form, where):
    """Also with every number of classes, where the layer gives classes."""
    if not call.multiply_adds:
        return
    case, found = call.case, [call] if call.case.shape[1] in FEW_CHANNELS else []
    if case.filters in FEW_CLASSES:
        found += [calls.of_case(replace(case, filters=classes)) for classes in FEW_CLASSES]
    for one in found:
        executed = sum(roofline.executed_multiply_adds(one, launch) for launch in one.launches)
        wasted = 1 - one.multiply_adds / executed
        yield _row("waste", f"{form} form, {case.operator}", f"{where}: {one.case}", wasted)


def _kept(call, form, where):
    """What a call keeps beside its arguments and its result, or in too wide a type."""
    of, case = f"{form} form", f"{where}: {call.case}"
    match call.operator:
        case "convolution.gradient_input":
            copied, weights = _workspace_bytes(call), call.given["weights"].nbytes
            sizes = f", {copied / 1e3:.1f} kB beside {weights / 1e3:.1f} kB"
            yield _row("workspace", of, case + sizes, copied / weights)
        case "convolution.gradient_weights":
            yield _row("partial", of, case, _workspace_bytes(call) / 2**20)
        case "max_pooling.forward":
            yield _row("argmax", of, case, call.result[1].itemsize)


def _workspace_bytes(call):
    """Bytes of floats: copies of maps and weights, and partial sums."""
    own = {_address(array) for array in call.inputs + call.outputs}
    arrays = [
        a for launch in call.launches for a in _arrays(launch).values() if a.dtype.kind == "f"
    ]
    return sum({_address(a): a.nbytes for a in arrays if _address(a) not in own}.values())


def _arrays(launch):
    """The arrays of a launch by their names in its kernel."""
    names = launch.function.__code__.co_varnames
    return {n: a for n, a in zip(names, launch.arguments) if isinstance(a, np.ndarray)}


def _address(array):
    return array.__array_interface__["data"][0]


def _traced():
    every = [dense_case(operator) for operator in OPERATORS]
    every += [
        dense_case(case.operator, dilation)
        for case in every
        if case.dilation != (1, 1)
        for dilation in DILATIONS
        if dilation != case.dilation
    ]
    every += [
        Case(f"convolution.{direction}", shape, filters)
        for direction, channels, filters in (("forward", 64, 20), ("gradient_input", 20, 64))
        for shape in ((1, channels, 2, WIDTH), (64, channels, 1, 1))
    ]
    tiles = [case for _, case in tile_cases()]
    with tqdm(total=len(every) + len(tiles), desc="simulate", unit="call", leave=False) as progress:
        for cases, whole in ((every, True), (tiles, False)):
            for case, lines in zip(cases, traced.trace(cases, whole=whole)):
                yield from _counted(case, lines)
                progress.update()


def _counted(case, lines):
    operator, by_launch = case.operator.split(".")[0], {}
    for line in lines:
        by_launch.setdefault((line.launch, line.kernel), []).append(line)
    for (number, kernel), own in by_launch.items():
        maps = [line for line in own if line.is_map]
        if any(line.full_requests for line in maps):
            yield _row("beyond", operator, case, max(line.most_beyond for line in maps))
        if maps and case.shape[3] >= 128:
            sectors = sum(line.sectors for line in maps) / sum(line.requests for line in maps)
            yield _row("sectors", operator, case, sectors)
        shared = [line for line in own if line.memory == "shared" and line.main_loop]
        if shared:
            ideal = sum(line.ideal_wavefronts for line in shared)
            wavefronts = sum(line.wavefronts for line in shared) / ideal
            yield _row("conflicts", kernel, case, wavefronts)
        arrays = _arrays(calls.of_case(case).launches[number])
        if case.operator.startswith(POINTWISE):
            yield from _passes(case, arrays, maps)
        if case.operator in ONE_BY_ONE and case.kernel == (1, 1) and shared:
            reads = [line for line in own if line.main_loop and line.memory == "global"]
            places = [line for line in reads if arrays[line.array].dtype.kind in "iu"]
            yield _row("taps", kernel, case, sum(line.requests for line in places))


def _passes(case, arrays, maps):
    times = {}
    for line in maps:
        key = line.access, line.array
        times[key] = times.get(key, 0) + line.asked / arrays[line.array].nbytes
    for (access, array), count in times.items():
        yield _row("passes", case.operator, f"{access}s of {array}, {case}", count)


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "Every target of the CUDA kernels that can be read or counted without a device, with the "
        "worst case of each and the verdict that follows from it; `measurements.csv` has every "
        "case.\n\n"
        "Shares of multiply-adds, registers and memory are read from the machine code that a "
        "launch would load. Tiles are rows x columns x depth. Sectors, wavefronts and passes are "
        "counted on the simulator, on maps "
        f"{WIDTH} wide: each operator at d = {', '.join('{} x {}'.format(*d) for d in DILATIONS)} "
        "with all its blocks, the convolutions with each tile for one block or two. Work and "
        f"workspace are those of the zoo's nets for {SIZE} x {SIZE} pixels, dense, and for "
        f"{BATCH} patches. Each net was compiled in one process that had compiled nothing; its "
        "seconds include reading the code back, and waiting where the machine had other work.\n\n"
        "An element that a line of source names twice counts as read twice, though the compiler "
        "may load it once, and caches count for nothing."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> None:
    """None."""


def table(rows: list[dict]) -> str:
    """The Markdown table: a line for each target and kind of kernel, with its worst case."""
    groups = {}
    for row in rows:
        groups.setdefault((row["target"], row["of"]), []).append(row)
    lines, met = [], 0
    for (name, of), own in groups.items():
        target = TARGETS[name]
        worst, good = target.worst(own), sum(map(target.holds, own))
        met += good == len(own)
        verdict = MET if good == len(own) else f"**{NOT_MET}** by {len(own) - good} of {len(own)}"
        values = [target.text, of, _bound(target), format(worst["value"], target.form)]
        lines.append(f"| {' | '.join([*values, worst['case'], str(len(own)), verdict])} |")
    return "\n".join(
        [
            f"{met} of {len(lines)} lines are met.",
            "",
            "| target | of | bound | worst | where | cases | verdict |",
            f"|{'---|' * 7}",
            *lines,
        ]
    )


def _bound(target):
    return f"{'at least' if target.least else 'at most'} {format(target.bound, target.form)}"
