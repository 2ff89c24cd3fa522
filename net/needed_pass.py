"""Passes that compute only the cells that chosen pixels need."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numba
import numpy as np

from kernels import checks
from kernels.checks import Pair
from net import free_memory, images, planning, summary, windows
from net.chosen import Chosen
from net.graph import Net, once_a_net
from net.listed_steps import ListedProgram, device_bytes
from net.needed_cells import Need, NeededCells
from net.nodes import IMAGE
from net.program import Program

COST = {"cuda": 1.5, "simulator": 1.5, "cpu": 1.2, "reference": 1.2}
"""Time of a multiply-add over lists by backend, in units of the dense form's. On devices it is
counted, not measured: the main loops have 1.03 times the instructions, and the input gradient does
at most 1 + 64 / K times the work for K filters, which is 2.3 times for 48. Over forward pass,
gradient by the weights and input gradient that is 1.45 times."""

MOST_MAP_ELEMENTS_RATIO = 0.84
"""Lists are used only if the elements of all their maps, times ``COST``, are below this share of
the dense form's: 70% on the host. With more, poolings and first layers take more time."""


class NeededPass:
    """The needed cells of some pixels, and the program that computes them: for images of one size.

    Args:
        net: its parameters are shared, not copied.
        border: ``"valid"``, ``"zero"`` or ``"reflect"``.
        pixels: P x 2, rows and columns of pixels of the output, in any order. One that is listed
            several times is computed once.

    Attributes:
        counts: number of needed cells by layer, ``IMAGE`` included.

    >>> from net import zoo
    >>> pixels = np.array([[9, 9], [0, 0], [9, 9]])
    >>> some = NeededPass(zoo.build("lenet28", backend="cpu"), "zero", pixels)
    >>> scores = some.program.forward(some.enter(np.ones((1, 12, 12), np.float32)))
    >>> scores.shape, some.places
    ((2, 10, 1, 1), array([1, 0, 1], dtype=int32))
    """

    def __init__(self, net: Net, border: str, pixels: np.ndarray):
        self.net, self.border, self.pixels = net, border, pixels
        self._need: Need | None = Need(net, pixels)
        self.counts = self._need.counts
        self._windows: tuple[Pair, windows.Windows] | None = None

    @cached_property
    def cells(self) -> NeededCells:
        """Lists of the needed cells of each map."""
        need = self._need or Need(self.net, self.pixels)  # another thread may be here as well
        cells, self._need = need.cells(), None  # its maps take more than the lists
        _ = cells.cells[IMAGE].rows  # made now, as they belong to what is planned
        return cells

    @cached_property
    def program(self) -> Program:
        """From an image's needed cells to the scores, a list of P cells.

        Raises:
            MemoryError: its tables would take more memory than is free on the device.
        """
        if not self._layout.by_cell:
            what = f"the tables of {len(self.rows)} pixels"
            fewer = lambda free: "expected fewer pixels"  # noqa: E731
            free_memory.check(self.net.backend, what, self.table_bytes, fewer)
        return ListedProgram(self.net, self.cells)

    @property
    def table_bytes(self) -> int:
        """What lists and tables take where the pass runs."""
        return _table_bytes(self.net, self.cells)

    def most_bytes(self) -> tuple[int, int]:
        """What passes take at most, forward and with gradients, lists and tables included: planned
        for one thread, and before lists are made."""
        need = self._need or Need(self.net, self.pixels)
        cells = need.sized()
        program, lists = ListedProgram(self.net, cells), _table_bytes(self.net, cells)
        sizes = len(cells.cells[IMAGE]), len(cells.pixels)
        if self._layout.by_cell:  # rows and columns of both
            lists += 2 * np.dtype(np.int32).itemsize * sum(sizes)
        forward, both = (
            planning.needed_bytes(program, *sizes, keep=keep, threads=1) for keep in (False, True)
        )
        return lists + forward, lists + both

    @property
    def rows(self) -> np.ndarray:
        """Rows of the pixels, in the order of the scores."""
        return self.cells.pixels.rows

    @property
    def columns(self) -> np.ndarray:
        """Columns of the pixels, in the order of the scores."""
        return self.cells.pixels.columns

    @cached_property
    def places(self) -> np.ndarray:
        """Number of the score that belongs to each of the given pixels: P, int32."""
        pitch = int(self.columns.max()) + 1
        keys = self.rows.astype(np.int64) * pitch + self.columns
        order = np.argsort(keys)
        at = np.searchsorted(keys, self.pixels[:, 0] * pitch + self.pixels[:, 1], sorter=order)
        return order[at].astype(np.int32)

    @property
    def _layout(self):
        return self.net.backend.listed_cells.LAYOUT

    @property
    def repeats(self) -> bool:
        """Whether a pixel was given several times."""
        return len(self.pixels) > len(self.rows)

    def planned_bytes(self, **options) -> int:
        """What the pass takes at most beside lists, tables and windows of the image; ``options`` as
        ``net.planning.needed_bytes`` takes them."""
        sizes = len(self.cells.cells[IMAGE]), len(self.rows)
        return planning.remembered(planning.needed_bytes, self.program, *sizes, **options)

    def check_memory(self, source, **options) -> None:
        """Refuse a pass over an admitted image that takes more memory than is free; ``options`` as
        ``net.planning.needed_bytes`` takes them.

        Raises:
            MemoryError: it does; the message says how much.
        """
        needed = len(self.rows) * _bytes_of_a_patch(self.net)
        if needed >= free_memory.SMALLEST:
            needed = self.planned_bytes(**options)
        if not windows.is_gathered(self.net, source):
            numbers = self._windows_of(source).numbers * self.net.channels
            needed += numbers * np.dtype(self.net.dtype).itemsize
        what = f"labelling {len(self.rows)} pixels{' and learning' * options.get('keep', False)}"
        free_memory.check(self.net.backend, what, needed, lambda free: "expected fewer pixels")

    def enter(self, image):
        """The needed cells of an image C x H x W without its borders, admitted by ``net.images`` or
        ``net.windows``: a list on the backend. Nothing else of the image is read."""
        if not windows.is_gathered(self.net, image):
            return self._windows_of(image).cells(self.net, image)
        ops = self.net.backend
        places = map(ops.memory.to_device, self._places_in(image))
        return ops.listed_cells.gather(images.placed(self.net, image), *places)

    def _places_in(self, image):
        cells = self.cells.cells[IMAGE]
        size = tuple(image.shape[1:])
        return images.places(self.net, cells.rows, cells.columns, size, self.border)

    def _windows_of(self, image) -> windows.Windows:
        size, last = tuple(image.shape[1:]), self._windows
        if last is None or last[0] != size:
            last = self._windows = size, windows.Windows(*self._places_in(image))
        return last[1]

    def listed(self, maps):
        """Maps 1 x K x Ho x Wo on the backend at the pixels, in the order of the scores."""
        ops = self.net.backend
        return ops.listed_cells.gather(maps, *map(ops.memory.to_device, (self.rows, self.columns)))

    def errors(self, values: np.ndarray):
        """The errors of the scores on the backend, from host values K x P in the order of the given
        pixels; those of a pixel that is listed several times are added up."""
        by_cell = np.zeros((len(self.rows), len(values)), values.dtype)
        if self.repeats:
            np.add.at(by_cell, self.places, values.T)
        else:
            by_cell[self.places] = values.T
        return self.net.backend.memory.to_device(self._layout.of_numbers(by_cell))

    def _image_gradient(self, by_cells, size: Pair):
        """The gradient by the image of ``size``, 1 x C x H x W, from that by its needed cells."""
        ops, cells = self.net.backend, self.cells.cells[IMAGE]
        if self.border != "valid":
            size = tuple(n + p - 1 for n, p in zip(size, self.net.patch))
        places = map(ops.memory.to_device, (cells.rows, cells.columns))
        by_image = ops.listed_cells.gather_backward(by_cells, *places, size)
        return images.bordered_backward(self.net, by_image, self.border)

    def listed_values(self, scores) -> np.ndarray:
        """Host values K x P in the order of the given pixels, from a list on the backend."""
        values = self._layout.numbers(images.returned(self.net, scores))
        return np.ascontiguousarray(values[self.places].T)

    def gradients(self, image, error, image_gradient: bool = False) -> tuple[dict, object]:
        """(gradients by parameter name, by the image C x H x W or None) on the backend, of
        sum(error * scores).

        Args:
            image: admitted, as ``enter`` takes it.
            error: admitted, a map K x Ho x Wo; or K x P on the host, of the pixels as they were
                given.

        Raises:
            MemoryError: the pass would take more memory than is free.
        """
        self.check_memory(image, keep=True, image=image_gradient)
        _, tape = self.program.forward(self.enter(image), keep=True)
        if error.ndim == 2:
            error = self.errors(error)
        else:
            error = self.listed(images.placed(self.net, error))
        gradients, by_cells = self.program.backward(tape, error, image=image_gradient)
        if not image_gradient:
            return gradients, None
        return gradients, self._image_gradient(by_cells, tuple(image.shape[1:]))[0]


class NeededPasses:
    """The passes of a net over chosen pixels, where they cost less than the dense pass.

    Args:
        program: the net's dense form.
        border: border of the images.

    >>> from net import zoo
    >>> program = Program(zoo.build("lenet28", backend="cpu"), "dense")
    >>> passes = NeededPasses(program, "zero")
    >>> mask = np.eye(99, dtype=bool)
    >>> passes.over(Chosen(mask.shape, mask)).rows[:3]
    array([0, 1, 2], dtype=int32)
    >>> passes.over(Chosen(mask.shape, ~mask)) is None
    True
    """

    def __init__(self, program: Program, border: str):
        self.program, self.border = program, border
        self._last: _Choice | None = None

    def over(self, chosen: Chosen) -> NeededPass | None:
        """The pass over what some pixels need, if it takes fewer multiply-adds than the dense pass,
        smaller maps and no more memory (``COST``, ``MOST_MAP_ELEMENTS_RATIO``), else None. The last
        one is kept."""
        choice = self._choice(chosen)
        return choice.some if choice.is_cheaper else None

    def to_learn(self, chosen: Chosen, image) -> NeededPass | None:
        """As ``over``, but never None where the dense pass would read NaN or infinities of an
        admitted image on the host."""
        some, net = self.over(chosen), self.program.net
        if some is not None or checks.lies_on_device("image", image):
            return some
        return None if images.is_finite(windows.whole(net, image)) else self._choice(chosen).some

    def summary(self, chosen: Chosen) -> str:
        """What some pixels need, layer by layer, the memory that it takes, and whether a pass takes
        this way (see ``Dense.summary``)."""
        choice = self._choice(chosen)
        some, way = choice.some, "in the dense form, which takes less"
        if choice.is_cheaper:
            way = "over lists of needed cells"
        table = summary.needed_table(some.net, chosen.labelled, len(some.rows), some.counts)
        memory = summary.memory(some.planned_bytes(), some.planned_bytes(keep=True))
        plan = f"{some.table_bytes / 1e6:,.1f} MB for lists and tables"
        return f"{table}\nthis pass runs {way}\nover lists it takes {memory}, {plan}"

    def _choice(self, chosen):
        last = self._last  # another thread may exchange it
        if last is None or not last.chosen.same_as(chosen):
            last = self._last = _Choice(self.program, self.border, chosen.copied())
        return last


class _Choice:
    """Chosen pixels, and which way a pass over them takes."""

    def __init__(self, program: Program, border: str, chosen: Chosen):
        self.program, self.border, self.chosen = program, border, chosen

    @cached_property
    def some(self) -> NeededPass:
        """The pass over what they need."""
        return NeededPass(self.program.net, self.border, self.chosen.pixels)

    @cached_property
    def is_cheaper(self) -> bool:
        """Whether that costs less than the dense pass; it depends on net, mask and sizes alone."""
        cheaper = self._compared()
        if not cheaper:
            vars(self).pop("some", None)  # its lists would take memory beside the dense pass
        return cheaper

    def _compared(self):
        net, mask = self.program.net, self.chosen.mask
        cost = COST[net.backend.name]
        # Each map needs as many cells as pixels, or more
        if mask is not None and cost * np.count_nonzero(mask) >= mask.size:
            return False
        counts = self.some.counts
        needed, dense = _counted(net, counts), _counted(net, _dense_cells(net, self.chosen))
        windows_of = ((counts[name], node.window) for name, node in net.nodes.items())
        tables = sum(count * window.kernel[0] for count, window in windows_of if window)
        lists = needed.maps + counts[IMAGE] * net.channels + tables
        return (
            cost * needed.work < dense.work
            and cost * needed.maps < MOST_MAP_ELEMENTS_RATIO * dense.maps
            and (lists < dense.largest or self._takes_no_more_memory())
        )

    def _takes_no_more_memory(self):
        """Whether both passes, forward and with gradients, take at most what the dense ones take:
        planned for one thread, as more must not give other gradients."""
        dense = self.program, self.border, self.chosen.labelled
        planned = (planning.forward_bytes, planning.gradients_bytes)
        of_dense = (planning.remembered(plan, *dense, threads=1) for plan in planned)
        return all(lists <= whole for lists, whole in zip(self.some.most_bytes(), of_dense))


class _Counted(NamedTuple):
    """What a pass takes, by count.

    Attributes:
        work: multiply-adds.
        maps: numbers of all maps but the image.
        largest: numbers of the largest of them.
    """

    work: int
    maps: int
    largest: int


def _counted(net: Net, cells: dict[str, int]) -> _Counted:
    """A pass over ``cells`` of each map, their number by layer."""
    nodes = net.nodes
    maps = [cells[name] * node.output.channels for name, node in nodes.items()]
    work = sum(cells[name] * node.multiply_adds for name, node in nodes.items())
    return _Counted(work, sum(maps), max(maps))


def _dense_cells(net: Net, chosen: Chosen) -> dict[str, int]:
    """The cells of each map of the dense form."""
    nodes = net.nodes.items()
    return {name: summary.dense_cells(net, node, chosen.labelled) for name, node in nodes}


@once_a_net
def _bytes_of_a_patch(net: Net) -> int:
    """What a pass over one pixel takes at most, with any options and number of threads. That over
    P pixels takes at most P times as much, which is told much faster than its plan is made."""
    cells = Need(net, np.zeros((1, 2), np.int64)).sized()
    program, count = ListedProgram(net, cells), len(cells.cells[IMAGE])
    options = {"keep": True, "learning": True, "image": True}
    threads = numba.config.NUMBA_NUM_THREADS
    return planning.needed_bytes(program, count, 1, threads=threads, **options)


def _table_bytes(net: Net, cells: NeededCells) -> int:
    """What lists and tables take where the pass runs."""
    by_cell = net.backend.listed_cells.LAYOUT.by_cell
    return cells.nbytes if by_cell else device_bytes(net, cells)
