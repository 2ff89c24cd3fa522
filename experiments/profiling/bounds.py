"""The bounds that the CUDA kernels are held to, each with its scope and its reason.

Tests and the list of targets judge by these alone. What the choice of a tile reads, too, stands
beside it, in ``kernels.convolution.cuda_tiles``: the share of multiply-adds that it expects of each
tile, and the most that a tile may waste.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.profiling.devices import Capability
from kernels.convolution import PARTIAL_BYTES
from kernels.convolution.cuda_tile import Tile
from kernels.convolution.cuda_tiles import MOST_WASTED, TILES, WARPS
from kernels.device.multiprocessors import RECORDED

FEW_CHANNELS, FEW_CLASSES = range(1, 4), range(2, 11)
"""Input channels of a first layer, and outputs of a last one, in which a tile's tail weighs."""


@dataclass(frozen=True)
class Bound:
    """A bound on a quantity that can be read or counted without a device.

    Attributes:
        quantity: what is bounded.
        scope: where the bound holds.
        limit: the least value allowed where ``least``, else the largest.
        form: of values, for ``format``.
        reason: why it is this limit, and this scope.
    """

    quantity: str
    scope: str
    limit: float
    form: str
    reason: str
    least: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return value >= self.limit if self.least else value <= self.limit

    def worst(self, values):
        """The value farthest on the wrong side, or closest to it."""
        return (min if self.least else max)(values)

    def __str__(self) -> str:
        return f"{'at least' if self.least else 'at most'} {format(self.limit, self.form)}"


_SHARE = "multiply-adds of the main loop's instructions"
_RELATIVE = f"{_SHARE}, relative to what the cost model expects"
BOUNDS = {
    "share, large": Bound(
        *(_SHARE, "pixels or fully connected, tiles of 64 rows and more", 0.87, ".1%"),
        "On compute capability 8.6 and later this share bounds the share of the device's peak. "
        "With 64 rows, each value loaded from shared memory serves enough multiply-adds.",
        least=True,
    ),
    "share, medium": Bound(
        *(_SHARE, "pixels, tiles of 32 to 63 rows and two warps a scheduler", 0.83, ".1%"),
        "Fewer rows, so fewer multiply-adds for each value loaded.",
        least=True,
    ),
    "share, weights": Bound(
        _SHARE,
        "gradient by the weights, 32 rows and more, 32 x 96 sums and more, at most two warps a "
        "scheduler",
        *(0.85, ".1%"),
        "Each value is looked up and stored by the kernel; in fewer sums it serves too few "
        "multiply-adds for that: see `WEIGHT_TILES` in `kernels/convolution/cuda_tiles.py`.",
        least=True,
    ),
    "share, small": Bound(
        *(_RELATIVE, "other tiles on compute capability 9.0, but not input gradients", 1, ".1%"),
        "Smaller tiles reach less, and so do those with three and four warps a scheduler, which an "
        "H100 found faster all the same: fewer of its cycles pass without one. The model chooses "
        "tiles by the share that it expects of each, as compiled for 9.0: the compiled code must "
        "not be worse.",
        least=True,
    ),
    "share, small, other": Bound(
        *(_RELATIVE, "other tiles, input gradients and other compute capabilities", 0.93, ".1%"),
        "What the model expects is read from other code: the input gradient computes more "
        "addresses than the forward convolution, and instructions differ with the capability.",
        least=True,
    ),
    "share, lists": Bound(
        *("share of multiply-adds, below that of maps", "every tile of lists, but 2 x 64 weights"),
        *(0.03, ".1%"),
        "Places are looked up where others are computed. In a tile for two classes a thread has 4 "
        "sums for 16 look-ups.",
    ),
    "loop": Bound(
        *("bytes of the main loop's code", "gradients by the weights, every tile", 16 * 1024, "d"),
        "The first instruction cache holds so much; what is beyond is fetched anew in each turn.",
    ),
    "local": Bound(
        *("bytes of local memory a thread", "every kernel", 0, "d"),
        "Local memory is global memory: what does not fit into the registers is slow.",
    ),
    "registers": Bound(
        *("registers of the promised blocks, of a multiprocessor's", "every tile", 1, ".0%"),
        "With more, a multiprocessor holds fewer blocks than the tile promises.",
    ),
    "double": Bound(
        *("instructions in double precision", "every kernel on float32", 0, "d"),
        "A float32 widened by accident; float64 throughput is lower.",
    ),
    "atomics": Bound(
        *("atomic instructions", "every kernel", 0, "d"),
        "Sums must not depend on the order of threads: the same call gives the same bits.",
    ),
    "compile": Bound(
        *("seconds to compile", "a net's pass forward and backward", 60, ".1f"),
        "The first pass waits for it.",
    ),
    "waste": Bound(
        *("multiply-adds wasted", "inputs of 1 to 3 channels, 2 to 10 classes", MOST_WASTED, ".1%"),
        "A tile that wastes more is chosen only if all do, and for so few rows others exist.",
    ),
    "waste, any": Bound(
        *("multiply-adds wasted by the tails of tiles", "every layer of the zoo", 1 / 2, ".1%"),
        "A layer one row larger than a tile takes two of them. Judged from the tables by a test "
        "alone: what launches execute includes the border of the input gradient.",
    ),
    "idle": Bound(
        *(
            f"time that multiprocessors are idle while the fullest multiplies, of {RECORDED.count}",
            "a net's pass",
        ),
        *(1 / 10, ".1%", "The last wave of blocks is seldom full; tiles are chosen by it."),
    ),
    "idle, launch": Bound(
        *("the same, of the pass's time", "each launch of a net's pass that multiplies"),
        *(1 / 10, ".1%", "One launch may take what its pass may."),
    ),
    "workspace": Bound(
        *("the input gradient's copies of weights and maps, of the weights", "every layer"),
        *(1, ".2f", "A transposed copy of the weights is enough."),
    ),
    "taps": Bound(
        *("requests for the places of taps in the main loop", "1 x 1 layers", 0, "d"),
        "A window of one cell has one place.",
    ),
    "partial": Bound(
        *("MiB of partial sums", "gradient by the weights", PARTIAL_BYTES / 2**20, ".1f"),
        "What the operator promises.",
    ),
    "argmax": Bound(
        *("bytes of an argmax", "max poolings of the zoo", 1, "d"),
        "Their windows have at most 255 cells.",
    ),
    "beyond": Bound(
        *("sectors of a full warp in a row beyond those that its bytes fill", "every operator"),
        *(1, "d", "A row that begins anywhere spans one more sector than its bytes fill."),
    ),
    "sectors": Bound(
        *("sectors a request, mean of a launch", "maps 128 wide or wider", 5, ".2f"),
        "A row of 32 words fills 4 sectors, or spans 5 where it does not begin at one.",
    ),
    "sectors, lists": Bound(
        *(
            "sectors a request, mean of a kernel",
            "lists with a mean run of 16 cells and more",
        ),
        *(6, ".2f", "Runs of L cells that begin anywhere take 4 + 28 / L sectors for 32 of them."),
    ),
    "conflicts": Bound(
        *("wavefronts of ideal in main loops", "every kernel with a main loop", 1.05, ".3f"),
        "Reads and writes of shared memory are free of bank conflicts, up to a tile's tails.",
    ),
    "reads": Bound(
        *("elements read for each output", "max pooling, windows of 8 x 8, d of at most 8"),
        *(2.1, ".2f", "Blocks share rows and columns: they read 23 for 16, and 184 for 128."),
    ),
    "passes": Bound(
        *("times that a kernel reads, or writes, an element", "pointwise operators", 1, ".2f"),
        "They are bound by memory: what is read twice takes twice as long.",
    ),
}


def share_fact(
    table: str, direction: str, tile: Tile, capability: Capability, share: float
) -> tuple[str, float]:
    """The bound on a tile's share of multiply-adds, by name, and the value that it judges.

    Args:
        table: of ``TILES``, that the tile belongs to.
        direction: ``forward``, ``gradient_input`` or ``gradient_weights``.
        capability: that the tile's kernel is compiled for.
        share: of multiply-adds among the instructions of the tile's main loop.
    """
    if table in ("map", "matrix") and tile.height >= 64:
        return "share, large", share
    few_warps = tile.blocks * tile.warp_count <= WARPS[table]
    if table == "map" and tile.height >= 32 and few_warps:
        return "share, medium", share
    large = tile.height >= 32 and tile.height * tile.width >= 32 * 96
    if table == "weights" and large and few_warps:
        return "share, weights", share
    as_modelled = capability == (9, 0) and direction != "gradient_input"
    return "share, small" if as_modelled else "share, small, other", share / TILES[table][tile]


def fact(target: str, of: str, case, value: float) -> dict:
    """A row of the list of targets: a value under the bound ``target``, of one case of a group."""
    return {"target": target, "of": of, "case": str(case), "value": value}
