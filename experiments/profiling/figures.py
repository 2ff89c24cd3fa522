"""The profiler's figure: a roofline with a point for each layer, and the instruction mixes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

# Colour-blind-safe (Okabe and Ito)
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
MARKERS = {"forward": "o", "backward": "s", None: "o"}
MIX = ("multiply-add", "LDS", "LDG", "STS", "integer", "barrier", "other")


def draw(rows: list[dict]) -> Figure | None:
    """The figure of the stored rows; None if they hold neither model, times nor code."""
    points = [row for row in rows if row["intensity"] and row["GFLOP/s"] is not None]
    codes = [row for row in rows if row["source"] == "static" and row["loop multiply-add"]]
    if not points and not codes:
        return None
    mixes = _mixes(codes)
    height = max(4.5, 1.5 + 0.3 * len(mixes))
    drawing = Figure(figsize=(13 if points and mixes else 7, height), layout="constrained")
    panels = list(np.atleast_1d(drawing.subplots(1, bool(points) + bool(mixes))))
    if points:
        _roofline(panels.pop(0), points)
    if mixes:
        _instruction_mix(panels.pop(0), mixes)
    return drawing


def _roofline(axes, points):
    devices = list(dict.fromkeys((row["source"], row["device"]) for row in points))
    widest = [row["intensity"] for row in points]
    x = np.geomspace(min(widest) / 2, max(widest) * 2, 100)
    for (source, device), color in zip(devices, COLORS * 2):
        of_device = [row for row in points if (row["source"], row["device"]) == (source, device)]
        peak, bandwidth = of_device[0]["device GFLOP/s"], of_device[0]["device GB/s"]
        if peak is not None:
            axes.plot(x, np.minimum(peak, bandwidth * x), color=color, linewidth=1)
        label = f"{device} (MODEL)" if source == "model" else f"{device}, measured"
        for direction, marker in MARKERS.items():
            some = [row for row in of_device if row["direction"] == direction]
            if some:
                axes.plot(
                    [row["intensity"] for row in some],
                    [row["GFLOP/s"] for row in some],
                    marker,
                    color=color,
                    markersize=5,
                    fillstyle="none" if source == "model" else "full",
                    label=f"{label}, {direction}" if direction else label,
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("float32 operations for each compulsory byte")
    axes.set_ylabel("GFLOP/s, two for a multiply-add")
    axes.set_title("Roofline: a point for each convolution; open points are of the MODEL")
    axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _mixes(codes):
    """{label: instructions of the main loop by class} of the first architecture's kernels."""
    mixes = {}
    for row in codes:
        if row["arch"] == codes[0]["arch"]:
            loop = {key[5:]: row[key] or 0 for key in row if key.startswith("loop ")}
            mix = dict.fromkeys(MIX, 0)
            for name, count in loop.items():
                kind = name.split()[0]
                mix[kind if kind in mix else "other"] += count
            label = f"{row['kernel']}\n{row['registers']} registers, {row['threads']} threads"
            mixes.setdefault((label, *mix.values()), mix)
    return [(key[0], mix) for key, mix in mixes.items()]


def _instruction_mix(axes, mixes):
    places, left = np.arange(len(mixes)), np.zeros(len(mixes))
    totals = np.array([sum(mix.values()) for _, mix in mixes])
    for kind, color in zip(MIX, COLORS):
        share = 100 * np.array([mix[kind] for _, mix in mixes]) / totals
        axes.barh(places, share, 0.8, left=left, color=color, label=kind)
        left += share
    axes.set_yticks(places, [label for label, _ in mixes], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the main loop's instructions, %")
    axes.set_title("Instruction mix")
    axes.legend(fontsize=7, ncols=len(MIX), loc="upper center", bbox_to_anchor=(0.5, -0.14))
