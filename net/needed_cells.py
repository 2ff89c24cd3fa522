"""The cells of each map that the scores of chosen pixels need, layer by layer.

The last layer needs the chosen pixels. In front of a layer with taps at offsets t, the union of
(cell + t) over all needed cells and taps is needed; a crop shifts the cells, a merge unites them,
pointwise layers keep them. The plan depends on the net and the pixels alone.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kernels.checks import Pair
from kernels.host import cell_maps, listing
from net.conversion import dense_window
from net.graph import Net, once_a_net
from net.layers import Crop
from net.nodes import IMAGE, Node

SMALLEST_TILE = 16
TOGETHER = 2**20
"""Pixels of a box in which all chosen ones are planned at once, however far apart they lie."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The needed cells of one map, in the order of its list.

    Attributes:
        runs: (begins, rows, columns) as ``kernels.host.listing.listed`` gives them.
        apart: columns from a cell of a run to the next.
    """

    runs: tuple[np.ndarray, np.ndarray, np.ndarray]
    apart: int

    def __len__(self) -> int:
        return int(self.runs[0][-1])

    @property
    def rows(self) -> np.ndarray:
        """Rows of the cells in the dense map, int32."""
        return self._places[0]

    @property
    def columns(self) -> np.ndarray:
        """Their columns, int32."""
        return self._places[1]

    @cached_property
    def _places(self):
        return listing.places(*self.runs, self.apart)

    @property
    def nbytes(self) -> int:
        """What the runs take, and rows and columns if anybody asked for them."""
        return sum(array.nbytes for array in (*self.runs, *vars(self).get("_places", ())))


@dataclass(frozen=True, eq=False)
class Reading:
    """How a layer reads the cells of one of its inputs.

    Attributes:
        cells: number of cells of the input.
        rows: outputs x kh, int32: where each row of an output's window begins in the input's list,
            as operators on lists take it; None where output p reads cell p. On the host; in a step
            on the backend.
        kernel: (kh, kw) of the window over the list. Where the taps of a row do not follow one
            another in the list, each tap is a row.
    """

    cells: int
    rows: np.ndarray | None
    kernel: Pair


@dataclass(frozen=True, eq=False)
class NeededCells:
    """What the scores of some pixels need of a net.

    Attributes:
        cells: needed cells by layer, ``IMAGE`` (with its borders) first; the same object where two
            layers have the same cells in the same order.
        readings: readings of each layer by its name, one for each input.
    """

    cells: dict[str, Cells]
    readings: dict[str, tuple[Reading, ...]]

    @property
    def pixels(self) -> Cells:
        """The chosen pixels in the order of the scores."""
        return next(reversed(self.cells.values()))

    @property
    def nbytes(self) -> int:
        """What lists and tables take."""
        arrays = [*self.cells.values()]
        arrays += [r.rows for of_layer in self.readings.values() for r in of_layer]
        return sum(a.nbytes for a in {id(a): a for a in arrays if a is not None}.values())


class Need:
    """Which cells of each map of the dense form the scores of some pixels need.

    Args:
        net: what looks at the pixels.
        pixels: P x 2, ints: row and column of each, in any order; one listed twice counts once.

    >>> from net import zoo
    >>> need = Need(zoo.build("lenet28", backend="reference"), np.array([[5, 7], [5, 8]]))
    >>> need.counts["image"], need.counts["fc2"]
    (812, 2)
    """

    def __init__(self, net: Net, pixels: np.ndarray):
        self.net, self._reach = net, _reach(net)
        groups = _groups(pixels, net.receptive_field)
        self._regions = [_Region(net, self._reach, group) for group in groups]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of needed cells by layer, ``IMAGE`` included."""
        owners = self._reach.owners
        by_owner = {
            owner: sum(cell_maps.count(r.needed[owner]) for r in self._regions)
            for owner in set(owners.values())
        }
        return {name: by_owner[owners[name]] for name in (IMAGE, *self.net.nodes)}

    def cells(self) -> NeededCells:
        """Their lists, and how layers read them."""
        regions, reach, nodes = self._regions, self._reach, self.net.nodes
        lists = {owner: _joined(regions, owner) for owner in set(reach.owners.values())}
        cells = {name: lists[reach.owners[name]] for name in (IMAGE, *nodes)}
        readings = {name: tuple(_readings(regions, reach, nodes[name])) for name in nodes}
        return NeededCells(cells, readings)

    def sized(self) -> NeededCells:
        """As ``cells``, for plans of memory: with tables of the right sizes, and lists hardly
        longer, but all zeros, which take no memory until they are read."""
        reach, counts, spacing = self._reach, self.counts, self._regions[0].spacing
        lists = {}
        for owner in set(reach.owners.values()):
            apart = spacing[owner][1]
            runs = sum(cell_maps.count_runs(r.needed[owner], apart) for r in self._regions)
            begins, rows, columns = (_unread_zeros(runs + n) for n in (1, 0, 0))
            begins[-1] = counts[owner]
            lists[owner] = Cells((begins, rows, columns), apart)
        cells = {name: lists[reach.owners[name]] for name in (IMAGE, *self.net.nodes)}

        def reading(node, source):
            owner = reach.owners[source]
            if owner == reach.owners[node.name]:
                return Reading(counts[source], None, (1, 1))
            kernel = _kernel_over_list(reach.geometry[node.name], spacing[owner])
            table = _unread_zeros(counts[node.name], kernel[0])
            return Reading(counts[source], table, kernel)

        readings = {
            node.name: tuple(reading(node, source) for source in node.inputs)
            for node in self.net.nodes.values()
        }
        return NeededCells(cells, readings)


def _unread_zeros(*shape: int) -> np.ndarray:
    pages = mmap.mmap(-1, max(1, prod(shape) * np.dtype(np.int32).itemsize))
    return np.frombuffer(pages, np.int32, prod(shape)).reshape(shape)


class _Reach(NamedTuple):
    """What the layers of a net read, whatever the pixels.

    Attributes:
        geometry: what ``_geometry`` gives, by layer.
        owners: the layer whose cell list a layer shares, by layer: one that is read by one
            pointwise layer alone shares its reader's list, any other has its own.
    """

    geometry: dict[str, tuple[Pair, Pair, Pair]]
    owners: dict[str, str]


@once_a_net
def _reach(net: Net) -> _Reach:
    nodes = list(net.nodes.values())
    geometry = {node.name: _geometry(node) for node in nodes}
    readers = [name for node in nodes for name in node.inputs]
    owners = {nodes[-1].name: nodes[-1].name}
    for node in reversed(nodes):
        moves = geometry[node.name] != _POINTWISE
        for source in node.inputs:
            alone = readers.count(source) == 1 and not moves
            owners[source] = owners[node.name] if alone else source
    return _Reach(geometry, owners)


_POINTWISE = ((1, 1), (1, 1), (0, 0))


def _geometry(node: Node) -> tuple[Pair, Pair, Pair]:
    """(kernel, dilation, (top, left) of the first cell) of what an output reads, in dense cells."""
    spacing = node.sources[0].spacing
    if isinstance(node.layer, Crop):
        return (1, 1), (1, 1), tuple(m * d for m, d in zip(node.layer.margins, spacing))
    if node.window is None:
        return _POINTWISE
    window = dense_window(node.window, spacing)
    dilation = tuple(d if k > 1 else 1 for k, d in zip(window.kernel, window.dilation))
    return window.kernel, dilation, (0, 0)


def _groups(pixels, field: Pair) -> list[np.ndarray]:
    """The pixels in groups, so that the fields of two pixels of different groups do not overlap."""
    if np.prod(np.ptp(pixels, axis=0) + 1) <= TOGETHER:
        return [pixels]
    tiles = (pixels - pixels.min(axis=0)) // np.maximum(field, SMALLEST_TILE)
    pitch = tiles[:, 1].max() + 2
    tiles, tile_of = np.unique(tiles[:, 0] * pitch + tiles[:, 1], return_inverse=True)
    if len(tiles) == 1:
        return [pixels]
    pairs = []
    for step in (1, pitch - 1, pitch, pitch + 1):  # neighbours, also across a corner
        at = np.searchsorted(tiles, tiles + step)
        (beside,) = np.nonzero(tiles.take(at, mode="clip") == tiles + step)
        pairs.append((beside, at[beside]))
    first, second = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(tiles),) * 2)
    count, group_of = connected_components(links, directed=False)
    if count == 1:
        return [pixels]
    group = group_of[tile_of]
    order = np.argsort(group, kind="stable")
    return np.split(pixels[order], np.cumsum(np.bincount(group))[:-1])


class _Region:
    """Needed cells around a group of pixels.

    Attributes:
        origin: row and column where the maps begin.
        needed: maps of ``kernels.host.cell_maps``, by owner.
        spacing: spacing of a list, by owner.
    """

    def __init__(self, net, reach, pixels):
        nodes, owners = list(net.nodes.values()), reach.owners
        self.origin = tuple(pixels.min(axis=0).tolist())
        last = owners[nodes[-1].name]
        places = (pixels - self.origin).astype(np.int32)
        self.needed = {last: cell_maps.marked(places[:, 0], places[:, 1])}
        spacing = {last: (1, 1)}
        for node in reversed(nodes):
            window, reader = reach.geometry[node.name], owners[node.name]
            for owner in dict.fromkeys(owners[source] for source in node.inputs):
                if owner == reader:
                    continue
                cells = cell_maps.reached(*self.needed[reader], *window)
                others = self.needed.get(owner)
                self.needed[owner] = cell_maps.united(*others, *cells) if others else cells
                if window[0][1] > 1:
                    spacing.setdefault(owner, window[1])
        self.spacing = {owner: spacing.get(owner, (1, 1)) for owner in self.needed}

    @cached_property
    def lists(self) -> dict[str, tuple]:
        """By owner, as ``kernels.host.listing.listed`` gives them."""
        return {
            owner: listing.listed(cells, self.spacing[owner], self.origin)
            for owner, cells in self.needed.items()
        }


def _joined(regions, owner) -> Cells:
    apart, lists = regions[0].spacing[owner][1], [region.lists[owner][:3] for region in regions]
    if len(lists) == 1:
        return Cells(lists[0], apart)
    counts = np.cumsum([0, *(begins[-1] for begins, *_ in lists)], dtype=np.int32)
    begins = [begins[:-1] + count for (begins, *_), count in zip(lists, counts)]
    rows, columns = (np.concatenate([of[axis] for of in lists]) for axis in (1, 2))
    return Cells((np.concatenate([*begins, counts[-1:]]), rows, columns), apart)


def _readings(regions, reach, node):
    kernel, dilation, corner = reach.geometry[node.name]
    reader = reach.owners[node.name]
    for source in node.inputs:
        owner = reach.owners[source]
        counts = [int(region.lists[owner][0][-1]) for region in regions]
        if owner == reader:
            yield Reading(sum(counts), None, (1, 1))
            continue
        apart, spacing = (regions[0].spacing[name][1] for name in (reader, owner))
        over = _kernel_over_list(reach.geometry[node.name], regions[0].spacing[owner])
        taps, of_a_tap = ((kernel[0], 1), kernel[1]) if over == kernel else (kernel, 1)
        tables, begin = [], 0
        for region, count in zip(regions, counts):
            runs, numbers = region.lists[reader][:3], region.lists[owner][3]
            source = listing.NumberedMap(*region.needed[owner], numbers, spacing)
            first = tuple(c - o for c, o in zip(corner, region.origin))
            window = listing.WindowTaps(taps, dilation, first, of_a_tap)
            tables.append(listing.table(source, runs, apart, window, begin))
            begin += count
        rows = tables[0] if len(tables) == 1 else np.concatenate(tables)
        yield Reading(sum(counts), rows, over)


def _kernel_over_list(geometry, spacing: Pair) -> Pair:
    """``Reading.kernel`` of a layer over a list with this spacing."""
    (height, width), dilation, _ = geometry
    return (height, width) if width == 1 or spacing[1] == dilation[1] else (height * width, 1)
