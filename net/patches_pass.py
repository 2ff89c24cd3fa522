"""Passes over the patches of chosen pixels that hardly share a cell.

They compute about the cells that lists would hold, but need neither lists nor tables.
"""

from __future__ import annotations

from functools import cached_property
from math import prod

import numba
import numpy as np

from net import images, planning, windows
from net.conversion import steps_of
from net.graph import Net, once_a_net
from net.needed_cells import Need
from net.needed_pass import NeededPass
from net.nodes import IMAGE
from net.program import Program
from net.steps import DropoutStep, Step


class PatchesPass(NeededPass):
    """In place of a ``NeededPass``, on the host, the net's patch form: the scores have the same
    bits, the gradients are the same to rounding. The gradient by the image is still taken over
    lists.

    >>> from net import zoo
    >>> net, pixels = zoo.build("lenet28", backend="cpu"), np.array([[9, 9], [0, 0]])
    >>> some = PatchesPass(net, "zero", pixels)
    >>> scores = some.program.forward(some.enter(np.ones((1, 12, 12), np.float32)))
    >>> scores.shape, some.places
    ((2, 10, 1, 1), array([1, 0], dtype=int32))
    """

    def __init__(self, net: Net, border: str, pixels: np.ndarray):
        self.net, self.border, self.pixels, self._windows = net, border, pixels, None
        keys = pixels[:, 0] * (int(pixels[:, 1].max()) + 1) + pixels[:, 1]
        if not (keys[1:] > keys[:-1]).all():  # those of a mask are in order
            pixels = pixels[np.unique(keys, return_index=True)[1]]
        self._distinct = pixels.astype(np.int32)

    @cached_property
    def counts(self) -> dict[str, int]:
        """As ``NeededPass`` has them."""
        return Need(self.net, self.pixels).counts

    @staticmethod
    @once_a_net
    def suits(net: Net) -> bool:
        """Whether a net can take this form: on the host, where a patch has no cell that is not
        read, and nothing depends on where a cell lies."""
        if not net.backend.listed_cells.LAYOUT.by_cell:
            return False
        needed = Need(net, np.zeros((1, 2), np.int64)).counts
        drops = any(isinstance(step, DropoutStep) for step in _patch_steps(net)[0])
        return needed == cells_of_a_patch(net) and not drops

    @cached_property
    def program(self) -> Program:
        """From patches to the scores, a list of P cells."""
        return _PatchProgram(self.net)

    @property
    def rows(self) -> np.ndarray:
        """As ``NeededPass`` has them."""
        return np.ascontiguousarray(self._distinct[:, 0])

    @property
    def columns(self) -> np.ndarray:
        """As ``NeededPass`` has them."""
        return np.ascontiguousarray(self._distinct[:, 1])

    @property
    def table_bytes(self) -> int:
        """What the places of the patches' cells take."""
        return 2 * np.dtype(np.int32).itemsize * len(self._distinct) * prod(self.net.patch)

    def planned_bytes(self, **options) -> int:
        """As that of ``NeededPass``."""
        patches = self.program, len(self._distinct)
        return planning.remembered(planning.patches_bytes, *patches, **options)

    def enter(self, image):
        """The patches of an image, as ``NeededPass.enter`` takes it: P x C x p x p."""
        size, reach = tuple(image.shape[1:]), [np.int32(length - 1) for length in self.net.patch]
        ends = [self.rows, self.columns], [self.rows + reach[0], self.columns + reach[1]]
        first, last = (images.places(self.net, *end, size, self.border) for end in ends)
        shape = len(self._distinct), self.net.channels, *self.net.patch
        if any((a < 0).any() or (b - a != r).any() for a, b, r in zip(first, last, reach)):
            # Some lie across a border
            cells = super().enter(image).reshape(shape[0], *shape[2:], shape[1])
            return np.ascontiguousarray(cells.transpose(0, 3, 1, 2))
        patches = np.empty(shape, self.net.dtype)
        for n, corner in enumerate(zip(*(axis.tolist() for axis in first))):
            window = (slice(at, at + length) for at, length in zip(corner, self.net.patch))
            patches[n] = windows.read(self.net, image, *window)
        return self.net.backend.memory.to_device(patches)

    def gradients(self, image, error, image_gradient: bool = False) -> tuple[dict, object]:
        """As those of ``NeededPass``."""
        if image_gradient:
            return NeededPass(self.net, self.border, self.pixels).gradients(image, error, True)
        return super().gradients(image, error)

    def _image_cells(self):
        corners, inside = self._distinct[:, :, None, None], np.indices(self.net.patch, np.int32)
        return tuple(
            np.ascontiguousarray(axis).ravel() for axis in np.moveaxis(corners + inside, 1, 0)
        )

    def _bytes_at_most(self):
        return len(self._distinct) * _bytes_of_a_patch(self.net)


def cells_of_a_patch(net: Net) -> dict[str, int]:
    """Number of cells that the patch form computes of each map, by layer, ``IMAGE`` included."""
    cells = {name: prod(node.output.size) for name, node in net.nodes.items()}
    return cells | {IMAGE: prod(net.patch)}


class _PatchProgram(Program):
    """The patch form, whose steps are made once for a net."""

    def __init__(self, net: Net):
        self._set(net, _patch_steps(net)[0])

    @cached_property
    def forward_steps(self) -> list[Step]:
        """What runs where no backward pass follows, in order."""
        return _patch_steps(self.net)[1]


@once_a_net
def _patch_steps(net: Net) -> tuple[list[Step], list[Step]]:
    """The steps with a backward pass, and those without."""
    return tuple(steps_of(net, "patch", backward=backward) for backward in (True, False))


@once_a_net
def _bytes_of_a_patch(net: Net) -> int:
    options = {"keep": True, "learning": True, "threads": numba.config.NUMBA_NUM_THREADS}
    return planning.patches_bytes(_PatchProgram(net), 1, **options)
