"""What results of ``--quick`` are marked with, so that nobody takes them for results."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.figure import Figure

QUICK = "QUICK: tiny sizes, not a result"


def marked(page: str) -> str:
    """A page in Markdown with the mark in its title and above each of its tables.

    >>> print(marked("# Growth" + chr(10) * 2 + "| patch |" + chr(10) + "|---|"))
    # Growth (QUICK: tiny sizes, not a result)
    <BLANKLINE>
    **QUICK: tiny sizes, not a result**
    <BLANKLINE>
    | patch |
    |---|
    """
    title, *lines = page.split("\n")
    made = [f"{title} ({QUICK})"]
    for before, line in pairwise([title, *lines]):
        begins = line.startswith("|") and not before.startswith("|")
        made += [f"**{QUICK}**", "", line] if begins else [line]
    return "\n".join(made)


def stamp(figure: Figure) -> None:
    """Write the mark across a figure."""
    width, height = figure.get_size_inches()
    look = {"color": "black", "alpha": 0.45, "weight": "bold", "zorder": 100}
    look["bbox"] = {"facecolor": "white", "alpha": 0.4, "linewidth": 0}  # seen on any color
    place = {"ha": "center", "va": "center", "rotation": 12}
    size = min(4.2 * width, 12 * height)
    figure.text(0.5, 0.5, QUICK, fontsize=size, **look, **place)
