"""The claims of the paper's abstract, how each is tested here, and verdicts from stored rows.

A verdict is computed from what was measured, never typed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from experiments.inputs.arithmetic import DIRECTIONS
from experiments.measuring.peak import PASSES
from experiments.measuring.timing import has_device_times, star
from experiments.reporting import speedups
from experiments.reporting.derived import (
    CLAIMED_SPEEDUP,
    PACED_BY_HOST,
    arithmetic,
    by_image,
    by_patch,
    crossing,
    excess,
    largest,
    steadiness,
    totals_of,
)
from experiments.reporting.numbers import counted, short
from net import zoo

SUPPORTED, PARTLY, NOT, MISSING = (
    "supported",
    "partly supported",
    "not supported",
    "not measured",
)
STEADY = 1.25
"""Largest ratio of a time to the fastest that still counts as constant on a shared machine."""
EFFICIENT = 0.5
"""Least share, of bytes moved or of a speed, that counts as continuous or efficient."""
_EXTRAPOLATED = " `*`: from a time of scanning that was extrapolated from a timed sample of pixels."
_MARKED = _EXTRAPOLATED + PACED_BY_HOST


@dataclass(frozen=True)
class Judged:
    """A claim, judged by the results of one machine."""

    result: str
    verdict: str


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        text: the abstract's words (arXiv:1412.4526); in brackets, the part that is tested.
        tested: the test that is made of it here.
        changes: the results that would change the verdict.
        experiments: the experiments on whose rows, as far as measured, the verdict rests.
        judge: the function that judges the experiments' rows.
        direction: the direction in which a speedup is claimed.
        modelled: the direction of the model's results whose note stands beside the verdicts.
    """

    text: str
    tested: str
    changes: str
    experiments: tuple[str, ...]
    judge: Callable[[list[dict]], Judged]
    direction: str | None = None
    modelled: str | None = None

    def judged(self, rows: dict[str, list[dict]]) -> Judged:
        """The verdict from the rows of a machine's experiments, by name."""
        measured = [row for name in self.experiments for row in rows.get(name, ())]
        if not measured:
            names = " and ".join(f"`{name}`" for name in self.experiments)
            return Judged(
                f"{names} {'was' if len(self.experiments) == 1 else 'were'} not run", MISSING
            )
        return self.judge(measured)


def _verdict(good: int, all_of: int) -> str:
    return SUPPORTED if good == all_of else PARTLY if good else NOT


def _same(rows) -> Judged:
    scores = max(row["scores_difference"] for row in rows if row["dtype"] == "float64")
    gradients = max(row["gradients_difference"] for row in rows if row["dtype"] == "float64")
    single = [row for row in rows if row["dtype"] == "float32"]
    bits = min(row["scores_equal_bits"] for row in single)
    rounding = max(row["gradients_difference"] for row in single)
    good = [row for row in rows if _is_same(row)]
    nets = len({row["net"] for row in rows})
    result = (
        f"{nets} nets. float64: scores differ by at most {scores:.1g}, "
        f"gradients by {gradients:.0e}; float32: {100 * bits:g}% of the scores are the same bits, "
        f"gradients differ by at most {rounding:.0e} (relative)"
    )
    return Judged(result, _verdict(len(good), len(rows)))


def _is_same(row):
    worst = max(row["scores_difference"], row["gradients_difference"])
    if row["dtype"] == "float64":
        return worst <= 1e-12
    return row["scores_equal_bits"] == 1 and worst <= 1e-5


def _redundancy(rows) -> Judged:
    """Whether the dense form evaluates a layer at most once for each pixel of image and border."""
    totals, excess, dropped, good = totals_of(rows), [], [], 0
    for net, size in largest(totals).items():
        row = totals[net, size, "forward", "dense"]
        nodes = zoo.build(net, backend="reference").nodes.values()
        once = size**2 * sum(node.multiply_adds for node in nodes)
        excess.append(row["multiply_adds"] / once)
        dropped.append(arithmetic(totals, net, size, "forward"))
        good += excess[-1] <= ((size + row["patch"] - 1) / size) ** 2
    result = (
        f"counted, at each net's largest image: the dense form does {min(excess):.2f} to "
        f"{max(excess):.2f} times the multiply-adds of every layer evaluated once for each "
        f"labelled pixel (the rest is the border that the patches need), and scanning "
        f"{min(dropped):.0f} to {max(dropped):.0f} times those of the dense form"
    )
    return Judged(result, _verdict(good, len(dropped)))


def _faster(direction):
    def judge(rows) -> Judged:
        every = speedups.cases(rows, direction)
        best = speedups.bests(every)
        passed = sum(case.passes for case in every)
        parts = [f"{case} ({case.ratio:.3g} of it arithmetic)" for case in best]
        result = (
            f"over {CLAIMED_SPEEDUP} in {passed} of {len(every)} cases, a net at a size each; the "
            f"best of each net: {'; '.join(parts)}"
        )
        return Judged(result, _verdict(sum(case.passes for case in best), len(best)))

    return judge


def _grows(series_of, what):
    def judge(rows) -> Judged:
        parts, rising, number = [], 0, 0
        for fixed, series in series_of(rows).items():
            for direction in DIRECTIONS:
                points = series[direction]
                ups = sum(b[1] > a[1] for a, b in pairwise(points))
                number += len(points) - 1
                rising += ups
                low, high = (short(p[1], 4) + p[3] for p in (points[0], points[-1]))
                parts.append(
                    f"{fixed}, {direction}: {low} at {what} {points[0][0]} to {high} at "
                    f"{points[-1][0]}, rising in {ups} of {len(points) - 1} steps (multiply-adds: "
                    f"{points[0][2]:.3g} to {points[-1][2]:.3g})"
                )
        return Judged("; ".join(parts), _verdict(rising, number))

    return judge


def _constant(rows) -> Judged:
    nets = list(dict.fromkeys(row["net"] for row in rows if row["form"] == "dense"))
    if not nets:
        return Judged("the paper's method was not measured", MISSING)
    ratios = {net: steadiness(rows, net) for net in nets}
    steady = [net for net in nets if ratios[net] <= STEADY]
    numbers = [row["pixels"] for row in rows]
    parts = [
        f"from {min(numbers)} to {max(numbers)} pixels the slowest dense backward pass takes "
        f"{min(ratios.values()):.2f} to {max(ratios.values()):.2f} times the fastest"
    ]
    if any(row["form"] == "scanning" for row in rows):
        below = {net: crossing(rows, net, PASSES[1]) for net in nets}
        crossings = [f"{n:.0f}{star(guessed)} ({net})" for net, (n, guessed) in below.items()]
        parts.append(f"scanning is the cheaper way to train below {', '.join(crossings)} pixels")
    worst = [largest for net in nets if (largest := excess(rows, net, PASSES[1]))]
    if worst:
        ratio, row = max(worst, key=lambda pair: pair[0])
        parts.append(
            "over needed cells there is no such crossing point: at every number a pass takes at "
            f"most {ratio:.2f} times the faster of both ({row['net']}, "
            f"{counted(row['pixels'], 'pixel')})"
            if ratio <= STEADY
            else f"over needed cells a pass takes up to {ratio:.2f} times the faster of both "
            f"({row['net']}, {counted(row['pixels'], 'pixel')} of {row['labelled']} x "
            f"{row['labelled']})"
        )
    return Judged("; ".join(parts), _verdict(len(steady), len(nets)))


def _continuous(rows) -> Judged:
    """Bytes asked for over bytes moved, kernel by kernel, for the feature maps of both forms."""
    sums = {}
    for row in rows:
        if row["is_map"]:
            access = tuple(row[name] for name in ("form", "net", "layer", "kernel", "access"))
            both = sums.setdefault(access, [0, 0])
            for i, count in enumerate(("asked", "moved")):
                both[i] += row[count] / row["share"]  # scaled to all blocks
    used = {
        form: [asked / moved for access, (asked, moved) in sums.items() if access[0] == form]
        for form in ("dense", "patch")
    }
    good = sum(share >= EFFICIENT for share in used["dense"])
    result = (
        f"counted: {good} of {len(used['dense'])} accesses of the dense form use at least "
        f"{100 * EFFICIENT:.0f}% of the bytes that they move; they use "
        f"{100 * min(used['dense']):.0f}% to {100 * max(used['dense']):.0f}%, those of the strided "
        f"patch net {100 * min(used['patch']):.0f}% to {100 * max(used['patch']):.0f}%"
    )
    return Judged(result, _verdict(good, len(used["dense"])))


def _efficient(rows) -> Judged:
    """Share of the ceiling at the base point, and speed at the worst d over that at d = 1; on a GPU
    of its own times alone."""
    shares, speeds = {}, {}
    on_gpu = has_device_times(rows)
    clock = "device_seconds" if on_gpu else "seconds"
    for row in rows:
        if row["axis"] == "d" and row[clock] is not None:
            rate = row["work"] / row[clock]
            speeds.setdefault(row["operation"], {})[row["d"]] = rate
            if row["gflops"]:
                shares.setdefault(row["operation"], []).append(1e-9 * rate / row["gflops"])
    flat = {name: min(by_d.values()) / by_d[min(by_d)] for name, by_d in speeds.items()}
    parts = [
        f"{name}: {100 * flat[name]:.0f}% of its speed at d = 1"
        + (f", {100 * min(shares[name]):.0f}% of the ceiling" if name in shares else "")
        for name in flat
    ]
    result = f"at the worst d, {'; '.join(parts)}"
    if not on_gpu:
        return Judged(f"no times of a GPU's own clock; by the host's, {result}", MISSING)
    worst = [min(flat[name], *shares.get(name, [1])) for name in flat]
    return Judged(result, _verdict(sum(share >= EFFICIENT for share in worst), len(worst)))


CLAIMS = (
    Claim(
        "It generates exactly the same results as those by patch-by-patch scanning",
        "Scores and gradients of all parameters of every net of the zoo, dense and patch by patch, "
        "at random pixels and all corners of a photograph, in float64 and float32. Supported: "
        "float64 within 1e-12, float32 scores the same bits, float32 gradients within 1e-5.",
        "one float32 score of other bits, or a difference above these limits, on any net",
        ("equality",),
        _same,
    ),
    Claim(
        "eliminate all the redundant computation in convolution and pooling",
        "Multiply-adds of the dense form against those of each layer evaluated once for each "
        "labelled pixel, at the net's largest image. Supported: no more than the border of the "
        "image, which the patches need, comes on top.",
        "a net whose dense form does more multiply-adds than its border explains",
        ("networks",),
        _redundancy,
    ),
    Claim(
        "speed up commonly used patch-by-patch scanning over 1500 times in both forward and "
        "backward propagation (forward)",
        "Every net of the zoo and of the growth family, at every size measured, both forms through "
        "the same operators, scanning with the batch size that suits it best; each net's best "
        "figure, with the ratio that arithmetic alone gives. Supported: over 1500 on every net, at "
        f"some size; partly: on some.{_MARKED}",
        "with one case over 1500 it is partly supported, with none not; more is out of reach, as "
        "arithmetic saves nets for small patches a few times only",
        ("networks", "growth"),
        _faster("forward"),
        direction="forward",
        modelled="forward",
    ),
    Claim(
        "speed up commonly used patch-by-patch scanning over 1500 times in both forward and "
        "backward propagation (backward)",
        "As for forward propagation.",
        "as for forward propagation",
        ("networks", "growth"),
        _faster("backward"),
        direction="backward",
        modelled="forward + backward",
    ),
    Claim(
        "The speedup increases with the sizes of images and patches (images)",
        "Nets of one family on images of 64 to 1024 pixels square. Supported: the speedup rises "
        f"with every step; partly: with some.{_MARKED}",
        "a larger image at which a net's speedup is not higher",
        ("growth",),
        _grows(by_image, "image"),
    ),
    Claim(
        "The speedup increases with the sizes of images and patches (patches)",
        "Nets for patches of 16 to 160 pixels made by one rule, on one image size. Supported: the "
        f"speedup rises with every step; partly: with some.{_MARKED}",
        "a larger patch at which the speedup is not higher",
        ("growth",),
        _grows(by_patch, "patch"),
    ),
    Claim(
        "Its computation complexity is constant with respect to the number of patches sampled from "
        "the image",
        "The dense backward pass, masked to 1 pixel up to all. Supported: for every net the "
        f"slowest median is within {STEADY} times the fastest.{_EXTRAPOLATED}",
        f"a number of pixels at which a pass takes over {STEADY} times the fastest",
        ("sampled",),
        _constant,
    ),
    Claim(
        "Convolution and pooling operations with such kernels are able to continuously access "
        "memory",
        "Sectors of memory that each request of the CUDA kernels touches, counted without a "
        "device, in the dense form and in the strided patch net. Supported: every kernel uses at "
        f"least {100 * EFFICIENT:.0f}% of the bytes of the feature maps that it moves.",
        f"kernels that begin, or cease, to use {100 * EFFICIENT:.0f}% of what they move",
        ("memory",),
        _continuous,
    ),
    Claim(
        "and can run efficiently on GPUs",
        "Speed of the sparse convolution and its gradients on a GPU over the distance d of their "
        "entries, and as a share of the GPU's own matrix product. Supported: none falls below "
        f"{100 * EFFICIENT:.0f}% of either at any d.",
        "a GPU's own times of the sweep over d",
        ("convolution",),
        _efficient,
    ),
)

INTRODUCTION = """\
# The abstract, claim by claim

H. Li, R. Zhao, X. Wang, *Highly Efficient Forward and Backward Propagation of Convolutional Neural
Networks for Pixelwise Classification*, [arXiv:1412.4526](https://arxiv.org/abs/1412.4526) (2014).
Only the paper's abstract, and the part of its introduction that a mirror had stored, were at hand,
not its tables. The claims are quoted from the abstract, and nothing else is attributed to the
paper. This page is made by `python -m experiments report` from the files in
[results](../results/README.md); its verdicts are computed from the numbers that it shows. What
others published for this method and its equivalents, and what such figures measure, stands in
[published.md](published.md)."""

NO_GPU = """\
No machine with a CUDA GPU has reported yet: what one gives for each claim is not known. The paper's
figures are from a GPU."""

HOW_TO_RUN = """\
## Your machine beside these

With an NVIDIA GPU, after `pip install -e ".[cuda13,bench]"` (or `".[cuda12]"`):

    python -m experiments all --backend cuda --pack

adds a column to this page, and a folder to `results/`, and packs the result files into
`results.tar.gz` to send back; unpacked over this repository, `python -m experiments report` shows
them beside the others. On a machine without a GPU leave `--backend cuda` out. A run that was
stopped goes on where it was; `--quick` tries everything, each experiment within a minute, into
`results-quick/`."""
