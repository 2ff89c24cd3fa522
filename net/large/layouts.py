"""Which regions an image is labelled in: from the memory, the storage's chunks and the halos."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from kernels import checks, get_backend
from kernels.checks import Margins, Pair
from kernels.host import limits
from net import planning
from net.borders import halo
from net.dense import Dense
from net.graph import Net
from net.large.regions import Grid
from net.large.sources import Source
from net.summary import multiply_adds

SIDES = tuple(n * 2**i for i in range(12) for n in (64, 96))
"""Rows or columns of regions: pyramids and chunks divide them."""
READING = 20
"""Multiply-adds that take as long as to read and decode one number of a chunk, roughly."""
WRITING = 2 * 10**7
"""Multiply-adds that take as long as to write a region and wait for the disk, roughly: some ms."""
ENOUGH = 1.03
"""A region is large enough where a pixel costs no more than this times what it costs without
halos."""
SMALL = 2**16
"""Pixels: smaller regions than that are no better, as each is a line in the journal and, in Zarr, a
file."""
MEMORY_FRACTION = 0.75
"""Of the free memory, or of a worker's limit; taken where the caller gives no limit."""
ASSUMED_FREE_BYTES = 2**31
"""Bytes that are assumed to be free where the system does not tell."""
RESERVE = 192 * 2**20
"""Bytes for code that is compiled and for what decoders hold, beside what the process has."""

_UNITS = ("", "k", "m", "g", "t")


@dataclass(frozen=True)
class Layout:
    """The regions, and what they cost.

    Attributes:
        grid: the regions.
        halo: rows and columns (top, left, bottom, right) that are read around each.
        wasted: work through halos, as a share of the work without.
        peak_bytes: bytes of memory that one process takes for them, beside what it has.
    """

    grid: Grid
    halo: Margins
    wasted: float
    peak_bytes: int

    def __str__(self) -> str:
        rows, columns = self.grid.region
        whole = len(self.grid) == 1
        regions = "one region" if whole else f"{len(self.grid)} regions of {rows} x {columns}"
        around = ", ".join(map(str, self.halo))
        return (
            f"{self.grid.size[0]} x {self.grid.size[1]} pixels in {regions}; halo {around} (top, "
            f"left, bottom, right), {100 * self.wasted:.1f}% more work; "
            f"{self.peak_bytes / 1e6:,.0f} MB of memory"
        )


def memory_bytes(memory: int | str | None, taken: int = 0) -> int:
    """Bytes that may be taken beside what the process has, no more than are free.

    Args:
        memory: bytes of the whole process, or a text such as ``"2 GB"``; None is three quarters of
            what is free.
        taken: bytes that the process has.

    Raises:
        ValueError: it is neither.

    >>> memory_bytes("400 MB") == 400_000_000 - RESERVE
    True
    """
    free = get_backend("cpu").memory.free_bytes()
    free = ASSUMED_FREE_BYTES if free is None else free
    if memory is None:
        return int(MEMORY_FRACTION * free) - RESERVE
    if isinstance(memory, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b?", memory.strip().lower())
        if match is None:
            raise ValueError(f"memory is {memory!r}; expected such as '2 GB' or '1500 MB'")
        number, unit, binary = match.groups()
        memory = int(float(number) * (1024 if binary else 1000) ** _UNITS.index(unit))
    memory = checks.count("memory", memory, most=planning.MAX_COUNT)
    return min(memory - taken, free) - RESERVE


def taken_bytes() -> int:
    """Bytes of memory that this process has and that new arrays do not take again."""
    free, pages = get_backend("cpu").memory.free_bytes(), limits.free_pages()
    again = 0 if free is None or pages is None else max(0, free - pages)
    return max(0, limits.taken_pages() - again)


def region_bytes(
    net: Net,
    source: Source,
    region: Pair,
    probabilities: str | None,
    where: Source | None = None,
) -> int:
    """Bytes to label regions one after another: the region that is labelled, the next one's window,
    which is read ahead, and the last one's labels, which are written behind. A mask (``where``)
    adds its window and the lists of the needed cells, counted as if all were needed."""
    program = Dense(net, "valid").program
    window = [n + p - 1 for n, p in zip(region, net.patch)]
    numbers = prod(window) * np.dtype(net.dtype).itemsize * net.channels
    numbers += _chunk_bytes(source, window)
    label = 2 + net.output.channels * {None: 0, "uint8": 1, "float16": 2}[probabilities]
    passing = planning.remembered(planning.predict_bytes, program, "valid", region, region)
    if where is not None:
        numbers += _chunk_bytes(where, region) + prod(region)
        passing += _lists_bytes(net, region)
    return passing + 2 * (numbers + prod(region) * label)


def _chunk_bytes(source, window):
    """Bytes of the chunks that hold a window, on average."""
    read = [_read(*one) for one in zip(window, source.shape[1:], source.chunks)]
    return prod(read) * source.dtype.itemsize * source.channels


def _lists_bytes(net, region):
    """Bytes of lists and tables of all cells (``net.needed_cells``), and of what they are made
    from: a number each for rows, columns, and each row of a window; and pixels, as the mask gives
    them."""
    cells = prod(n + p - 1 for n, p in zip(region, net.patch))
    rows = sum(
        2 + (1 if node.window is None else node.window.kernel[0]) * len(node.inputs)
        for node in net.nodes.values()
    )
    return (rows + 4) * cells * np.dtype(np.int32).itemsize + 8 * prod(region) * 8


def _read(length, whole, chunk):
    """Rows or columns of the chunks that hold ``length`` of them, on average."""
    return whole if length >= whole else min(whole, length + chunk - 1)


def chosen(
    net: Net,
    source: Source,
    probabilities: str | None,
    available: int,
    where: Source | None = None,
) -> Layout:
    """The layout for an image, labelled where a mask says.

    It has the smallest regions, from ``SMALL`` on, that waste little; where these do not fit into
    ``available`` bytes, those that waste least.

    Raises:
        MemoryError: not even the smallest regions fit; the message says what they take.
    """
    size = source.shape[1:]
    sides = [[s for s in SIDES if s < n] + [s for s in SIDES if s >= n][:1] for n in size]
    ideal = _work(net, size) + READING * prod(source.shape)
    costs = []
    for region in product(*sides):
        cost = _cost(net, source, Grid(size, region)) / ideal
        costs.append((max(ENOUGH, cost), max(SMALL, prod(region)), cost, region))
    smallest = min(sides[0]), min(sides[1])
    for *_, region in sorted(costs):
        candidate = layout(net, source, region, probabilities, where)
        if candidate.peak_bytes <= available:
            return candidate
    needed = layout(net, source, smallest, probabilities, where).peak_bytes
    raise MemoryError(
        f"labelling in regions of {smallest[0]} x {smallest[1]} pixels takes "
        f"{(needed + RESERVE) / 1e9:.2g} GB beside what the process has, which leaves "
        f"{max(0, available + RESERVE) / 1e9:.2g} GB; expected more memory"
    )


def layout(
    net: Net,
    source: Source,
    region: Pair,
    probabilities: str | None,
    where: Source | None = None,
) -> Layout:
    """The layout with regions of a given size."""
    size = source.shape[1:]
    grid = Grid(size, region)
    wasted = sum(_work(net, kind) * count for kind, count in grid.kinds()) / _work(net, size) - 1
    around = halo(net.patch, net.receptive_field)
    peak = region_bytes(net, source, tuple(map(min, region, size)), probabilities, where)
    return Layout(grid, around, wasted, peak)


def _cost(net, source, grid):
    total = 0
    for kind, count in grid.kinds():
        window = [n + p - 1 for n, p in zip(kind, net.patch)]
        cells = prod(_read(*one) for one in zip(window, source.shape[1:], source.chunks))
        total += count * (_work(net, kind) + READING * source.channels * cells + WRITING)
    return total


def _work(net, size):
    return 1 + sum(multiply_adds(net, node, size)[1] for node in net.nodes.values())
