"""Notes which elements of which arrays each thread of a simulated launch accesses, and where.

A kernel is given arrays that note every access: the source line, the element, and the iteration of
every loop around the line. From these follows which threads of a warp access memory together, as on
a device, where threads that took different branches reconverge after them.
"""

from __future__ import annotations

import ast
import linecache
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
WARP = 32
LOADS, CONDITIONAL_LOAD = "kernels/device/loads.py", "load_if"
"""The file of the functions that load on behalf of the line that calls them; the one among them
that may not load."""


class TracedArray:
    """An array whose accesses the tracer notes.

    Args:
        name: the kernel's name for it; None for shared memory.
        width: the length of its rows, where it is a feature map.
    """

    def __init__(self, tracer, array, name, width=None):
        self.array, self.size, self.dtype = array, array.size, array.dtype
        self.name, self.shared, self.width = name, name is None, width
        self._tracer = tracer

    def __getitem__(self, index):
        self._tracer.note(self, index, False)
        return self.array[index]

    def __setitem__(self, index, value):
        self._tracer.note(self, index, True)
        self.array[index] = value


@dataclass(eq=False, slots=True)
class Instruction:
    """An instruction: its source line, and the first lines of the enclosing loops."""

    file: str
    line: int
    around: list


@dataclass(eq=False, slots=True)
class Place:
    """Where threads of a warp act together: one instruction, in one iteration of every loop.

    Attributes:
        instruction: the instruction that accesses memory.
        main_loop: whether it is inside a loop that holds a barrier.
        load: the function of ``LOADS`` that loads on its behalf, or None.
    """

    instruction: Instruction
    main_loop: bool
    load: str | None


class Tracer:
    """Notes the accesses of the threads of one launch.

    A path is the number of a sequence of calls from the kernel to a frame, with the iteration of
    the loops around each call; all threads share the paths and the places on them.
    """

    def __init__(self, kernel):
        self._kernel = kernel.__code__
        self._logs, self._instructions, self._paths, self._places = {}, {}, {}, {}
        self._local = threading.local()

    def run(self, function, arguments):
        """Run one thread."""
        thread, local = threading.current_thread(), self._local
        block = (thread.blockIdx.x, thread.blockIdx.y, thread.blockIdx.z)
        local.log = self._logs[block, thread.threadIdx.x] = []
        local.turns, local.times, local.paths = {}, {}, {}
        sys.settrace(self._enter)
        try:
            function(*arguments)
        finally:
            sys.settrace(None)

    def _enter(self, frame, event, argument):
        """Count the iterations of a function's loops, where threads may diverge."""
        loops = _loops_of(frame.f_code)
        if not loops.diverge:
            return None
        turns = self._local.turns[frame] = {}
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
                del self._local.turns[frame]
            return step

        return step

    def note(self, array, index, stored):
        """Note an access by the function two frames up."""
        local = self._local
        frame, load = sys._getframe(2), None
        while frame.f_code.co_filename.endswith(LOADS):
            load, frame = frame.f_code.co_name, frame.f_back
        path = local.paths.get(frame)
        if path is None:
            path = self._path(frame)
        key = (path, load, self._at(frame))
        place = self._places.get(key)
        if place is None:
            place = Place(self._instruction(frame), self._in_main_loop(frame), load)
            self._places[key] = place
        local.times[place] = time = local.times.get(place, 0) + 1
        local.log.append((place, time, array, int(index), stored))

    def _path(self, frame):
        """The path to a frame; while a frame runs it stays the same, as its callers wait."""
        paths = self._local.paths
        if frame.f_code is self._kernel:
            paths[frame] = 0
        elif frame not in paths:
            before = self._path(frame.f_back)
            key = (before, self._at(frame.f_back))
            paths[frame] = self._paths.setdefault(key, len(self._paths) + 1)
        else:
            while next(reversed(paths)) is not frame:  # frames that have returned
                paths.popitem()
        return paths[frame]

    def _at(self, frame):
        """The instruction where a frame is, and the iterations of the loops around it."""
        turns = self._local.turns.get(frame)
        if not turns:
            return frame.f_lasti
        return (frame.f_lasti, *[turns.get(first, 0) for first in self._instruction(frame).around])

    def _in_main_loop(self, frame):
        """Whether a frame is inside a loop that holds a barrier, of its function or of a caller."""
        while _loops_of(frame.f_code).barred.isdisjoint(self._instruction(frame).around):
            if frame.f_code is self._kernel:
                return False
            frame = frame.f_back
        return True

    def _instruction(self, frame):
        """Where a frame is; cached, as its line is slow to get, and by id, as code is to hash."""
        key = id(frame.f_code), frame.f_lasti
        instruction = self._instructions.get(key)
        if instruction is None:
            line, loops = frame.f_lineno, _loops_of(frame.f_code)
            around = [first for first, last in loops.last.items() if first <= line <= last]
            instruction = Instruction(frame.f_code.co_filename, line, around)
            self._instructions[key] = instruction
        return instruction

    def warps(self):
        """The logs of the threads of each warp."""
        logs = {}
        for (block, thread), log in sorted(self._logs.items(), key=lambda item: item[0]):
            logs.setdefault((block, thread // WARP), []).append(log)
        return logs.values()


@dataclass
class Loops:
    """The loops of a function.

    Attributes:
        diverge: whether threads may take different paths; else all do the same in the same order.
        last: their last lines by their first.
        barred: the first lines of those that hold a barrier.
    """

    diverge: bool
    last: dict
    barred: set


@cache
def _functions(file):
    tree = ast.parse("".join(linecache.getlines(file)))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {min([f.lineno, *(d.lineno for d in f.decorator_list)]): f for f in functions}


def _loops_of(code) -> Loops:
    return _loops(code.co_filename, code.co_firstlineno)


@cache
def _loops(file, first_line) -> Loops:
    if not file.startswith(str(ROOT)) or file == __file__:
        return Loops(False, {}, set())
    function = _functions(file).get(first_line)
    nodes = list(ast.walk(function)) if function else []
    diverge = any(isinstance(node, ast.While | ast.If | ast.IfExp) for node in nodes)
    diverge = diverge or CONDITIONAL_LOAD in {getattr(node, "id", None) for node in nodes}
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
    return Loops(diverge, {loop.lineno: loop.end_lineno for loop in loops}, barred)
