"""Passes that compute only the cells that chosen pixels need."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numba
import numpy as np

from kernels.checks import Pair
from net import free_memory, images, planning, windows
from net.graph import Net, once_a_net
from net.listed_steps import ListedProgram, device_bytes
from net.needed_cells import Need, NeededCells
from net.nodes import IMAGE
from net.program import Program

FEW = 64
"""Pixels up to which a pass is first told to take no more memory than as many that share no cell,
up to a power of two. That is planned once a net: to plan each pass would take longer than many a
small one itself."""


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
        return _most_bytes(self.net, need.sized())

    def takes_at_most(self, *given: int) -> bool:
        """Whether passes take no more than ``given``, forward and with gradients, lists and tables
        included: on one thread, and told before lists are made."""
        count = len(self.pixels)
        if count <= FEW and _fits(_of_apart(self.net, count, _most_bytes), given):
            return True
        return _fits(self.most_bytes(), given)

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
        needed = self._bytes_at_most()
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

    def _image_cells(self):
        """Rows and columns of the needed cells in the image with its borders."""
        cells = self.cells.cells[IMAGE]
        return cells.rows, cells.columns

    def _bytes_at_most(self):
        """What the pass takes at most, told much faster than it is planned."""
        count = len(self.rows)
        if count <= FEW:
            return _of_apart(self.net, count, _bytes_with_any_options)
        return count * _of_apart(self.net, 1, _bytes_with_any_options)

    def _places_in(self, image):
        size = tuple(image.shape[1:])
        return images.places(self.net, *self._image_cells(), size, self.border)

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


def _of_apart(net: Net, pixels: int, plan: Callable):
    """``plan`` for so many pixels, up to a power of two, that share no cell: remembered."""
    count = 1 << (pixels - 1).bit_length()
    known = _plans_of_apart(net)
    if (plan, count) not in known:
        apart = np.arange(count)[:, None] * net.patch
        known[plan, count] = plan(net, Need(net, apart).sized())
    return known[plan, count]


@once_a_net
def _plans_of_apart(net: Net) -> dict:
    """What ``_of_apart`` remembers."""
    return {}


def _most_bytes(net: Net, cells: NeededCells) -> tuple[int, int]:
    """What passes take at most, as ``NeededPass.most_bytes`` tells."""
    program = ListedProgram(net, cells)  # which makes more lists, where a net has dropout
    lists, sizes = _table_bytes(net, cells), (len(cells.cells[IMAGE]), len(cells.pixels))
    if net.backend.listed_cells.LAYOUT.by_cell:  # rows and columns of both
        lists += 2 * np.dtype(np.int32).itemsize * sum(sizes)
    forward, both = (
        planning.needed_bytes(program, *sizes, keep=keep, threads=1) for keep in (False, True)
    )
    return lists + forward, lists + both


def _bytes_with_any_options(net: Net, cells: NeededCells) -> int:
    """What a pass takes at most, lists and tables apart, with any options and number of threads."""
    sizes, threads = (len(cells.cells[IMAGE]), len(cells.pixels)), numba.config.NUMBA_NUM_THREADS
    options = {"keep": True, "learning": True, "image": True}
    return planning.needed_bytes(ListedProgram(net, cells), *sizes, threads=threads, **options)


def _fits(taken: tuple[int, int], given: tuple[int, int]) -> bool:
    return all(a <= b for a, b in zip(taken, given))


def _table_bytes(net: Net, cells: NeededCells) -> int:
    """What lists and tables take where the pass runs."""
    by_cell = net.backend.listed_cells.LAYOUT.by_cell
    return cells.nbytes if by_cell else device_bytes(net, cells)
