"""The host's part of a pass on a GPU: Python's time, launches and allocations. No GPU is needed.

All of the host's code runs, down to the calls of the driver, which come back at once.
"""

from __future__ import annotations

from tqdm import tqdm

from experiments.measuring.host import COUNTED, measured
from experiments.reporting import host_part
from net.zoo import ZOO

TIMED = True
NETS = tuple(ZOO)
LABELLED, QUICK_LABELLED = 256, 16
"""Labelled rows and columns."""
COLUMNS = {
    **{"net": str, "labelled": int, "direction": str, "repeats": int},
    **dict.fromkeys(COUNTED, int),
    **dict.fromkeys(("seconds", "seconds_p20", "seconds_p80"), float),
}


def run(options) -> tuple[list[dict], dict]:
    """One row for each net and direction; no arrays."""
    labelled = QUICK_LABELLED if options.quick else LABELLED
    rows = []
    for net in tqdm(options.nets or NETS, desc="host", unit="net"):
        measured_rows = options.cache.measured(
            {"net": net, "labelled": labelled},
            lambda net=net: measured(net, labelled, options.quick),
        )
        rows += [{"net": net, "labelled": labelled} | row for row in measured_rows]
    return rows, {}


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    heads = ("net", "labelled pixels", *host_part.HEADS)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row["net"], f"{row['labelled']} x {row['labelled']}"]
        cells += host_part.cells(row, row["seconds_p20"], row["seconds_p80"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "What the host does for a pass of the dense form on a GPU, with a device that does "
        "nothing: operators, allocation and the arguments of every launch, in CPU time on the CPU "
        "and the interpreter that the record names. A GPU is kept busy where a pass takes it "
        "longer than that.\n\n"
        "The driver's own time is not in it. Counted in a pass on arrays of shapes that came "
        "before: its memory comes from the pool, unless the driver is asked for more. "
        "Numbers packed are the numbers and tuples of numbers that were converted for its launches."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> None:
    """None: the table is enough."""
