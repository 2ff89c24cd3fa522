"""Passes that compute only the cells that chosen pixels need."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from kernels.checks import Pair
from net import images, planning, room
from net.graph import Net
from net.listed_steps import listed_program
from net.needed_cells import Need, NeededCells
from net.nodes import IMAGE
from net.program import Program
from net.summary import multiply_adds

COST = {"cuda": 1.5, "simulator": 1.5, "cpu": 1.2, "reference": 1.2}
"""By backend, about how long a multiply-add over lists takes, in units of the dense form's. On a
device by count, as none has measured it: main loops have 1.03 times the instructions, and the input
gradient does at most 1 + 64 / K times the work for K filters, 2.3 times with 48. That is 1.45 of
all three directions."""


class NeededPass:
    """The needed cells of some pixels, and the program that computes them: for images of one size.

    Args:
        net: its parameters are shared, not copied.
        border: ``"valid"``, ``"zero"`` or ``"reflect"``.
        pixels: P x 2, rows and columns of different pixels of the output.

    >>> from net import zoo
    >>> some = NeededPass(zoo.build("lenet28", backend="cpu"), "zero", np.array([[0, 0], [9, 9]]))
    >>> scores = some.program.forward(some.enter(np.ones((1, 1, 12, 12), np.float32)))
    >>> scores.shape
    (2, 10, 1, 1)
    """

    def __init__(self, net: Net, border: str, pixels: np.ndarray):
        self.net, self.border, self.need = net, border, Need(net, pixels)

    @cached_property
    def cells(self) -> NeededCells:
        """Lists of the needed cells of each map."""
        return self.need.cells()

    @cached_property
    def program(self) -> Program:
        """From an image's needed cells to the scores, a list of P cells."""
        return listed_program(self.net, self.cells)

    @property
    def rows(self) -> np.ndarray:
        """Rows of the pixels, in the order of the scores."""
        return self.cells.pixels.rows

    @property
    def columns(self) -> np.ndarray:
        """Columns of the pixels, in the order of the scores."""
        return self.cells.pixels.columns

    @classmethod
    def where_cheaper(cls, net: Net, border: str, mask: np.ndarray) -> NeededPass | None:
        """The pass for the pixels of a mask Ho x Wo of bool, if by its multiply-adds (``COST``) it
        takes less than a dense pass.

        >>> from net import zoo
        >>> net, mask = zoo.build("lenet28", backend="cpu"), np.eye(99, dtype=bool)
        >>> NeededPass.where_cheaper(net, "zero", ~mask) is None
        True
        """
        cost = COST[net.backend.name]
        if cost * np.count_nonzero(mask) >= mask.size:  # each map needs as many cells, or more
            return None
        some = cls(net, border, np.argwhere(mask))
        dense = sum(multiply_adds(net, node, mask.shape)[1] for node in net.nodes.values())
        return some if cost * some.need.multiply_adds() < dense else None

    def forward(self, image, **options):
        """As ``Program.forward``, from an image 1 x C x H x W on the backend, without borders."""
        return self.program.forward(self.enter(image), **options)

    def check_memory(self, **options) -> None:
        """Refuse a pass that takes more memory than is free; ``options`` as
        ``net.planning.needed_bytes`` takes them.

        Raises:
            MemoryError: it does; the message says how much.
        """
        sizes = len(self.cells.cells[IMAGE]), len(self.rows)
        needed = planning.remembered(planning.needed_bytes, self.program, *sizes, **options)
        what = f"labelling {len(self.rows)} pixels{' and learning' * options.get('keep', False)}"
        room.check(self.net.backend, what, needed, lambda free: "expected fewer pixels")

    def enter(self, image):
        """The needed cells of an image 1 x C x H x W on the backend, without its borders."""
        ops, cells = self.net.backend, self.cells.cells[IMAGE]
        places = images.places(self.net, cells.rows, cells.columns, image.shape[2:], self.border)
        return ops.listed_cells.gather(image, *map(ops.memory.to_device, places))

    def image_gradient(self, by_cells, size: Pair):
        """The gradient by the image of ``size``, 1 x C x H x W, from that by its needed cells."""
        ops, cells = self.net.backend, self.cells.cells[IMAGE]
        if self.border != "valid":
            size = tuple(n + p - 1 for n, p in zip(size, self.net.patch))
        places = map(ops.memory.to_device, (cells.rows, cells.columns))
        by_image = ops.listed_cells.gather_backward(by_cells, *places, size)
        return images.bordered_backward(self.net, by_image, self.border)

    def listed(self, maps):
        """Maps 1 x K x Ho x Wo on the backend at the pixels: a list, like the scores."""
        ops = self.net.backend
        return ops.listed_cells.gather(maps, *map(ops.memory.to_device, (self.rows, self.columns)))

    def over_map(self, values: np.ndarray, labelled: Pair) -> np.ndarray:
        """Host values, a list, at their pixels of a map K x Ho x Wo, NaN elsewhere."""
        channels = values.shape[1]
        maps = np.full((channels, *labelled), np.nan, values.dtype)
        maps[:, self.rows, self.columns] = values.swapaxes(0, 1).reshape(channels, -1)
        return maps

    def of_pixels(self, values: np.ndarray) -> np.ndarray:
        """Host values Ho x Wo at the pixels, N x H x W for scores of N x K x H x W."""
        batch, _, *size = self.net.backend.listed_cells.LAYOUT.shape(len(self.rows), 1)
        return values[self.rows, self.columns].reshape(batch, *size)
