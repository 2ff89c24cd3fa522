"""The page on needed cells against the stored rows of ``sampled`` and what it aims at."""

import re
from pathlib import Path

from experiments import sampled
from experiments.reporting.derived import excess
from experiments.reporting.numbers import counted, short
from net import zoo
from tests.experiments.test_pages_agree import quoted, rows_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "needed-cells.md"
BOTH = sampled.KINDS[1]
LONGEST = 1.15
"""Of the faster way's time: what the page aims at."""


def learning(pixels, drawn, size=256):
    """Rows of ``sampled``, forward and backward, by net and form; lists as drawn."""
    case = (size, pixels, BOTH)
    return {
        (row["net"], row["form"]): row
        for row in rows_of("sampled")
        if (row["labelled"], row["pixels"], row["kind"]) == case
        and row["drawn"] == (drawn if row["form"] == "needed" else "random")
    }


def gains(rows, column):
    """The better of both ways over needed cells, by net."""
    return {
        net: min(rows[net, "dense"][column], rows[net, "scanning"][column]) / row[column]
        for (net, form), row in rows.items()
        if form == "needed"
    }


def cases():
    """(time over that of the faster way, row) of all passes over needed cells."""
    places = {(r["pixels"], r["drawn"], r["labelled"]) for r in rows_of("sampled")}
    for place in places:
        rows = learning(*place)
        for net, gain in gains(rows, "seconds").items():
            yield 1 / gain, rows[net, "needed"]


def test_the_page_on_needed_cells_quotes_200_pixels():
    rows = learning(200, "random")
    by_time, by_count = gains(rows, "seconds"), gains(rows, "multiply_adds")
    assert not any(row["extrapolated"] for row in rows.values())
    lines = PAGE.read_text().splitlines()
    for net in by_time:
        ms = [short(1e3 * rows[net, form]["seconds"]) for form in ("needed", "dense", "scanning")]
        times = " ms | ".join(ms)
        assert f"| `{net}` | {times} ms | {by_time[net]:.2f} | {by_count[net]:.2f} |" in lines


def test_the_page_on_needed_cells_quotes_the_worst_cases():
    worst = {net: excess(rows_of("sampled"), net, BOTH) for net in zoo.ZOO}
    text = " ".join(PAGE.read_text().split())
    text = text[text.index("At few pixels fixed costs weigh") :]
    told, others = re.search(r"^(.*?), and the others ([\d.]+ to [\d.]+)\.", text).groups()
    named = {net for net in worst if f"`{net}`" in told}
    for net in named:
        assert f"{worst[net][0]:.2f}" in told
    for net in sorted(worst, key=lambda net: -worst[net][0])[:3]:
        ratio, row = worst[net]
        assert f"{ratio:.2f} (`{net}`, {counted(row['pixels'], 'pixel')}" in told
    rest = [ratio for net, (ratio, _) in worst.items() if net not in named]
    assert others == f"{min(rest):.2f} to {max(rest):.2f}"


def test_the_page_on_needed_cells_quotes_the_memory_beyond_the_dense_form():
    rows = {
        (r["form"], r["drawn"], r["net"], r["labelled"], r["pixels"]): r["peak_bytes"]
        for r in rows_of("sampled")
        if r["kind"] == BOTH
    }
    excesses = [
        100 * (taken / rows["dense", "random", net, size, pixels] - 1)
        for (form, _, net, size, pixels), taken in rows.items()
        if form == "needed"
    ]
    told = quoted(
        "needed-cells.md", r"from one pixel to all, lie at most ([\d.]+)% above the dense"
    )
    assert told == f"{max(excesses):.1f}"


def test_the_page_on_needed_cells_quotes_how_many_cases_miss_their_aim():
    every = list(cases())
    slow = [row for ratio, row in every if ratio > LONGEST]
    told = quoted(
        "needed-cells.md", r"Of the (\d+) cases, (\d+) are above that aim: all of `rcnn25`"
    )
    assert told == (str(len(every)), str(len(slow)))
    assert {row["net"] for row in slow} == {"rcnn25"}


def test_the_page_on_needed_cells_quotes_what_scribbles_gain():
    told = quoted(
        "needed-cells.md",
        r"scribbles of 512 pixels gain ([\d.]+) to ([\d.]+) times at 256 x 256 .*? "
        r"At 128 x 128 it is ([\d.]+) to ([\d.]+)",
    )
    gain = [gains(learning(512, "scribbles", size), "seconds").values() for size in (256, 128)]
    assert told == tuple(f"{end(of_size):.1f}" for of_size in gain for end in (min, max))
    assert min(gain[0]) >= 2.5, "what the page aims at"
