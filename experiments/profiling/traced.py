"""Memory accesses, counted by source line on the simulator: no device, and no times.

Kernels see arrays that note every access: which line, which element, which turns of the loops
around it. From that follows which threads of a warp access memory together, as on a device, where
threads that took different branches meet again behind them. Counted then are:

* global memory: requests of warps and the sectors of 32 bytes that each touches. Arrays begin at
  sectors, as allocations do; no cache is modelled.
* shared memory: wavefronts, the passes over 32 banks of 4 bytes that a request takes. Ideally they
  are as many as 128 bytes need: 1, or 2 and 4 for 64 and 128 bits a thread. Where the neighbours
  that one line reads or writes in turn are aligned, they count as one access, as they are compiled.

``trace`` starts a process for the simulator, which blocks of real size need for themselves.
"""

from __future__ import annotations

import ast
import json
import linecache
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from experiments.profiling.operators import Arrays, Case

ROOT = Path(__file__).parents[2]
WARP, SECTOR, BANKS, BANK_BYTES = 32, 32, 32, 4
MOST_THREADS, MOST_WAITING_THREADS = 2048, 256
"""Threads of one launch that are traced, in whole blocks spread over the grid, where they are
independent and where they wait for each other; at least one block."""


@dataclass
class Line:
    """What the traced blocks of one launch did to one array on one source line.

    Attributes:
        operator, kernel: what was launched.
        share: traced blocks over launched ones.
        file, line, text: where.
        array: the kernel's name for it.
        itemsize: bytes of an element.
        memory: ``global`` or ``shared``.
        access: ``load`` or ``store``.
        is_map: whether the array is a feature map.
        main_loop: whether this is inside the loop that holds the barriers.
        requests: of warps.
        asked: bytes that their threads asked for, each counted once a request.
        sectors: of 32 bytes, distinct in a request; 0 for shared memory.
        full_requests, full_sectors, worst: requests on feature maps by all 32 threads inside a row,
            their sectors, and the most that one of them took.
        wavefronts, ideal_wavefronts: of shared memory.
    """

    operator: str
    kernel: str
    share: float
    file: str
    line: int
    text: str
    array: str
    memory: str
    access: str
    itemsize: int
    is_map: bool
    main_loop: bool
    requests: int = 0
    asked: int = 0
    sectors: int = 0
    full_requests: int = 0
    full_sectors: int = 0
    worst: int = 0
    wavefronts: int = 0
    ideal_wavefronts: int = 0

    @property
    def moved(self) -> int:
        """Bytes moved for the bytes asked for."""
        return SECTOR * self.sectors


def trace(cases: list[Case], seed: int = 0) -> list[list[Line]]:
    """The accesses of each case's launches, counted in a process of its own.

    Raises:
        RuntimeError: that process failed; the message ends with what it said.
    """
    task = json.dumps({"cases": [case.to_json() for case in cases], "seed": seed})
    done = subprocess.run(
        [sys.executable, "-m", "experiments.profiling.traced"],
        input=task,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"the simulator failed: {done.stderr.strip()[-2000:]}")
    return [[Line(**line) for line in lines] for lines in json.loads(done.stdout)]


def _main() -> None:
    from kernels import cuda_api

    cuda_api.SMALL_BLOCKS = False
    task = json.load(sys.stdin)
    traced = [_case_lines(Case.of_json(case), task["seed"]) for case in task["cases"]]
    json.dump([[asdict(line) for line in lines] for lines in traced], sys.stdout)


def _case_lines(case: Case, seed: int) -> list[Line]:
    from experiments.profiling import calls
    from kernels import cuda_api

    call = calls.of_case(case, Arrays(seed))
    widths = {array.__array_interface__["data"][0]: array.shape[-1] for array in call.maps}
    lines = []
    for number, launch in enumerate(call.launches):
        lines += _launch_lines(launch, case.operator, widths)
        if launch.independent and number + 1 < len(call.launches):
            # Later launches may read addresses that this one makes
            every = range(launch.blocks[0])
            cuda_api.simulate(launch, every, lambda function, arguments: function(*arguments))
    return lines


def _launch_lines(launch, operator, widths) -> list[Line]:
    from kernels import cuda_api

    count = int(np.prod(launch.blocks))
    most = MOST_THREADS if launch.independent else MOST_WAITING_THREADS
    most = max(1, most // launch.threads)
    blocks = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    tracer = _Tracer(launch.function)
    names = launch.function.__code__.co_varnames
    arguments = tuple(
        _Watched(tracer, array, name) if isinstance(array, np.ndarray) else array
        for name, array in zip(names, launch.arguments)
    )
    for array in arguments:
        if isinstance(array, _Watched):
            array.width = widths.get(array.array.__array_interface__["data"][0])
    cuda_api.simulate(
        launch._replace(arguments=arguments),
        blocks,
        tracer.run,
        lambda array: _Watched(tracer, array, None),
    )
    common = (operator, launch.function.__name__, len(blocks) / count)
    lines: dict[tuple, Line] = {}
    for threads in tracer.warps():
        for request in _merged(_requests(threads)):
            _count(request, common, lines)
    return list(lines.values())


class _Watched:
    """An array whose accesses the tracer notes; without a name it is shared memory."""

    def __init__(self, tracer, array, name):
        self.array, self.size, self.dtype = array, array.size, array.dtype
        self.name, self.shared, self.width = name, name is None, None
        self._tracer = tracer

    def __getitem__(self, index):
        self._tracer.note(self, index, False)
        return self.array[index]

    def __setitem__(self, index, value):
        self._tracer.note(self, index, True)
        self.array[index] = value


class _Tracer:
    """Notes the accesses of the threads of one launch.

    ``place`` of an access is the path of calls to it, and the turns of the loops around each.
    """

    def __init__(self, kernel):
        self._kernel = kernel.__code__
        self._logs = {}
        self._own = threading.local()

    def run(self, function, arguments):
        """Run one thread."""
        me = threading.current_thread()
        block = (me.blockIdx.x, me.blockIdx.y, me.blockIdx.z)
        self._own.log = self._logs[block, me.threadIdx.x] = []
        self._own.turns, self._own.times = {}, Counter()
        sys.settrace(self._enter)
        try:
            function(*arguments)
        finally:
            sys.settrace(None)

    def _enter(self, frame, event, argument):
        """Count the turns of a function's loops, where threads may part."""
        loops = _loops(frame.f_code)
        if not loops.part:
            return None
        turns = self._own.turns[frame] = {}
        before = frame.f_lineno

        def step(frame, event, argument):
            nonlocal before
            if event == "line":
                line = frame.f_lineno
                last = loops.last.get(line)
                if last is not None:
                    turns[line] = turns[line] + 1 if line <= before <= last else 0
                before = line
            elif event == "return":
                del self._own.turns[frame]
            return step

        return step

    def note(self, array, index, stored):
        """Note an access by the function two frames up."""
        own = self._own
        frame = sys._getframe(2)
        code, line = frame.f_code, frame.f_lineno
        path = []
        while True:
            around, turns = _around(frame.f_code, frame.f_lineno), own.turns.get(frame)
            path.append(frame.f_lasti)
            if turns:
                path += [turns.get(first, 0) for first in around]
            if frame.f_code is self._kernel:
                break
            frame = frame.f_back
        in_main_loop = not _loops(self._kernel).barred.isdisjoint(around)
        place = (code, line, in_main_loop, tuple(path))
        own.times[place] += 1
        own.log.append(((*place, own.times[place]), array, int(index), stored))

    def warps(self):
        """The logs of the threads of each warp."""
        logs = {}
        for (block, thread), log in sorted(self._logs.items(), key=lambda item: item[0]):
            logs.setdefault((block, thread // WARP), []).append(log)
        return logs.values()


@dataclass
class _Loops:
    """The loops of a function.

    Attributes:
        part: whether its threads may take different paths; else each does the same in turn.
        last: their last lines by their first.
        barred: the first lines of those that hold a barrier.
    """

    part: bool
    last: dict
    barred: set


@cache
def _functions(file):
    tree = ast.parse("".join(linecache.getlines(file)))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {min([f.lineno, *(d.lineno for d in f.decorator_list)]): f for f in functions}


@cache
def _loops(code) -> _Loops:
    file = Path(code.co_filename)
    if "kernels" not in file.parts:
        return _Loops(False, {}, set())
    function = _functions(code.co_filename).get(code.co_firstlineno)
    nodes = list(ast.walk(function)) if function else []
    part = any(isinstance(node, ast.While | ast.If | ast.IfExp) for node in nodes)
    loops = sorted(
        (node for node in nodes if isinstance(node, ast.While | ast.For)),
        key=lambda node: node.lineno,
    )
    barred = {
        loop.lineno
        for loop in loops
        for node in ast.walk(loop)
        if isinstance(node, ast.Attribute) and node.attr == "syncthreads"
    }
    return _Loops(part, {loop.lineno: loop.end_lineno for loop in loops}, barred)


@cache
def _around(code, line):
    """The first lines of the loops around a line, outermost first."""
    return [first for first, last in _loops(code).last.items() if first <= line <= last]


@dataclass
class _Request:
    """An access that threads of a warp make together; ``words`` neighbours each."""

    place: tuple
    array: _Watched
    stored: bool
    lanes: list
    indices: list
    words: int = 1


def _requests(logs) -> list[_Request]:
    found = {}
    for lane, log in enumerate(logs):
        for place, array, index, stored in log:
            request = found.get((place, array))
            if request is None:
                found[place, array] = request = _Request(place, array, stored, [], [])
            request.lanes.append(lane)
            request.indices.append(index)
    return list(found.values())


def _merged(requests):
    """The requests, with the neighbours in shared memory that are compiled to one access joined."""
    at = 0
    while at < len(requests):
        request = requests[at]
        words = 1
        if request.array.shared:
            words = next((n for n in (4, 2) if _is_one_access(requests[at : at + n], n)), 1)
        request.words = words
        yield request
        at += words


def _is_one_access(requests, words):
    first = requests[0]
    itemsize = first.array.dtype.itemsize
    if len(requests) < words or words * itemsize > 16:
        return False
    return not any(index % words for index in first.indices) and all(
        other.array is first.array
        and other.stored == first.stored
        and other.place[:2] == first.place[:2]
        and other.lanes == first.lanes
        and all(b == a + n for a, b in zip(first.indices, other.indices))
        for n, other in enumerate(requests)
    )


def _count(request, common, lines):
    array, (code, number, in_main_loop, *_) = request.array, request.place
    key = (code, number, in_main_loop, id(array), request.stored)
    if key not in lines:
        lines[key] = Line(
            *common,
            file=str(Path(code.co_filename).relative_to(ROOT)),
            line=number,
            text=linecache.getline(code.co_filename, number).strip(),
            array=array.name or "shared",
            memory="shared" if array.shared else "global",
            access="store" if request.stored else "load",
            itemsize=array.dtype.itemsize,
            is_map=array.width is not None,
            main_loop=in_main_loop,
        )
    line, indices = lines[key], np.array(request.indices)
    line.requests += 1
    line.asked += np.unique(indices).size * line.itemsize * request.words
    if array.shared:
        wavefronts, ideal = _wavefronts(np.array(request.lanes), indices, line, request.words)
        line.wavefronts += wavefronts
        line.ideal_wavefronts += ideal
        return
    sectors = np.unique(indices * line.itemsize // SECTOR).size
    line.sectors += sectors
    if array.width and indices.size == WARP and np.unique(indices // array.width).size == 1:
        line.full_requests += 1
        line.full_sectors += sectors
        line.worst = max(line.worst, sectors)


def _wavefronts(lanes, indices, line, words):
    """(wavefronts, the least number) of a request for ``words`` neighbours a thread."""
    width = words * line.itemsize // BANK_BYTES
    first = indices * line.itemsize // BANK_BYTES
    touched = first[:, None] + np.arange(width)
    phases = lanes // (WARP // width)
    wavefronts = 0
    for phase in np.unique(phases):
        distinct = np.unique(touched[phases == phase])
        wavefronts += np.bincount(distinct % BANKS).max()
    return int(wavefronts), np.unique(phases).size


if __name__ == "__main__":
    _main()
