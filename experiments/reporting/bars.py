"""Bars of ratios on a logarithmic axis, from 1, where both sides are as fast."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator


def ratio_bars(axes: Axes, ratios: dict[str, dict[str, float]], colors: tuple[str, ...]) -> None:
    """Draw a group of bars for each net, above and below 1.

    Args:
        axes: the axes to draw on.
        ratios: each opponent's ratio, by net; a net that one lacks leaves a gap.
        colors: the opponents' colours.
    """
    nets = list(dict.fromkeys(net for of_nets in ratios.values() for net in of_nets))
    width = 0.8 / len(ratios)
    for i, ((name, of_nets), color) in enumerate(zip(ratios.items(), colors)):
        place = [nets.index(net) + (i + 0.5) * width - 0.4 for net in of_nets]
        above = np.array(list(of_nets.values())) - 1
        axes.bar(place, above, 0.9 * width, bottom=1, color=color, label=name)
    axes.axhline(1, color="black", lw=1)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 5 else (1, 1.5, 2, 3)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xticks(range(len(nets)), nets, fontsize=8, rotation=20)
