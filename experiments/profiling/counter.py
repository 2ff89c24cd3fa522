"""Counts, by source line, what the warps of a traced launch ask of memory.

* Global memory: requests of warps, and the sectors of 32 bytes that each of them touches. Arrays
  begin at sectors, as allocations do; no cache is modelled.
* Shared memory: wavefronts, the passes over 32 banks of 4 bytes that a request takes. The ideal
  number is what 128 bytes a wavefront allow: 1, or 2 and 4 for 64 and 128 bits a thread. Aligned
  neighbours that one line accesses in turn count as one access, as the compiler joins them.
"""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np

from experiments.profiling.tracer import ROOT, WARP, Place, TracedArray, Tracer

SECTOR, BANKS, BANK_BYTES = 32, 32, 4
LOAD_OF_FOUR = "load4"
"""The function that loads 128 bits at a time."""


@dataclass
class Line:
    """What the traced blocks of one launch ask of one array on one source line.

    Attributes:
        operator: the operator that was called.
        launch, kernel: the number of the launch among those of the call, and its kernel.
        share: traced blocks over launched ones.
        file, line, text: the source line.
        array: the kernel's name for it, or ``shared``.
        itemsize: bytes of an element.
        memory: ``global`` or ``shared``.
        access: ``load`` or ``store``.
        is_map: whether the array is a feature map.
        main_loop: whether this is inside the loop that holds the barriers.
        requests: the number of requests of warps.
        asked: bytes that their threads asked for; bytes that several threads of a request asked for
            count once.
        sectors: the distinct sectors of each request, added up; 0 for shared memory.
        full_requests, full_sectors: requests of 32 threads for 32 elements in one row of a feature
            map, and their sectors.
        most_beyond: the most sectors that one of these took beyond those that its bytes fill: 0 for
            neighbours that begin at a sector, 1 for neighbours that begin elsewhere.
        wavefronts, ideal_wavefronts: the wavefronts of shared memory, and their least number.
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
        """Bytes in the sectors."""
        return SECTOR * self.sectors


COLUMNS = {**get_type_hints(Line), "moved": int}
"""The columns of a line's row: its fields and ``moved``."""


def count(tracer: Tracer, operator: str, launch: int, kernel: str, share: float) -> list[Line]:
    """The lines of a traced launch; for the last four arguments see ``Line``."""
    lines: dict[tuple, Line] = {}
    for threads in tracer.warps():
        for request in _merged(_requests(threads)):
            _add(request, (operator, launch, kernel, share), lines)
    return list(lines.values())


@dataclass
class _Request:
    """An access that threads of a warp make together, each to ``words`` adjacent elements."""

    place: Place
    array: TracedArray
    stored: bool
    lanes: list
    indices: list
    words: int = 1


def _requests(logs) -> list[_Request]:
    requests = {}
    for lane, log in enumerate(logs):
        for place, time, array, index, stored in log:
            request = requests.get((place, time, array))
            if request is None:
                requests[place, time, array] = request = _Request(place, array, stored, [], [])
            request.lanes.append(lane)
            request.indices.append(index)
    return list(requests.values())


def _merged(requests):
    """The requests; successive ones to adjacent elements that are compiled to one are joined."""
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
        and other.place.instruction is first.place.instruction
        and other.lanes == first.lanes
        and all(b == a + n for a, b in zip(first.indices, other.indices))
        for n, other in enumerate(requests)
    )


def _add(request, common, lines):
    """Add a request to its line."""
    array, place, at = request.array, request.place, request.place.instruction
    key = (at.file, at.line, place.main_loop, id(array), request.stored)
    if key not in lines:
        lines[key] = Line(
            *common,
            file=str(Path(at.file).relative_to(ROOT)),
            line=at.line,
            text=linecache.getline(at.file, at.line).strip(),
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
    """(wavefronts, ideal number) of a request for ``words`` adjacent elements a thread."""
    width = words * line.itemsize // BANK_BYTES
    first = indices * line.itemsize // BANK_BYTES
    touched = first[:, None] + np.arange(width)
    phases = lanes // (WARP // width)
    wavefronts = 0
    for phase in np.unique(phases):
        distinct = np.unique(touched[phases == phase])
        wavefronts += np.bincount(distinct % BANKS).max()
    return int(wavefronts), np.unique(phases).size
