"""Images of any size, region by region: how fast beside one pass, and in how much memory.

Images are read from an ``.npy`` and labels written to another one, through all that ``label`` does:
windows, borders, a journal, and waiting for the disk.
"""

from __future__ import annotations

from math import prod

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.inputs.nets import prepared
from experiments.measuring.labelling import QUICK_REGION, limited_run, timed_regions
from net.zoo import ZOO

TIMED = True
NETS = tuple(ZOO)
REGIONS, FEW_REGIONS = (2, 3), {"greentea102": (1, 2)}
"""Regions of a timed run, down and across; six of the slowest net would take a minute."""
MEMORY = 4 * 10**8
"""Bytes for which the regions of timed runs are chosen."""
SIDES, QUICK_SIDES = (3_163, 5_624, 10_000, 17_783, 31_623), (100,)
"""Rows and columns of the images whose memory is measured: 10^7 to 10^9 pixels."""
GIVEN, LIMIT = 8 * 10**8, 10**9
"""Bytes that ``label`` may take there, and that the system gives."""
AIM = 0.85
"""Of the throughput of a pass over one region."""
TINY = "tiny"
COLUMNS = {
    **{"net": str, "labelled": int, "rows": int, "columns": int, "wasted": float},
    **{"seconds": float, "seconds_p20": float | None, "seconds_p80": float | None},
    **{"repeats": int | None, "share": float | None, "share_one_by_one": float | None},
    **{"peak_bytes": int | None, "limit": int | None},
}


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, and one for each size of image whose memory is measured; no arrays."""
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    nothing = dict.fromkeys(COLUMNS)
    for net in tqdm(options.nets or NETS, desc="large: time", unit="net"):
        rows.append(
            nothing
            | {"net": net}
            | options.cache.measured(
                {"net": net, "memory": MEMORY}, lambda net=net: _timed(net, options)
            )
        )
    if options.backend != "cpu":  # the limit is the host's
        return rows, {}
    for side in tqdm(QUICK_SIDES if options.quick else SIDES, desc="large: memory", unit="image"):
        given = {"side": side, "memory": GIVEN, "limit": LIMIT}
        found = options.cache.measured(
            given, lambda given=given: limited_run(**given, folder=options.out)
        )
        rows.append(nothing | {"net": TINY, "limit": LIMIT} | found)
    return rows, {}


def _timed(net, options):
    built = prepared(net, seed=options.seed, backend=options.backend)
    regions = FEW_REGIONS.get(net, REGIONS)
    return timed_regions(built, MEMORY, regions, options.seed, options.out, options.quick)


def _speed(row):
    """Megapixels a second."""
    return row["labelled"] / row["seconds"] / 1e6


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    lines = [
        "| net | labelled pixels | regions | work of halos | megapixels/s (p20 to p80) "
        "| of one pass | without overlap | peak MB | limit MB |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        speed, shares, memory = f"{_speed(row):.3g}", ["", ""], ["", ""]
        if row["share"] is not None:
            low, high = (row["labelled"] / row[f"seconds_{q}"] / 1e6 for q in ("p80", "p20"))
            speed += f" ({low:.3g} to {high:.3g})"
            shares = [f"{row[name]:.0%}" for name in ("share", "share_one_by_one")]
        if row["peak_bytes"] is not None:
            memory = [f"{row[name] / 1e6:,.0f}" for name in ("peak_bytes", "limit")]
        lines.append(
            f"| {row['net']} | {row['labelled']:,} | {row['rows']} x {row['columns']} "
            f"| {row['wasted']:.1%} | {speed} | {' | '.join(shares + memory)} |"
        )
    return "\n".join(lines)


def caption(record: dict) -> str:
    """What the table shows."""
    memory = f"{MEMORY / 1e6:.0f} MB"
    regions = f"those that the plan takes for an image of 20,000 x 20,000 pixels and {memory}"
    labelled, sides = "10^7 to 10^9", SIDES
    few = ", ".join(f"{prod(count)} of `{net}`" for net, count in FEW_REGIONS.items())
    if record["quick"]:
        regions = "of {} x {} pixels, as of `--quick`".format(*QUICK_REGION)
        labelled, sides = " and ".join(f"{side**2:,}" for side in QUICK_SIDES), QUICK_SIDES
    return (
        "Labelling region by region, from an `.npy` to another one.\n\n"
        "*Of one pass* is the pixels a second as a share of those of `Dense.forward` on the window "
        f"of one region, which has the same halo; we aim at {AIM:.0%}. While a region is labelled, "
        "the next one is read and the last one written; *without overlap* is the share of one "
        "thing after the other.\n\n"
        f"Regions are {regions}; a timed run has {prod(REGIONS)} of them, {few}. Rounds of all "
        f"three alternate; medians. `{TINY}` is a net of 2 filters and a patch of 4 x 4 that "
        f"labels images of {labelled} pixels in a process of its own, allowed "
        f"{GIVEN / 1e6:.0f} MB, under a limit of {LIMIT / 1e6:,.0f} MB that the system enforces "
        "(RLIMIT_DATA); the peak is its largest resident set, Python and compiled code included. "
        f"Image and labels of the largest take up to {2 * sides[-1] ** 2 / 1e9:.2g} GB of disk "
        "while it runs."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Shares of one pass by net, and memory against pixels."""
    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    timed = [row for row in rows if row["share"] is not None]
    y = np.arange(len(timed))
    for offset, name, label, color in (
        (-0.2, "share", "with overlap", "#0072b2"),
        (0.2, "share_one_by_one", "without", "#e69f00"),
    ):
        left.barh(y + offset, [100 * row[name] for row in timed], 0.4, color=color, label=label)
    left.axvline(100 * AIM, color="black", ls=":", label="aim")
    left.set_yticks(y, [f"{row['net']}\n{_speed(row):.3g} MP/s" for row in timed], fontsize=8)
    left.invert_yaxis()
    left.set_xlabel("throughput, % of that of one pass over a region")
    left.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    limited = [row for row in rows if row["peak_bytes"] is not None]
    if limited:
        pixels = [row["labelled"] for row in limited]
        right.plot(pixels, [row["peak_bytes"] / 1e6 for row in limited], "o-", label="peak")
        right.plot(pixels, [row["limit"] / 1e6 for row in limited], "k:", label="limit")
        right.legend(fontsize=8, loc="lower right")
    right.set_xscale("log")
    right.set_ylim(bottom=0)
    right.set_xlabel("labelled pixels")
    right.set_ylabel("peak memory (MB)")
    drawing.suptitle(f"Images of any size: {record['gpu'] or record['cpu']}")
    return drawing
