"""The bounds that the CUDA kernels are held to, each with its scope and its reason.

Tests and the list of targets judge by these alone, and by the misses that are known. What the
choice of a tile reads, too, stands beside it, in ``kernels.convolution.cuda_tiles``: the share of
multiply-adds that it expects of each tile, and the most that a tile may waste.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from experiments.profiling.devices import Capability
from experiments.profiling.lists import CellList
from kernels.convolution import PARTIAL_BYTES
from kernels.convolution.cuda_tiles import MOST_WASTED, TILES, WARPS
from kernels.device.multiprocessors import RECORDED

FEW_CHANNELS, FEW_CLASSES = range(1, 4), range(2, 11)
"""Input channels of a first layer, and outputs of a last one, in which a tile's tail weighs."""
LARGE_WINDOW = 8, 8
"""A window of which neighbours share nearly all."""
ONE_BY_ONE = "convolution.forward", "convolution.gradient_input"
"""Operators that look up places of taps."""
POINTWISE = (
    *("activation", "batch_normalization", "softmax", "cross_entropy", "masking", "merging"),
    *("dropout", "sgd", "adam"),
)
"""Modules of operators that compute an element, or a pixel, from itself alone."""


def _always(case):
    return True


@dataclass(frozen=True)
class Bound:
    """A bound on a quantity that can be read or counted without a device.

    Attributes:
        quantity: the quantity, in words.
        scope: the cases for which the bound holds, in words.
        limit: the least value allowed where ``least``, else the largest.
        form: the form of values, for ``format``.
        reason: why it is this limit, and this scope.
        applies: whether a case is within the scope, among those that have the quantity. The case is
            a ``TileCase`` where a tile's code is judged, else an ``OperatorCase``; shares also
            depend on the compute capability, the second argument.
    """

    quantity: str
    scope: str
    limit: float
    form: str
    reason: str
    least: bool = False
    applies: Callable[..., bool] = _always

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return value >= self.limit if self.least else value <= self.limit

    def worst(self, values):
        """The value farthest on the wrong side, or closest to it."""
        return (min if self.least else max)(values)

    def __str__(self) -> str:
        return f"{'at least' if self.least else 'at most'} {format(self.limit, self.form)}"


def _is_large(case, capability):
    return case.table in ("map", "matrix") and case.tile.height >= 64


def _is_medium(case, capability):
    return case.table == "map" and 32 <= case.tile.height < 64 and _has_few_warps(case)


def _is_wide_by_weights(case, capability):
    tile = case.tile
    wide = tile.height >= 32 and tile.height * tile.width >= 32 * 96
    return case.table == "weights" and wide and _has_few_warps(case)


def _has_few_warps(case):
    return case.tile.blocks * case.tile.warp_count <= WARPS[case.table]


def _is_small(case, capability):
    return not any(f(case, capability) for f in (_is_large, _is_medium, _is_wide_by_weights))


def _is_as_modelled(case, capability):
    modelled = capability == (9, 0) and case.direction != "gradient_input"
    return modelled and _is_small(case, capability)


def _is_unlike_modelled(case, capability):
    return _is_small(case, capability) and not _is_as_modelled(case, capability)


_SHARE = "multiply-adds of the main loop's instructions"
_RELATIVE = f"{_SHARE}, relative to what the cost model expects"
BOUNDS = {
    "share, large": Bound(
        *(_SHARE, "pixels or fully connected, tiles of 64 rows and more", 0.87, ".1%"),
        "On compute capability 8.6 and later this share bounds the share of the device's peak. "
        "With 64 rows, each value loaded from shared memory serves enough multiply-adds.",
        least=True,
        applies=_is_large,
    ),
    "share, medium": Bound(
        *(_SHARE, "pixels, tiles of 32 to 63 rows and two warps per scheduler", 0.83, ".1%"),
        "Fewer rows, so fewer multiply-adds for each value loaded.",
        least=True,
        applies=_is_medium,
    ),
    "share, weights": Bound(
        _SHARE,
        "gradient by the weights, 32 rows and more, 32 x 96 sums and more, at most two warps a "
        "scheduler",
        *(0.85, ".1%"),
        "Each value is looked up and stored by the kernel; in fewer sums it serves too few "
        "multiply-adds for that: see `WEIGHT_TILES` in `kernels/convolution/cuda_tiles.py`.",
        least=True,
        applies=_is_wide_by_weights,
    ),
    "share, small": Bound(
        *(_RELATIVE, "other tiles on compute capability 9.0, but not input gradients", 1, ".1%"),
        "Smaller tiles reach less, and so do those with three and four warps per scheduler, which "
        "an H100 found faster all the same: fewer of its cycles pass without one. The model "
        "chooses tiles by the share that it expects of each, as compiled for 9.0: the compiled "
        "code must not be worse.",
        least=True,
        applies=_is_as_modelled,
    ),
    "share, small, other": Bound(
        *(_RELATIVE, "other tiles, input gradients and other compute capabilities", 0.93, ".1%"),
        "What the model expects is read from other code: the input gradient computes more "
        "addresses than the forward convolution, and instructions differ with the capability.",
        least=True,
        applies=_is_unlike_modelled,
    ),
    "share, lists": Bound(
        *("share of multiply-adds, below that of maps", "every tile of lists, but 2 x 64 weights"),
        *(0.03, ".1%"),
        "Places are looked up where others are computed. In a tile for two classes a thread has 4 "
        "sums for 16 look-ups.",
        applies=lambda case: (case.table, case.tile.height) != ("weights", 2),
    ),
    "loop": Bound(
        *("bytes of the main loop's code", "gradients by the weights, every tile", 16 * 1024, "d"),
        "The first instruction cache holds so much; what is beyond is fetched anew in each turn.",
        applies=lambda case: case.table == "weights",
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
        applies=lambda case: case.shape[1] in FEW_CHANNELS or case.filters in FEW_CLASSES,
    ),
    "waste, any": Bound(
        *("multiply-adds wasted by the tails of tiles", "every layer of the zoo", 1 / 2, ".1%"),
        "A layer one row larger than a tile takes two of them. Judged from the tables by a test "
        "alone: what launches execute includes the border of the input gradient.",
    ),
    "idle, wave": Bound(
        *("time that multiprocessors are idle", "one pixel beyond a full wave of blocks"),
        *(1 / 2, ".1%"),
        "The tile that fills one wave would take a second one for a block: another tile is chosen. "
        "Judged by a test alone, for three numbers of multiprocessors.",
    ),
    "idle": Bound(
        *(
            f"time that multiprocessors are idle while the fullest works, of {RECORDED.count}",
            "a net's pass",
        ),
        *(1 / 10, ".1%", "The last wave of blocks is seldom full; tiles are chosen by it."),
    ),
    "idle, launch": Bound(
        *("the same, of the pass's time", "each launch of a net's pass"),
        *(1 / 10, ".1%", "One launch may take what its pass may."),
    ),
    "workspace": Bound(
        *("the input gradient's copies of weights and maps, of the weights", "every layer"),
        *(1, ".2f", "A transposed copy of the weights is enough."),
    ),
    "taps": Bound(
        *("requests for the places of taps in the main loop", "1 x 1 layers", 0, "d"),
        "A window of one cell has one place.",
        applies=lambda case: case.operator in ONE_BY_ONE and case.kernel == (1, 1),
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
        *("sectors per request, mean of a launch", "maps 128 wide or wider", 5, ".2f"),
        "A row of 32 words fills 4 sectors, or spans 5 where it does not begin at one.",
        applies=lambda case: case.shape[3] >= 128,
    ),
    "sectors, lists": Bound(
        *(
            "sectors per request, mean of a kernel",
            "lists with a mean run of 16 cells and more",
        ),
        *(6, ".2f", "Runs of L cells that begin anywhere take 4 + 28 / L sectors for 32 of them."),
        applies=lambda case: not case.isolated and CellList.of(case).mean_run >= 16,
    ),
    "sectors, isolated": Bound(
        *("sectors per request, mean of a kernel", "last layers of isolated pixels, listed apart"),
        *(24, ".2f", "Windows that lie alone begin in sectors of their own: up to 32 for a warp."),
        applies=lambda case: case.isolated,
    ),
    "conflicts": Bound(
        *("wavefronts of ideal in main loops", "every kernel with a main loop", 1.05, ".3f"),
        "Reads and writes of shared memory are free of bank conflicts, up to a tile's tails.",
    ),
    "reads": Bound(
        *("elements read for each output", "max pooling, windows of 8 x 8, d of at most 8"),
        *(2.1, ".2f", "Blocks share rows and columns: they read 23 for 16, and 184 for 128."),
        applies=lambda case: (
            (case.operator, case.kernel) == ("max_pooling.forward", LARGE_WINDOW)
            and max(case.dilation) <= 8
        ),
    ),
    "passes": Bound(
        *("times that a kernel reads, or writes, an element", "pointwise operators", 1, ".2f"),
        "They are bound by memory: what is read twice takes twice as long.",
        applies=lambda case: case.operator.startswith(POINTWISE),
    ),
}

SHARES = ("share, large", "share, medium", "share, weights", "share, small", "share, small, other")
"""Names of the bounds on shares of multiply-adds in tiles of maps; one applies to each tile."""


@dataclass(frozen=True)
class Miss:
    """A known miss: cases that are beyond their bound, and stay so.

    Attributes:
        target: the bound's name in ``BOUNDS``.
        of: the cases' group, as in their rows.
        case: the beginning of the cases' names.
        reason: why they stay beyond it.
    """

    target: str
    of: str
    case: str
    reason: str

    def covers(self, row: dict) -> bool:
        """Whether a row of the list is of these cases."""
        of_group = (row["target"], row["of"]) == (self.target, self.of)
        return of_group and row["case"].startswith(self.case)


_ROUNDED_UP = "The copy has its channels rounded up to fours: 25 become 28, and 50 become 52."
_AGAIN = "read again shortly after, so that a cache should have it."
MISSES = (
    Miss(
        *("share, lists", "listed gradient_weights, sm_80"),
        "listed gradient_weights, tile 10 x 64 x 32",
        "A thread looks up 16 places for the 640 multiply-adds of a slice, and one of maps. The "
        "main loop has 1176 instructions; on 9.0 it has 1172, which are within the bound.",
    ),
    *(
        Miss("workspace", f"{form} form", f"{layer}: ", _ROUNDED_UP)
        for form, layer in (
            ("dense", "lenet28, fc1 + relu3"),
            ("dense", "plain133, conv3 + tanh3"),
            ("dense", "plain133, conv2 + tanh2"),
            ("dense", "rcnn25, fc1"),
            ("dense", "authors133, conv3"),
            ("dense", "authors133, conv2"),
            ("patch", "plain133, conv2 + tanh2"),
            ("patch", "authors133, conv2"),
        )
    ),
    *(
        Miss("passes", operator, f"loads of {array}, ", f"{reason}: {_AGAIN}")
        for operator, arrays, reason in (
            ("softmax.forward", ["x"], "For the maximum, the sum and the quotients"),
            ("softmax.backward", ["error", "y"], "For the sum of products, and for the result"),
            ("cross_entropy.forward", ["scores"], "For the maximum and the sum"),
            ("cross_entropy.backward", ["scores"], "For the maximum, the sum and the error"),
            ("masking.apply", ["mask"], "Once for each channel"),
        )
        for array in arrays
    ),
    *(
        Miss(
            *("passes", f"cross_entropy.{function}", "loads of labels, "),
            "The source names a pixel's label two or three times; the compiler loads it once.",
        )
        for function in ("total_weight", "forward", "backward")
    ),
)


def known_miss(row: dict) -> Miss | None:
    """The known miss that a row of the list belongs to, if any."""
    return next((miss for miss in MISSES if miss.covers(row)), None)


def is_as_known(row: dict) -> bool:
    """Whether a row is within its bound, or is a known miss; one that is within it is no miss."""
    return BOUNDS[row["target"]].holds(row["value"]) == (known_miss(row) is None)


def share_fact(case, capability: Capability, share: float) -> tuple[str, float]:
    """The bound on a tile's share of multiply-adds, by name, and the value that it judges.

    Args:
        case: a ``TileCase``.
        capability: the compute capability that the tile's kernel is compiled for.
        share: the share of multiply-adds among the instructions of the tile's main loop.
    """
    name = next(name for name in SHARES if BOUNDS[name].applies(case, capability))
    relative = BOUNDS[name].quantity == _RELATIVE
    return name, share / TILES[case.table][case.tile] if relative else share


def fact(target: str, of: str, case, value: float) -> dict:
    """A row of the list of targets: the value of one case of the group ``of``, and the name of the
    bound that judges it."""
    return {"target": target, "of": of, "case": str(case), "value": value}
