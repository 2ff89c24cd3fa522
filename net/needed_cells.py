"""The cells of each map that the scores of chosen pixels need, layer by layer.

The last layer needs the chosen pixels. In front of a layer with taps at offsets t, the union of
(cell + t) over all needed cells and taps is needed; a crop shifts the cells, a merge unites them,
pointwise layers keep them. The plan depends on the net and the pixels alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
        runs: (begins, rows, columns), int32: where the runs of neighbours begin in the list, and
            behind them the number of cells; row and column of each run's first cell.
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
        pixels, groups = _grouped(pixels, net.receptive_field)
        self._origins = np.minimum.reduceat(pixels, groups[:-1])
        spacings = self._reach.spacings
        self._maps, self._sizes = cell_maps.traced(
            pixels, groups, self._origins, self._reach.reads, spacings[:, 1]
        )

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of needed cells by layer, ``IMAGE`` included."""
        cells, _ = self._of_lists
        return {name: cells[number] for name, number in self._reach.numbers.items()}

    @cached_property
    def _of_lists(self) -> list[list[int]]:
        """Cells of each list, and runs at most."""
        by_list = self._sizes.reshape(-1, len(self._reach.spacings), 2).sum(axis=0)
        return by_list.T.tolist()

    def cells(self) -> NeededCells:
        """Their lists, and how layers read them."""
        maps, origins, spacings = self._maps, self._origins, self._reach.spacings
        lists = listing.listed(maps, self._sizes, spacings, origins)
        tables = listing.tables(maps, lists, spacings, origins, self._reach.readings)
        (begins, rows, columns), ends = lists.runs, lists.bounds[:, [0, -1]].tolist()
        made = [
            Cells((begins[i : j + 1], rows[i:j], columns[i:j]), apart)
            for (i, j), apart in zip(ends, spacings[:, 1].tolist())
        ]
        return self._needed(made, tables)

    def sized(self) -> NeededCells:
        """As ``cells``, for plans of memory: with tables of the right sizes, and lists hardly
        longer, but all of one number, which takes no memory."""
        counts, runs = self._of_lists
        made = [
            Cells((_repeated(count, most + 1), *[_repeated(0, most)] * 2), apart)
            for count, most, apart in zip(counts, runs, self._reach.spacings[:, 1].tolist())
        ]
        tables = [
            _repeated(0, counts[reader], height * width)
            for reader, _, height, width, *_ in self._reach.readings.tolist()
        ]
        return self._needed(made, tables)

    def _needed(self, lists, tables) -> NeededCells:
        numbers, kernels = self._reach.numbers, self._reach.kernels
        cells, tables = {name: lists[number] for name, number in numbers.items()}, iter(tables)

        def reading(source, kernel):
            rows = None if kernel is None else next(tables)
            return Reading(self.counts[source], rows, kernel or (1, 1))

        readings = {
            node.name: tuple(map(reading, node.inputs, kernels[node.name]))
            for node in self.net.nodes.values()
        }
        return NeededCells(cells, readings)


def _repeated(number: int, *shape: int) -> np.ndarray:
    """An array of one number, int32, which takes the memory of one."""
    return np.ndarray(shape, np.int32, np.array(number, np.int32), strides=(0,) * len(shape))


class _Reach(NamedTuple):
    """What the layers of a net read, whatever the pixels.

    Attributes:
        numbers: number of the list that holds a layer's cells, by layer, ``IMAGE`` first: a layer
            that is read by one pointwise layer alone shares its reader's list, any other has its
            own.
        reads: how maps are made, as ``kernels.host.cell_maps.traced`` takes it.
        spacings: (rows, columns) by number of a list, int64.
        readings: how tables are made, as ``kernels.host.listing.tables`` takes it: in the order of
            the layers and their inputs.
        kernels: ``Reading.kernel`` by layer, of each input; None where no table is read.
    """

    numbers: dict[str, int]
    reads: np.ndarray
    spacings: np.ndarray
    readings: np.ndarray
    kernels: dict[str, list[Pair | None]]


@once_a_net
def _reach(net: Net) -> _Reach:
    nodes = list(net.nodes.values())
    geometry = {node.name: _geometry(node) for node in nodes}
    readers = [name for node in nodes for name in node.inputs]
    numbers, spacing, reads = {nodes[-1].name: 0}, {0: (1, 1)}, []
    for node in reversed(nodes):
        window, reader = geometry[node.name], numbers[node.name]
        for source in dict.fromkeys(node.inputs):
            if readers.count(source) == 1 and window == _POINTWISE:
                numbers[source] = reader
                continue
            number = numbers.setdefault(source, len(spacing))
            spacing.setdefault(number, None)
            reads.append((reader, number, *window[0], *window[1], *window[2]))
            if window[0][1] > 1:
                spacing[number] = spacing[number] or window[1]
    spacings = [spacing[number] or (1, 1) for number in range(len(spacing))]
    kernels, readings = {}, []
    for node in nodes:
        kernels[node.name] = of_node = []
        kernel, dilation, corner = geometry[node.name]
        reader = numbers[node.name]
        for number in (numbers[source] for source in node.inputs):
            if number == reader:
                of_node.append(None)
                continue
            of_node.append(_kernel_over_list(kernel, dilation, spacings[number]))
            taps = (kernel[0], 1, kernel[1]) if of_node[-1] == kernel else (*kernel, 1)
            readings.append((reader, number, *taps[:2], *dilation, *corner, taps[2]))
    return _Reach(
        {name: numbers[name] for name in (IMAGE, *net.nodes)},
        *(np.array(table, np.int64).reshape(-1, n) for table, n in ((reads, 8), (spacings, 2))),
        np.array(readings, np.int64).reshape(-1, 9),
        kernels,
    )


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


def _grouped(pixels, field: Pair) -> tuple[np.ndarray, np.ndarray]:
    """(pixels in order, where each group begins and the last one ends): the fields of two pixels of
    different groups do not overlap."""
    pixels, together = np.ascontiguousarray(pixels, np.int64), np.array([0, len(pixels)])
    height, width = (pixels.max(axis=0) - pixels.min(axis=0)).tolist()
    if (height + 1) * (width + 1) <= TOGETHER:
        return pixels, together
    tiles = (pixels - pixels.min(axis=0)) // np.maximum(field, SMALLEST_TILE)
    pitch = tiles[:, 1].max() + 2
    tiles, tile_of = np.unique(tiles[:, 0] * pitch + tiles[:, 1], return_inverse=True)
    if len(tiles) == 1:
        return pixels, together
    pairs = []
    for step in (1, pitch - 1, pitch, pitch + 1):  # neighbours, also across a corner
        at = np.searchsorted(tiles, tiles + step)
        (beside,) = np.nonzero(tiles.take(at, mode="clip") == tiles + step)
        pairs.append((beside, at[beside]))
    first, second = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(tiles),) * 2)
    count, group_of = connected_components(links, directed=False)
    if count == 1:
        return pixels, together
    group = group_of[tile_of]
    order = np.argsort(group, kind="stable")
    return pixels[order], np.concatenate([[0], np.cumsum(np.bincount(group))])


def _kernel_over_list(kernel: Pair, dilation: Pair, spacing: Pair) -> Pair:
    """``Reading.kernel`` of a window over a list with this spacing."""
    height, width = kernel
    return kernel if width == 1 or spacing[1] == dilation[1] else (height * width, 1)
