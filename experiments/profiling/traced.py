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
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from experiments.profiling.operators import Arrays, Case

ROOT = Path(__file__).parents[2]
WARP, SECTOR, BANKS, BANK_BYTES = 32, 32, 32, 4
MOST_THREADS, MOST_WAITING_THREADS = 2048, 64
"""Threads of one launch that are traced, in whole blocks spread over the grid, where they are
independent and where they wait for each other; at least one block."""

FEW_STEPS, FEW_PIXELS = 24, 96
"""Steps of a main loop that are enough to know all: see ``shortened``."""

LOADS, LOAD_OF_FOUR, CONDITIONAL_LOAD = "kernels/device/loads.py", "load4", "load_if"
"""Functions that load for the line that calls them; some 128 bits at a time, one if told to."""


@dataclass
class Line:
    """What the traced blocks of one launch did to one array on one source line.

    Attributes:
        operator, launch, kernel: what was launched; ``launch`` counts those of the call.
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
        full_requests, full_sectors: requests on feature maps of all 32 threads for as many elements
            inside a row.
        most_beyond: the most sectors that one of these took beyond those that its bytes fill: 0 for
            neighbours that begin at a sector, 1 for neighbours that begin anywhere.
        wavefronts, ideal_wavefronts: of shared memory.
    """

    operator: str
    launch: int
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
    most_beyond: int = 0
    wavefronts: int = 0
    ideal_wavefronts: int = 0

    @property
    def moved(self) -> int:
        """Bytes moved for the bytes asked for."""
        return SECTOR * self.sectors


def shortened(case: Case) -> Case:
    """The case with fewer steps in its convolution's main loop, and the same tiles and maps.

    The simulator has no time for all of them, and each slice of steps does as the one before. The
    gradient by weights steps through pixels: its maps lose rows.
    """
    n, c, h, w = case.shape
    if case.kernel == (h, w):  # a fully connected layer
        match case.operator:
            case "convolution.forward":
                return replace(case, shape=(n, min(c, -(-FEW_STEPS // (h * w))), h, w))
            case "convolution.gradient_input":
                return replace(case, filters=min(case.filters, FEW_STEPS))
            case "convolution.gradient_weights":
                return replace(case, shape=(min(n, FEW_STEPS), c, h, w))
        return case
    kernel = tuple(min(k, 3) for k in case.kernel)
    match case.operator:
        case "convolution.forward":
            channels = min(c, -(-FEW_STEPS // (kernel[0] * kernel[1])))
            return replace(case, shape=(n, channels, h, w), kernel=kernel)
        case "convolution.gradient_input":
            kernel = tuple(min(k, 2) for k in case.kernel)
            return replace(case, filters=min(case.filters, 8), kernel=kernel)
        case "convolution.gradient_weights":
            rows = min(case.output[2], -(-FEW_PIXELS // case.output[3]))
            n = min(n, -(-FEW_PIXELS // (rows * case.output[3])))
            h = (case.kernel[0] - 1) * case.dilation[0] + 1 + (rows - 1) * case.stride[0]
            return replace(case, shape=(n, min(c, 16), h, w))
    return case


def trace(cases: list[Case], *, whole: bool = False, seed: int = 0) -> Iterator[list[Line]]:
    """The accesses of each case's launches in turn, counted in a process of its own.

    Args:
        whole: trace all blocks, however many.
        seed: of the arrays' random numbers.

    Raises:
        RuntimeError: that process failed; the message ends with what it said.
    """
    task = {"cases": [case.to_json() for case in cases], "whole": whole, "seed": seed}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.profiling.traced"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            cwd=ROOT,
            env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        )
        with process:
            process.stdin.write(json.dumps(task))
            process.stdin.close()
            for answer in process.stdout:
                yield [Line(**line) for line in json.loads(answer)]
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"the simulator failed: {said.read().strip()[-2000:]}")


def _main() -> None:
    from kernels.device import api

    api.SMALL_BLOCKS = False
    task = json.load(sys.stdin)
    for case in task["cases"]:
        lines = _case_lines(Case.of_json(case), task["whole"], task["seed"])
        print(json.dumps([asdict(line) for line in lines]), flush=True)


def _case_lines(case: Case, whole: bool, seed: int) -> list[Line]:
    from experiments.profiling import calls
    from kernels.device.simulator import simulate

    call = calls.of_case(case, Arrays(seed))
    widths = {array.__array_interface__["data"][0]: array.shape[-1] for array in call.maps}
    lines = []
    for number, launch in enumerate(call.launches):
        lines += launch_lines(launch, (case.operator, number), widths, whole)
        if launch.independent and number + 1 < len(call.launches):
            # Later launches may read addresses that this one makes
            every = range(launch.blocks[0])
            simulate(launch, every, lambda function, arguments: function(*arguments))
    return lines


def launch_lines(launch, which, widths, whole) -> list[Line]:
    """The accesses of one launch, in a process that simulates.

    Args:
        launch: a ``launching.Launch``.
        which: the operator's name and the number of the launch.
        widths: of the feature maps among its arrays, by their addresses.
        whole: trace all blocks.
    """
    from kernels.device.simulator import simulate

    count = int(np.prod(launch.blocks))
    most = MOST_THREADS if launch.independent else MOST_WAITING_THREADS
    most = count if whole else max(1, most // launch.threads)
    chosen = min(count, most)
    blocks = [(2 * number + 1) * count // (2 * chosen) for number in range(chosen)]
    tracer = _Tracer(launch.function)
    names = launch.function.__code__.co_varnames
    arguments = tuple(
        _Watched(tracer, array, name) if isinstance(array, np.ndarray) else array
        for name, array in zip(names, launch.arguments)
    )
    for array in arguments:
        if isinstance(array, _Watched):
            array.width = widths.get(array.array.__array_interface__["data"][0])
    simulate(
        launch._replace(arguments=arguments),
        blocks,
        tracer.run,
        lambda array: _Watched(tracer, array, None),
    )
    common = (*which, launch.function.__name__, len(blocks) / count)
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


@dataclass(eq=False, slots=True)
class _Spot:
    """An instruction: its source line, and the first lines of the loops around it."""

    file: str
    line: int
    around: list


@dataclass(eq=False, slots=True)
class _Place:
    """Where threads of a warp do something together: at one spot, in the same turn of every loop.

    Attributes:
        spot: that accesses memory.
        main_loop: whether this is inside a loop that holds a barrier.
        load: the function of ``LOADS`` that loads for the spot, or None.
    """

    spot: _Spot
    main_loop: bool
    load: str | None


class _Tracer:
    """Notes the accesses of the threads of one launch.

    A path is the number of a sequence of calls from the kernel to a frame, with the turns of the
    loops around each; all threads share the paths and the places on them.
    """

    def __init__(self, kernel):
        self._kernel = kernel.__code__
        self._logs, self._spots, self._paths, self._places = {}, {}, {}, {}
        self._own = threading.local()

    def run(self, function, arguments):
        """Run one thread."""
        me, own = threading.current_thread(), self._own
        block = (me.blockIdx.x, me.blockIdx.y, me.blockIdx.z)
        own.log = self._logs[block, me.threadIdx.x] = []
        own.turns, own.times, own.paths = {}, {}, {}
        sys.settrace(self._enter)
        try:
            function(*arguments)
        finally:
            sys.settrace(None)

    def _enter(self, frame, event, argument):
        """Count the turns of a function's loops, where threads may part."""
        loops = _loops_of(frame.f_code)
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
        frame, load = sys._getframe(2), None
        while frame.f_code.co_filename.endswith(LOADS):
            load, frame = frame.f_code.co_name, frame.f_back
        path = own.paths.get(frame)
        if path is None:
            path = self._path(frame)
        key = (path, load, self._at(frame))
        place = self._places.get(key)
        if place is None:
            place = _Place(self._spot(frame), self._in_main_loop(frame), load)
            self._places[key] = place
        own.times[place] = time = own.times.get(place, 0) + 1
        own.log.append((place, time, array, int(index), stored))

    def _path(self, frame):
        """The path to a frame: its callers wait while it runs, so it stays the same."""
        paths = self._own.paths
        if frame.f_code is self._kernel:
            paths[frame] = 0
        elif frame not in paths:
            before = self._path(frame.f_back)
            key = (before, self._at(frame.f_back))
            paths[frame] = self._paths.setdefault(key, len(self._paths) + 1)
        else:
            while next(reversed(paths)) is not frame:  # those have returned
                paths.popitem()
        return paths[frame]

    def _at(self, frame):
        """The instruction where a frame is, and the turns of the loops around it."""
        turns = self._own.turns.get(frame)
        if not turns:
            return frame.f_lasti
        return (frame.f_lasti, *[turns.get(first, 0) for first in self._spot(frame).around])

    def _in_main_loop(self, frame):
        """Whether a frame is inside a loop that holds a barrier, of its function or of a caller."""
        while _loops_of(frame.f_code).barred.isdisjoint(self._spot(frame).around):
            if frame.f_code is self._kernel:
                return False
            frame = frame.f_back
        return True

    def _spot(self, frame):
        """Where a frame is; to ask it for its line takes long, and so does the hash of its code."""
        key = id(frame.f_code), frame.f_lasti
        spot = self._spots.get(key)
        if spot is None:
            line, loops = frame.f_lineno, _loops_of(frame.f_code)
            around = [first for first, last in loops.last.items() if first <= line <= last]
            self._spots[key] = spot = _Spot(frame.f_code.co_filename, line, around)
        return spot

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


def _loops_of(code) -> _Loops:
    return _loops(code.co_filename, code.co_firstlineno)


@cache
def _loops(file, first_line) -> _Loops:
    if not file.startswith(str(ROOT)) or file == __file__:
        return _Loops(False, {}, set())
    function = _functions(file).get(first_line)
    nodes = list(ast.walk(function)) if function else []
    part = any(isinstance(node, ast.While | ast.If | ast.IfExp) for node in nodes)
    part = part or CONDITIONAL_LOAD in {getattr(node, "id", None) for node in nodes}
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


@dataclass
class _Request:
    """An access that threads of a warp make together; ``words`` neighbours each."""

    place: _Place
    array: _Watched
    stored: bool
    lanes: list
    indices: list
    words: int = 1


def _requests(logs) -> list[_Request]:
    found = {}
    for lane, log in enumerate(logs):
        for place, time, array, index, stored in log:
            request = found.get((place, time, array))
            if request is None:
                found[place, time, array] = request = _Request(place, array, stored, [], [])
            request.lanes.append(lane)
            request.indices.append(index)
    return list(found.values())


def _merged(requests):
    """The requests, with the neighbours in shared memory that are compiled to one access joined."""
    at = 0
    while at < len(requests):
        request = requests[at]
        words = 1
        if request.array.shared or (request.place.load or "").startswith(LOAD_OF_FOUR):
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
        and other.place.spot is first.place.spot
        and other.lanes == first.lanes
        and all(b == a + n for a, b in zip(first.indices, other.indices))
        for n, other in enumerate(requests)
    )


def _count(request, common, lines):
    array, place, spot = request.array, request.place, request.place.spot
    key = (spot.file, spot.line, place.main_loop, id(array), request.stored)
    if key not in lines:
        lines[key] = Line(
            *common,
            file=str(Path(spot.file).relative_to(ROOT)),
            line=spot.line,
            text=linecache.getline(spot.file, spot.line).strip(),
            array=array.name or "shared",
            memory="shared" if array.shared else "global",
            access="store" if request.stored else "load",
            itemsize=array.dtype.itemsize,
            is_map=array.width is not None,
            main_loop=place.main_loop,
        )
    line, first = lines[key], np.array(request.indices)
    indices = first[:, None] + np.arange(request.words)
    asked = np.unique(indices).size * line.itemsize
    line.requests += 1
    line.asked += asked
    if array.shared:
        wavefronts, ideal = _wavefronts(np.array(request.lanes), first, line, request.words)
        line.wavefronts += wavefronts
        line.ideal_wavefronts += ideal
        return
    sectors = np.unique(indices * line.itemsize // SECTOR).size
    line.sectors += sectors
    in_a_row = array.width and np.unique(indices // array.width).size == 1
    if in_a_row and np.unique(first).size == WARP:
        line.full_requests += 1
        line.full_sectors += sectors
        line.most_beyond = max(line.most_beyond, sectors - asked // SECTOR)


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
