"""What the model counts of a net once: the machine code of its launches, and their sectors.

Counting takes a compiler and Numba's simulator, and minutes; so it is kept. Nothing in it depends
on a device beyond its compute capability.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import prod
from multiprocessing import get_context

from experiments.measuring import host
from experiments.profiling import calls, simulation
from experiments.profiling.calls import Call
from experiments.profiling.counter import Line
from experiments.profiling.devices import Capability
from experiments.profiling.operators import OperatorCase
from experiments.profiling.static import Code, CodeReader
from kernels.device.limits import MAX_ELEMENTS
from kernels.device.machine_code import MachineCode
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


def passes(net: str, size: int) -> list[Pass]:
    """All passes of a net for ``size`` x ``size`` labelled pixels that the model knows."""
    largest = _largest_map(net)
    return [
        Pass(form, batch, backward, calls.of_net(net, size, form, batch=batch, backward=backward))
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
    """The machine code of launches, kept for each net; a context manager.

    A process for each compute capability compiles net after net, each kernel once, while the caller
    counts. What is timed is better timed before.

    Args:
        cache: a ``storing.cache.MeasurementCache``.
        nets: names of nets of the zoo.
        size: labelled pixels a side.
        capabilities: compute capabilities.
    """

    def __init__(self, cache, nets: list[str], size: int, capabilities: Iterable[Capability]):
        self._cache, self._size, self._stack = cache, size, ExitStack()
        self._pending = {}
        for capability in dict.fromkeys(capabilities):
            missing = [net for net in nets if not cache.holds(self._key(net, capability))]
            if missing:
                pool = ProcessPoolExecutor(1, mp_context=get_context("forkserver"))
                self._stack.callback(pool.shutdown, cancel_futures=True)
                for net in missing:
                    self._pending[net, capability] = pool.submit(_read, net, size, capability)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def of(self, net: str, capability: Capability) -> list[list[Code]]:
        """For each pass, for each launch of its calls: the code for the compute capability, or for
        the nearest later one that the compiler knows."""
        stored = self._cache.measured(
            self._key(net, capability), lambda: self._pending[net, capability].result()
        )
        codes = [_code(**values) for values in stored["codes"]]
        return [[codes[number] for number in of_pass] for of_pass in stored["passes"]]

    def _key(self, net, capability):
        return {"net": net, "size": self._size, "capability": capability, "forms": FORMS}


_READER = CodeReader()
"""One for this process, which meets the kernels of one net again in others."""


def _read(net, size, capability):
    codes, numbers = {}, []
    for one in passes(net, size):
        of_pass = []
        for call in one.calls:
            for launch in call.launches:
                code = _READER.nearest(launch, capability)
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
