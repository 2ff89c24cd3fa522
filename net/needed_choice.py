"""Which way a pass over chosen pixels takes: lists of what they need, patches, or all cells."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from kernels import checks
from kernels.checks import Pair
from net import images, planning, summary, windows
from net.chosen import Chosen
from net.graph import Net, once_a_net
from net.needed_pass import NeededPass
from net.nodes import IMAGE
from net.patches_pass import PatchesPass, cells_of_a_patch
from net.program import Program

COST = {"cuda": 1.5, "simulator": 1.5, "cpu": 1.2, "reference": 1.2}
"""Time of a multiply-add over lists by backend, in units of the dense form's. On devices it is
counted, not measured: the main loops have 1.03 times the instructions, and the input gradient does
at most 1 + 64 / K times the work for K filters, which is 2.3 times for 48. Over forward pass,
gradient by the weights and input gradient that is 1.45 times."""

MOST_MAP_ELEMENTS_RATIO = 0.84
"""Lists are used only if the elements of all their maps, times ``COST``, are below this share of
the dense form's: 70% on the host. With more, poolings and first layers take more time."""

PATCHES_COST = 1.1
"""Time of a multiply-add over lists on the host, in units of the patch form's: where hardly a cell
is shared, patches take less."""

MOST_PAIRED = 64
"""Pixels whose patches are looked at in pairs, which is faster than to count what they share."""


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
        some, taken = choice.some, "in the dense form, which takes less"
        way, of_what, plan = "over lists", " of needed cells", "lists and tables"
        if isinstance(some, PatchesPass):
            way, of_what, plan = "patch by patch", "", "places"
        if choice.is_cheaper:
            taken = way + of_what
        table = summary.needed_table(some.net, chosen.labelled, len(some.rows), some.counts)
        memory = summary.memory(some.planned_bytes(), some.planned_bytes(keep=True))
        plan = f"{some.table_bytes / 1e6:,.1f} MB for {plan}"
        return f"{table}\nthis pass runs {taken}\n{way} it takes {memory}, {plan}"

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
    def pixels(self) -> np.ndarray:
        """P x 2, rows and columns."""
        return self.chosen.pixels

    @cached_property
    def lists(self) -> NeededPass:
        """The pass over lists of what they need."""
        return NeededPass(self.program.net, self.border, self.pixels)

    @cached_property
    def some(self) -> NeededPass:
        """The pass over what they need, patch by patch where that takes less."""
        if self._shares_little():
            return PatchesPass(self.program.net, self.border, self.pixels)
        return self.lists

    @cached_property
    def _needed(self):
        """What they need, at most."""
        net, pixels = self.program.net, self.pixels
        if PatchesPass.suits(net) and _overlap_little(pixels, net.patch):
            return _Counted(*(len(pixels) * number for number in _patch_counted(net)))
        return _counted(net, self.lists.counts)

    @cached_property
    def _dense(self):
        return planning.remembered(_dense_counted, self.program, self.chosen.labelled)

    @cached_property
    def is_cheaper(self) -> bool:
        """Whether that costs less than the dense pass; it depends on net, mask and sizes alone."""
        cheaper = self._compared()
        if not cheaper:
            for name in ("pixels", "lists", "some"):  # they would take memory beside that pass
                vars(self).pop(name, None)
        return cheaper

    def _compared(self):
        net, mask, dense = self.program.net, self.chosen.mask, self._dense
        cost = COST[net.backend.name]
        # Each map needs as many cells as pixels, or more: a mask of many is not even listed
        if mask is not None and cost * np.count_nonzero(mask) * _work_of_a_cell(net) >= dense.work:
            return False
        needed = self._needed
        return (
            cost * needed.work < dense.work
            and cost * needed.maps < MOST_MAP_ELEMENTS_RATIO * dense.maps
            and (needed.lists < dense.largest or self._takes_no_more_memory())
        )

    def _shares_little(self):
        """Whether the patches take fewer multiply-adds than lists, as these count, and no map of
        the dense form's is smaller than all theirs."""
        net = self.program.net
        if not PatchesPass.suits(net):
            return False
        patch, needed = _patch_counted(net), self._needed
        fewer = needed.pixels * patch.work <= PATCHES_COST * needed.work
        return fewer and needed.pixels * patch.maps < self._dense.largest

    def _takes_no_more_memory(self):
        """Whether both passes, forward and with gradients, take at most what the dense ones take:
        planned for one thread, as more must not give other gradients."""
        dense = self.program, self.border, self.chosen.labelled
        planned = (planning.forward_bytes, planning.gradients_bytes)
        of_dense = (planning.remembered(plan, *dense, threads=1) for plan in planned)
        return self.lists.takes_at_most(*of_dense)


class _Counted(NamedTuple):
    """What a pass takes, by count.

    Attributes:
        pixels: that it labels.
        work: multiply-adds.
        maps: numbers of all maps but the image.
        largest: numbers of the largest of them.
        lists: numbers of all maps, the image, and tables if the cells are listed.
    """

    pixels: int
    work: int
    maps: int
    largest: int
    lists: int


def _counted(net: Net, cells: dict[str, int]) -> _Counted:
    """A pass over ``cells`` of each map, their number by layer."""
    nodes = net.nodes
    maps = [cells[name] * node.output.channels for name, node in nodes.items()]
    work = sum(cells[name] * node.multiply_adds for name, node in nodes.items())
    windows_of = ((cells[name], node.window) for name, node in nodes.items())
    tables = sum(count * window.kernel[0] for count, window in windows_of if window)
    lists = sum(maps) + cells[IMAGE] * net.channels + tables
    return _Counted(cells[next(reversed(nodes))], work, sum(maps), max(maps), lists)


def _dense_counted(program: Program, labelled: Pair) -> _Counted:
    net = program.net
    cells = {name: summary.dense_cells(net, node, labelled) for name, node in net.nodes.items()}
    image = prod(n + r - 1 for n, r in zip(labelled, net.receptive_field))
    return _counted(net, cells | {IMAGE: image})


@once_a_net
def _work_of_a_cell(net: Net) -> int:
    """Multiply-adds of one cell of each map."""
    return sum(node.multiply_adds for node in net.nodes.values())


@once_a_net
def _patch_counted(net: Net) -> _Counted:
    return _counted(net, cells_of_a_patch(net))


def _overlap_little(pixels: np.ndarray, patch: Pair) -> bool:
    """Whether the patches of some pixels share so few cells that all of them together have at most
    ``PATCHES_COST`` times those that are needed; False of many pixels. Maps behind the image share
    no larger part of their cells."""
    if not 1 < len(pixels) <= MOST_PAIRED:
        return len(pixels) == 1
    shared = np.maximum(patch - abs(pixels[:, None] - pixels), 0).prod(axis=2)
    cells = len(pixels) * prod(patch)  # and as many shared by each pixel with itself
    return bool((shared.sum() - cells) / 2 <= (1 - 1 / PATCHES_COST) * cells)
