"""What the model counts of a net once: the machine code of its launches, and their sectors.

Launches are those that the kernels make on a device: it has the tiles that they choose for its
multiprocessors. Counting takes a compiler and Numba's simulator, and minutes; so it is kept. What
devices have in common is counted once: the code of a kernel for each target of the compiler, the
sectors of a call for each tile.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import prod
from multiprocessing import get_context

from experiments.measuring import host
from experiments.profiling import calls, simulation, static
from experiments.profiling.calls import Call
from experiments.profiling.counter import Line
from experiments.profiling.devices import Device
from experiments.profiling.operators import OperatorCase
from experiments.profiling.static import Code
from kernels.device.limits import MAX_ELEMENTS
from kernels.device.machine_code import MachineCode
from kernels.device.multiprocessors import recorded_for
from net import zoo

DENSE, PATCH = "dense", "patch"
BATCHES = (1, 64, 256, 1024, 4096, 16384)
"""Patches that scanning may run together, where kernels can index their maps; the first is scanning
one by one."""
LEAST_TRACED = 64
"""From this batch on, the sectors of a larger one are in proportion where its tile is the same: in
smaller batches the edges of their maps count."""
FORMS = ((DENSE, 1), *((PATCH, batch) for batch in BATCHES))


@dataclass(frozen=True)
class Pass:
    """The calls of a net's pass over an image, or over one batch of patches.

    Attributes:
        form: ``dense`` or ``patch``.
        batch: patches, of the patch form.
        backward: whether the gradients of all parameters are computed, too.
        calls: the calls of operators, in order.
    """

    form: str
    batch: int
    backward: bool
    calls: list[Call]


def passes(net: str, size: int, device: Device) -> list[Pass]:
    """All passes of a net for ``size`` x ``size`` labelled pixels that the model knows, as the
    kernels launch them on a device."""
    largest = _largest_map(net)
    with recorded_for(device.seen_by_kernels):
        return [
            Pass(
                form, batch, backward, calls.of_net(net, size, form, batch=batch, backward=backward)
            )
            for form, batch in FORMS
            if form == DENSE or batch * largest <= MAX_ELEMENTS
            for backward in (False, True)
        ]


def _largest_map(name):
    """Numbers of the largest map of one patch."""
    net = zoo.build(name, backend="cpu")
    maps = (node.output for node in net.nodes.values())
    return max(net.channels * prod(net.patch), *(m.channels * prod(m.size) for m in maps))


class Codes:
    """The machine code of launches, kept for each net and device; a context manager.

    A process for each target of the compiler compiles net after net, each kernel once, while the
    caller counts. What is timed is better timed before.

    Args:
        cache: a ``storing.cache.MeasurementCache``.
        nets: names of nets of the zoo.
        size: labelled pixels a side.
        devices: the devices.
    """

    def __init__(self, cache, nets: list[str], size: int, devices: Iterable[Device]):
        self._cache, self._size, self._stack = cache, size, ExitStack()
        self._pending, pools = {}, {}
        for net, device in itertools.product(nets, devices):
            key = self._key(net, device)
            if not cache.holds(key):
                target = key["target"]
                if target not in pools:
                    pools[target] = ProcessPoolExecutor(1, mp_context=get_context("forkserver"))
                    self._stack.callback(pools[target].shutdown, cancel_futures=True)
                self._pending[net, device] = pools[target].submit(_read, net, size, device)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def of(self, net: str, device: Device) -> list[list[Code]]:
        """For each pass, for each launch of its calls on a device: its code, of the device's target
        (``static.target_of``)."""
        stored = self._cache.measured(
            self._key(net, device), lambda: self._pending[net, device].result()
        )
        codes = [_code(**values) for values in stored["codes"]]
        return [[codes[number] for number in of_pass] for of_pass in stored["passes"]]

    def _key(self, net, device):
        target, seen = static.target_of(device.capability), device.seen_by_kernels
        common = {"net": net, "size": self._size, "forms": FORMS}
        return common | {"target": target, "multiprocessors": seen._asdict()}


_READER = static.CodeReader()
"""One for this process, which meets the kernels of one net again in others."""


def _read(net, size, device):
    codes, numbers, target = {}, [], static.target_of(device.capability)
    for one in passes(net, size, device):
        of_pass = []
        for call in one.calls:
            for launch in call.launches:
                code = _READER.read(launch, target)
                key = id(code.machine_code), code.threads
                of_pass.append(codes.setdefault(key, (len(codes), code))[0])
        numbers.append(of_pass)
    return {"codes": [_values(code) for _, code in codes.values()], "passes": numbers}


def _values(code: Code) -> dict:
    made = code.machine_code
    return {
        "capability": code.capability,
        "threads": code.threads,
        **{name: getattr(made, name) for name in ("registers", "local_bytes", "shared_bytes")},
        **{name: getattr(made, name) for name in ("barriers", "loop_bytes")},
        "instructions": dict(made.instructions),
        "main_loop": dict(made.main_loop),
    }


def _code(capability, threads, instructions, main_loop, **attributes) -> Code:
    counted = {"instructions": Counter(instructions), "main_loop": Counter(main_loop)}
    return Code(MachineCode(**attributes, **counted, text=""), tuple(capability), threads)


def traced_cases(every: list[Pass]) -> list[list[OperatorCase]]:
    """For each pass, for each of its calls: the shortened case whose sectors are counted for it.

    It is that of the smallest batch, of ``LEAST_TRACED`` patches or more, whose launches have the
    same tile. Fewer patches are counted as they are.

    Args:
        every: the passes of a net, smaller batches first.
    """
    first = {}

    def case_of(one, number, call):
        shared = min(one.batch, LEAST_TRACED)
        like = one.form, one.backward, shared, number, call.tile
        return first.setdefault(like, simulation.shortened(call))

    return [[case_of(one, *numbered) for numbered in enumerate(one.calls)] for one in every]


def lines(cache, cases: Iterable[OperatorCase]) -> dict[OperatorCase, list[Line]]:
    """The traced lines of each of the cases."""
    cases = list(dict.fromkeys(cases))
    missing = [case for case in cases if not cache.holds(_traced_key(case))]
    lines_of_cases = simulation.trace(missing)
    measured = [
        cache.measured(_traced_key(case), lambda: [asdict(line) for line in next(lines_of_cases)])
        for case in cases
    ]
    return dict(zip(cases, [[Line(**line) for line in of_case] for of_case in measured]))


def _traced_key(case):
    return {"traced": case.to_json()}


def host_seconds(cache, net: str, size: int) -> tuple[float, float]:
    """The host's time for each launch of a pass forward, and forward and backward.

    Measured here, without the driver's own part, in the dense form: see ``measuring.host``.
    """
    rows = cache.measured({"host": net, "size": size}, lambda: host.measured(net, size, False))
    by_direction = {row["direction"]: row["seconds"] / row["launches"] for row in rows}
    return tuple(by_direction[direction] for direction in host.DIRECTIONS)
