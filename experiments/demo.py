"""Demo: a trained net labels every pixel of a photograph in one pass, in a minute or two.

The net is ``authors133`` of the zoo with the weights that lie beside the code
(``inputs.trained``). It is held to patch-by-patch scanning before anything is timed. Nothing is
fetched from the network: photograph and weights are on this machine already.
"""

from __future__ import annotations

import math
import textwrap
import time
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from tqdm import tqdm

from experiments.inputs import trained
from experiments.inputs.arithmetic import saved
from experiments.measuring.compare import BATCHES, SAMPLE
from experiments.measuring.exactness import NotEqual
from experiments.measuring.timing import ROUNDS, interleaved, spread
from experiments.storing import machine
from kernels import get_backend
from net import Dense, Scan
from net.images import net_input
from net.pictures.overlay import overlaid

TIMED = True
CHECKED, QUICK_CHECKED = 500, 50
"""Pixels at which both forms are compared, corners included."""
QUICK_SAMPLE = 80
SHOWN = (120, 271)
"""The pixel, (y, x), whose patch is drawn: on a coin of the half that was not learned from."""
BAR = "{desc}: {n_fmt} of {total_fmt} steps done, {elapsed}{postfix}"
COLUMNS = {
    **dict.fromkeys(("net", "photograph"), str),
    **dict.fromkeys(("rows", "columns", "checked", "timed_pixels", "batch", "repeats"), int),
    **dict.fromkeys(("scores_equal_bits", "seconds", "scanning_seconds"), float),
    **dict.fromkeys(("speedup", "speedup_p20", "speedup_p80", "multiply_adds_saved"), float),
    **dict.fromkeys(("accuracy", "iou"), float),
}
REACH = (66, 66)
"""Rows and columns of a patch of 133 before its pixel, and after."""
COLORS = ((0, 114, 178), (230, 159, 0))
"""Of the classes: background, coin."""


def run(options) -> tuple[list[dict], dict]:
    """One row; as arrays the photograph, the class of each pixel, the probability of a coin in
    percent. It is measured each time that it is asked for.

    Raises:
        NotEqual: scores are not the same bits as patch by patch.
    """
    with tqdm(total=4 + options.train, desc="demo", bar_format=BAR) as progress:

        def begin(step):
            progress.set_postfix_str(step)
            progress.update(int(step != steps[0]))

        steps = ("reading", "comparing", "timing", "scoring")
        if options.train:
            progress.set_postfix_str("training")
            record = machine.described(get_backend(options.backend))
            trained.make(options.backend, options.seed, record)
            progress.update()
        begin("reading")
        net, photograph = trained.trained(options.backend), trained.photograph()
        image = net_input(net, photograph, "first")
        begin("comparing")
        checked = _pixels(image.shape[1:], QUICK_CHECKED if options.quick else CHECKED, options)
        share = _same_bits(net, image, checked)
        begin("timing")
        row = {"net": trained.NAME, "photograph": "skimage.data.coins"}
        row |= {"rows": image.shape[1], "columns": image.shape[2]}
        row |= {"checked": len(checked), "scores_equal_bits": share}
        row |= _times(net, image, options)
        row |= {"multiply_adds_saved": saved(net, image.shape[1:])}
        begin("scoring")
        row |= trained.scores(net)["never seen"]
        classes, probabilities = Dense(net, trained.BORDER).predict(image)
        progress.update()
    coin = np.rint(100 * probabilities[1]).astype(np.uint8)
    return [row], {"photograph": photograph[0], "classes": classes.astype(np.uint8), "coin": coin}


def _pixels(size, number, options):
    """``number`` pixels drawn at random, (y, x), with the corners and the one that is shown."""
    rng = np.random.default_rng(options.seed)
    fixed = [(y, x) for y in (0, size[0] - 1) for x in (0, size[1] - 1)] + [SHOWN]
    places = {y * size[1] + x: None for y, x in fixed}
    places |= dict.fromkeys(rng.permutation(size[0] * size[1])[:number].tolist())
    return np.stack(np.unravel_index([*places][:number], size), axis=1)


def _same_bits(net, image, pixels):
    """The share of scores that are the same bits in both forms: 1, or an error."""
    by_patch = Scan(net, trained.BORDER).forward(image, pixels)
    ours = Dense(net, trained.BORDER).forward(image)[:, pixels[:, 0], pixels[:, 1]].T
    same = (ours == by_patch).mean()
    if not same == 1:
        raise NotEqual(f"same bits as patch by patch at {len(pixels)} pixels: no, {same:.1%}")
    return float(same)


def _times(net, image, options):
    """Seconds of a dense pass, and of scanning all pixels, scaled from a sample; rounds of both
    alternate."""
    pixels = math.prod(image.shape[1:])
    dense = Dense(net, trained.BORDER)
    scans = {batch: Scan(net, trained.BORDER, batch) for batch in BATCHES}
    rng = np.random.default_rng(options.seed + 1)
    chosen = np.stack(np.unravel_index(rng.permutation(pixels), image.shape[1:]), axis=1)

    def seconds(call, *arguments):
        started = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - started

    paces = {b: seconds(scan.forward, image, chosen[:b]) / b for b, scan in scans.items()}
    batch = min(paces, key=paces.get)
    sample = QUICK_SAMPLE if options.quick else SAMPLE
    number = ROUNDS * batch * math.ceil(sample / (ROUNDS * batch))
    parts = np.array_split(chosen[:number], ROUNDS)
    turns = cycle(parts)
    jobs = {
        "dense": lambda: seconds(dense.forward, image),
        "scan": lambda: seconds(scans[batch].forward, image, next(turns)) / len(parts[0]),
    }
    jobs["dense"]()
    rounds = interleaved(jobs)
    scanning = pixels * np.array(rounds["scan"])
    return {
        **{"timed_pixels": number, "batch": batch, "repeats": len(scanning)},
        **{"seconds": float(np.median(rounds["dense"]))},
        **{"scanning_seconds": float(np.median(scanning))},
        **spread(scanning / rounds["dense"], "speedup"),
    }


def sentences(row: dict) -> list[str]:
    """What was found, in sentences."""
    low, high = row["speedup_p20"], row["speedup_p80"]
    same = "yes" if row["scores_equal_bits"] == 1 else "no"
    return [
        f"same bits as patch by patch at {row['checked']} pixels: {same}",
        f"{row['speedup']:.0f} times faster (20th to 80th percentile {low:.0f} to {high:.0f}; "
        f"extrapolated from {row['timed_pixels']} timed patches); "
        f"{row['multiply_adds_saved']:.0f} times fewer multiply-adds",
        f"{row['rows']} x {row['columns']} pixels in {row['seconds']:.2g} s, where patch by patch "
        f"takes {row['scanning_seconds'] / 60:.2g} minutes",
        f"of the pixels of the half that it never saw, {100 * row['accuracy']:.1f}% are right; "
        f"intersection over union of the coins {row['iou']:.3f}",
    ]


def table(rows: list[dict]) -> str:
    """What was found, as a list."""
    return "\n".join(f"- {line}" for line in sentences(rows[0]))


def caption(record: dict) -> str:
    """What the list shows."""
    return (
        "A net that was made for patches of 133 x 133 pixels labels every pixel of a photograph in "
        "one pass, forward, with the bits that it gives patch by patch.\n\n"
        "The net is `authors133` of the zoo with two classes, the photograph scikit-image's "
        "`coins`, border `reflect`. It learned from the left half alone, whose labels a watershed "
        "drew (`python -m experiments demo --train` does it again). Scanning is timed on a random "
        "sample of pixels in batches of the fastest size, in rounds that alternate with the dense "
        "form, and scaled to all pixels. With two classes the last layer takes little, and that "
        "is where the dense form saves nothing: so it saves more here than on the zoo's net of 32 "
        "classes, and forward alone is timed; `networks` compares both directions."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """The photograph, its labels, one patch, and its neighbourhood in the dense map."""
    (row,), (y, x) = rows, SHOWN
    photograph, classes, coin = (arrays[name] for name in ("photograph", "classes", "coin"))
    above, below = REACH
    drawing = Figure(figsize=(12, 7.4), layout="constrained")
    panels = drawing.subplot_mosaic("AABB;CDEE", height_ratios=(1.32, 1))
    panels["A"].imshow(photograph, cmap="gray")
    panels["A"].set_title("learned from the left half, never saw the right one")
    panels["B"].imshow(overlaid(photograph[None], classes.astype(np.int64), COLORS))
    panels["B"].set_title("every pixel labelled in one pass: background, coin")
    for name in "AB":
        panels[name].axvline(photograph.shape[1] // 2 - 0.5, color="white", lw=1, ls="--")
        corner, size = (x - above - 0.5, y - above - 0.5), above + below + 1
        look = {"fill": False, "color": "#d55e00", "lw": 1.5}
        panels[name].add_patch(Rectangle(corner, size, size, **look))
    near = np.s_[y - above : y + below + 1, x - above : x + below + 1]
    panels["C"].imshow(photograph[near], cmap="gray")
    panels["C"].set_title(f"one patch, one label:\ncoin, {coin[y, x]}% sure", fontsize=10)
    panels["D"].imshow(coin[near], cmap="viridis", vmin=0, vmax=100)
    panels["D"].set_title("its pixels in the dense map:\nhow sure of a coin", fontsize=10)
    for name in "CD":
        panels[name].plot(above, above, "+", color="#d55e00", markersize=14, mew=2)
    for panel in panels.values():
        panel.set_axis_off()
    where = f"{row['net']} with {len(COLORS)} classes, forward; "
    where += f"{record['gpu'] or record['cpu']}, {record['threads']} threads"
    lines = [textwrap.fill(line, 56) for line in (*sentences(row)[:3], where)]
    panels["E"].text(0.03, 0.5, "\n\n".join(lines), va="center", fontsize=12)
    return drawing
