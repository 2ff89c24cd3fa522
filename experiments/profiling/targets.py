"""The list of targets: facts that were read or counted, and the verdict of each bound.

Nothing here needs a device. Machine code is read of every kernel that a net of the zoo
launches, and of the convolutions with every tile. Memory accesses are counted on the simulator: of
every operator in the dense form at several d, and of the convolutions with every tile. Work and
workspace are counted of every layer of the zoo.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
from tqdm import tqdm

from experiments.profiling import bounds, calls, compiled, roofline, simulation
from experiments.profiling.bounds import BOUNDS, FEW_CLASSES, LARGE_WINDOW
from experiments.profiling.calls import Call
from experiments.profiling.compiled import WIDTH
from experiments.profiling.counter import Line
from experiments.profiling.devices import Capability
from experiments.profiling.operators import OPERATORS, OperatorCase
from kernels.device import launching, machine_code
from kernels.device.multiprocessors import RECORDED
from net.zoo import ZOO

SIZE, BATCH = 256, 64
"""Labelled pixels a side of the zoo's dense nets, and patches of its patch nets."""
BATCHES = 1024, 4096
"""Patches that scanning runs together on a GPU, which fewer cannot fill."""
DILATIONS = ((1, 1), (2, 3), (8, 8))
LISTED_MAP = 60, WIDTH
LAST_MAP = SIZE + 12, SIZE + 12
"""What the first fully connected layer of ``lenet28`` reads."""
COLUMNS = {"target": str, "of": str, "case": str, "value": int | float}
MET, NOT_MET = "met", "not met"


def measure(capabilities: list[Capability]) -> list[dict]:
    """The rows of ``bounds.fact``, one for each thing that was read or counted.

    Args:
        capabilities: the compute capabilities to compile for; the time to compile is measured for
            the last one.
    """
    rows = [*_compiled_nets(capabilities[-1])]
    rows += itertools.chain.from_iterable(map(launched_facts, ZOO))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        tiles = [*itertools.product(compiled.tile_cases(), capabilities)]
        lists = [*itertools.product(compiled.listed_cases(), capabilities)]
        codes = {tile: pool.submit(compiled.code_of, *tile) for tile in tiles + lists}
        rows += _traced()
        for tile in tqdm(tiles, desc="tiles", unit="kernel", leave=False):
            rows += compiled.facts_of_tile(*tile, codes[tile].result())
        for case, capability in tqdm(lists, desc="lists", unit="kernel", leave=False):
            both = (case, capability), (compiled.of_maps(case), capability)
            rows += compiled.facts_of_list(case, capability, [codes[c].result() for c in both])
    order = list(BOUNDS)
    return sorted(rows, key=lambda row: (order.index(row["target"]), row["of"]))


def dense_case(operator: str, dilation=(2, 3)) -> OperatorCase:
    """An operator in the dense form on a map ``WIDTH`` wide, with d where it has a window."""
    of_window = {"dilation": dilation}
    match operator.split("."):
        case ["convolution", "gradient_bias"]:
            return OperatorCase(operator, (1, 2, 8, WIDTH))
        case ["convolution", direction]:
            rows, filters = (2, 20) if direction == "forward" else (1, 8)
            shape = 1, 3, dilation[0] + rows, WIDTH
            return OperatorCase(operator, shape, filters, kernel=(2, 2), **of_window)
        case ["max_pooling" | "average_pooling", _]:
            shape = 1, 2, 2 * dilation[0] + 4, WIDTH
            return OperatorCase(operator, shape, kernel=(3, 2), **of_window)
        case ["patches", _]:
            return OperatorCase(operator, (1, 2, 8, WIDTH), kernel=(4, 140))
    return OperatorCase(operator, (1, 2, 8, WIDTH))


def large_pooling(dilation) -> OperatorCase:
    """Max pooling with large windows, a whole number of blocks."""
    rows, columns = (n + 7 * d for n, d in zip((16 * dilation[0], 128), dilation))
    window = {"kernel": LARGE_WINDOW, "dilation": dilation}
    return OperatorCase("max_pooling.forward", (1, 1, rows, columns), **window)


def list_cases() -> Iterator[OperatorCase]:
    """Operators over lists as the layers of a dense form take them: poolings of stride 2, and
    convolutions inside of a net and at its end."""
    for direction, channels, filters in (
        ("forward", 4, 20),
        ("gradient_input", 20, 16),
        ("gradient_weights", 4, 8),
    ):
        shape, window = (1, channels, *LISTED_MAP), {"kernel": (2, 3), "dilation": (2, 2)}
        yield OperatorCase(f"listed_convolution.{direction}", shape, filters, **window)
        shape, window = (1, channels, *LAST_MAP), {"kernel": (4, 4), "dilation": (4, 4)}
        yield OperatorCase(
            f"listed_convolution.{direction}", shape, filters, **window, isolated=True
        )
    for direction in ("forward", "backward"):
        window = {"kernel": (2, 2), "stride": (2, 2), "dilation": (2, 2)}
        yield OperatorCase(f"listed_max_pooling.{direction}", (1, 5, *LISTED_MAP), **window)
    for function in ("gather", "gather_backward"):
        yield OperatorCase(f"listed_cells.{function}", (1, 3, *LISTED_MAP), kernel=(3, 3))


def _compiled_nets(capability):
    """Facts about the kernels of each net's dense form, compiled in a fresh process."""
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
    rows = [bounds.fact("compile", compiled.name_of(capability), case, seconds)]
    of = f"every kernel of the nets, {compiled.name_of(capability)}"
    for name, code in codes:
        rows += compiled.facts_of_code(of, f"{net}, {name}", code)
    return rows


def launched_facts(net: str) -> Iterator[dict]:
    """The work and the workspace of every layer of a net, and what its passes leave idle."""
    yield from idle_facts(net)
    for form in ("dense", "patch"):
        for call in calls.of_net(net, SIZE, form, batch=BATCH, backward=True):
            where = f"{net}, {call.layer}"
            yield from waste_facts(call, form, where)
            yield from workspace_facts(call, form, where)


def idle_facts(net: str) -> Iterator[dict]:
    """Facts of idle multiprocessors in a pass, and in each of its launches: of a net's dense form,
    and of its patch form with ``BATCHES``."""
    for form, batch in (("dense", 1), *(("patch", batch) for batch in BATCHES)):
        every = calls.of_net(net, SIZE, form, batch=batch, backward=True)
        of = "dense form" if form == "dense" else f"patch form, {batch} patches"
        shares = roofline.idle_shares(every, RECORDED.count)
        yield bounds.fact("idle", of, net, sum(share for *_, share in shares))
        for number, (call, launch, share) in enumerate(shares, 1):
            blocks = " x ".join(map(str, launch.blocks))
            case = f"{net}, {number}, {call.layer}: {call.case}, {launch.function.__name__}"
            case += f", {blocks} blocks"
            yield bounds.fact("idle, launch", of, case, share)


def waste_facts(call: Call, form: str, where: str) -> Iterator[dict]:
    """The multiply-adds that a call wastes; of a layer of classes, for every number of classes.

    Args:
        form: the form that the call belongs to.
        where: its net and layer.
    """
    case, of = call.case, f"{form} form, {call.operator}"
    if not call.multiply_adds or not BOUNDS["waste"].applies(case):
        return
    alike = [call]
    if case.filters in FEW_CLASSES:
        alike = [calls.of_case(replace(case, filters=classes)) for classes in FEW_CLASSES]
    for one in alike:
        executed = sum(roofline.executed_multiply_adds(one, launch) for launch in one.launches)
        wasted = (executed - one.multiply_adds) / executed
        yield bounds.fact("waste", of, f"{where}: {one.case}", wasted)


def workspace_facts(call: Call, form: str, where: str) -> Iterator[dict]:
    """What a call allocates beside its result; arguments as ``waste_facts``."""
    of, case = f"{form} form", f"{where}: {call.case}"
    match call.operator:
        case "convolution.gradient_input":
            copied, weights = _workspace_bytes(call), call.given["weights"].nbytes
            sizes = f", {copied / 1e3:.1f} kB beside {weights / 1e3:.1f} kB"
            yield bounds.fact("workspace", of, case + sizes, copied / weights)
        case "convolution.gradient_weights":
            yield bounds.fact("partial", of, case, _workspace_bytes(call) / 2**20)
        case "max_pooling.forward":
            yield bounds.fact("argmax", of, case, call.result[1].itemsize)


def _workspace_bytes(call):
    """Bytes of the floats that a call allocates: copies of maps and weights, partial sums."""
    given = {_address(array) for array in call.inputs + call.outputs}
    arrays = [
        a for launch in call.launches for a in arrays_of(launch).values() if a.dtype.kind == "f"
    ]
    return sum({_address(a): a.nbytes for a in arrays if _address(a) not in given}.values())


def arrays_of(launch: launching.Launch) -> dict[str, np.ndarray]:
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
        OperatorCase(f"convolution.{direction}", shape, filters)
        for direction, channels, filters in (("forward", 64, 20), ("gradient_input", 20, 64))
        for shape in ((1, channels, 2, WIDTH), (64, channels, 1, 1))
    ]
    every += [large_pooling(d) for d in DILATIONS if max(d) < 8]
    every.append(large_pooling((2, 8)))
    tiles, listed = [tile.case for tile in compiled.tile_cases()], [*list_cases()]
    total = len(every) + len(tiles) + len(listed)
    with tqdm(total=total, desc="simulate", unit="call", leave=False) as progress:
        for cases, whole, facts in (
            (every, True, access_facts),
            (tiles, False, access_facts),
            (listed, False, list_facts),
        ):
            for case, lines in zip(cases, simulation.trace(cases, whole=whole)):
                yield from facts(case, lines)
                progress.update()


def access_facts(case: OperatorCase, lines: list[Line]) -> Iterator[dict]:
    """Sectors, wavefronts and repeated accesses of a traced case."""
    operator, by_launch = case.operator.split(".")[0], {}
    for line in lines:
        by_launch.setdefault((line.launch, line.kernel), []).append(line)
    for (number, kernel), of_launch in by_launch.items():
        maps = [line for line in of_launch if line.is_map]
        if any(line.full_requests for line in maps):
            yield bounds.fact("beyond", operator, case, max(line.most_beyond for line in maps))
        if maps and BOUNDS["sectors"].applies(case):
            sectors = sum(line.sectors for line in maps) / sum(line.requests for line in maps)
            yield bounds.fact("sectors", operator, case, sectors)
        shared = [line for line in of_launch if line.memory == "shared" and line.main_loop]
        yield from _conflicts(kernel, case, shared)
        arrays = arrays_of(calls.of_case(case).launches[number])
        if BOUNDS["passes"].applies(case):
            yield from _passes(case, arrays, maps)
        if BOUNDS["reads"].applies(case):
            read = sum(line.asked for line in maps if line.access == "load") / arrays["y"].nbytes
            yield bounds.fact("reads", kernel, case, read)
        if shared and BOUNDS["taps"].applies(case):
            reads = [line for line in of_launch if line.main_loop and line.memory == "global"]
            places = [line for line in reads if arrays[line.array].dtype.kind in "iu"]
            yield bounds.fact("taps", kernel, case, sum(line.requests for line in places))


def list_facts(case: OperatorCase, lines: list[Line]) -> Iterator[dict]:
    """Sectors and wavefronts of each kernel of a traced case that reads or writes lists."""
    for kernel in dict.fromkeys(line.kernel for line in lines):
        of_kernel = [line for line in lines if line.kernel == kernel]
        lists = [line for line in of_kernel if line.is_map]
        for bound in ("sectors, lists", "sectors, isolated"):
            if lists and BOUNDS[bound].applies(case):
                sectors = sum(line.sectors for line in lists) / sum(line.requests for line in lists)
                yield bounds.fact(bound, kernel, case, sectors)
        shared = [line for line in of_kernel if line.memory == "shared" and line.main_loop]
        yield from _conflicts(kernel, case, shared)


def _conflicts(kernel, case, shared):
    if shared:
        ideal = sum(line.ideal_wavefronts for line in shared)
        wavefronts = sum(line.wavefronts for line in shared) / ideal
        yield bounds.fact("conflicts", kernel, case, wavefronts)


def _passes(case, arrays, maps):
    times = {}
    for line in maps:
        key = line.access, line.array
        times[key] = times.get(key, 0) + line.asked / arrays[line.array].nbytes
    for (access, array), count in times.items():
        yield bounds.fact("passes", case.operator, f"{access}s of {array}, {case}", count)


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
        f"{BATCH} patches. Idle multiprocessors are counted in both forms, for the batches of "
        f"{' and '.join(map(str, BATCHES))} patches that scanning runs on a GPU, by multiply-adds "
        "and, in launches that have none, by bytes, at an H100's rates. Each net was "
        "compiled in one process that had compiled nothing; its seconds include reading the code "
        "back, and waiting where the machine had other work.\n\n"
        "An element that a line of source names twice counts as read twice, though the compiler "
        "may load it once, and caches count for nothing."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> None:
    """None: the table is enough."""


def table(rows: list[dict]) -> str:
    """The Markdown tables: a line for each target and kind of kernel, and the bounds' reasons."""
    groups = {}
    for row in rows:
        groups.setdefault((row["target"], row["of"]), []).append(row)
    lines, known, met = [], [], 0
    for (name, of), members in groups.items():
        bound = BOUNDS[name]
        worst = bound.worst(row["value"] for row in members)
        where = next(row["case"] for row in members if row["value"] == worst)
        count, missed = len(members), [row for row in members if not bound.holds(row["value"])]
        met += not missed
        verdict = f"**{NOT_MET}** by {len(missed)} of {count}" if missed else MET
        known += dict.fromkeys(filter(None, map(bounds.known_miss, missed)))
        cells = [f"{bound.quantity}: {bound.scope}", of, str(bound), format(worst, bound.form)]
        lines.append(f"| {' | '.join([*cells, where, str(count), verdict])} |")
    judged = [BOUNDS[name] for name in dict.fromkeys(name for name, _ in groups)]
    misses = [
        f"| {BOUNDS[one.target].quantity} | {one.of} | {one.case.rstrip(':, ')} | {one.reason} |"
        for one in known
    ]
    if misses:
        header = ["| target | of | where | why it stays |", f"|{'---|' * 4}"]
        misses = ["", "## Known misses", "", *header, *misses]
    return "\n".join(
        [
            f"{met} of {len(lines)} lines are met.",
            "",
            "| target | of | bound | worst | where | cases | verdict |",
            f"|{'---|' * 7}",
            *lines,
            *misses,
            "",
            "## Why these bounds",
            "",
            "| target | where it holds | bound | why |",
            f"|{'---|' * 4}",
            *(f"| {b.quantity} | {b.scope} | {b} | {b.reason} |" for b in judged),
        ]
    )
