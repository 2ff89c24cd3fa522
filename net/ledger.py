"""Blocks of memory that are made and dropped, placed as the host's memory places arrays."""

from __future__ import annotations

from kernels.checks import Pair
from kernels.gaps import Gaps
from kernels.memory import cpu as memory
from net.passes import Workspace

ADDRESS_SPACE_BYTES = 2**200
"""Bytes: more than any pass takes, of whatever absurd size."""
UNINDEXABLE = 2**160
"""Bytes that stand for a map of more numbers than the kernels can index: it never fits."""


class Block:
    """Memory that is free again when its last owner is gone.

    Attributes:
        nbytes: its size.
        place: (begin, end) of a large one; None for a small one.
        owners: number of its owners.
    """

    __slots__ = ("nbytes", "owners", "place")

    def __init__(self, nbytes: int, place: Pair | None):
        self.nbytes, self.place, self.owners = nbytes, place, 1


class Ledger:
    """What is taken of the host's memory, as ``kernels.memory.cpu`` hands it out."""

    def __init__(self):
        self.large, self.small, self.most_small = Gaps(ADDRESS_SPACE_BYTES), 0, 0

    @property
    def peak(self) -> int:
        """Most bytes that were taken at once: of the store of large arrays, and of all else."""
        return self.large.used + self.most_small

    def make(self, nbytes: int) -> Block:
        """A new block with one owner."""
        if nbytes >= memory.SMALLEST:
            return Block(nbytes, self.large.take(nbytes))
        self.small += nbytes
        self.most_small = max(self.most_small, self.small)
        return Block(nbytes, None)

    def hold(self, block: Block) -> Block:
        """The block, with one owner more."""
        block.owners += 1
        return block

    def drop(self, block: Block) -> None:
        """One owner less."""
        block.owners -= 1
        if block.owners:
            return
        if block.place:
            self.large.give_back(*block.place)
        else:
            self.small -= block.nbytes

    def work_in(self, workspace: Workspace, threads: int) -> None:
        """Take a workspace for a moment. What threads take for themselves comes from the system's
        allocator, which keeps it, too."""
        for block in [self.make(nbytes) for nbytes in workspace.arrays]:
            self.drop(block)
        of_threads = min(threads, workspace.parts) * workspace.a_thread
        self.most_small = max(self.most_small, self.small + of_threads)
