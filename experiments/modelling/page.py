"""The model's tables, caption, figure and its note beside a claim, from the stored rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.inputs.arithmetic import BOTH, saved
from experiments.modelling.counted import BATCHES
from experiments.modelling.predicted import TERMS
from experiments.profiling.devices import DEVICES
from experiments.profiling.figures import COLORS
from experiments.reporting.derived import CLAIMED_SPEEDUP
from experiments.reporting.markdown import link
from experiments.reporting.numbers import short
from experiments.reporting.report import PAGE
from experiments.reporting.stored import PROFILE, naming, shown_rows
from experiments.storing.results import Results
from net import zoo

DIRECTIONS = ("forward", BOTH)
DENSE, BEST, BATCH_OF_ONE = "dense", "scanning", "one by one"
"""Forms of the rows: ``BEST`` scans with the fastest batch, ``BATCH_OF_ONE`` patch by
patch, literally."""
COLUMNS = {
    **dict.fromkeys(("net", "device", "stand_in", "direction", "form"), str),
    **dict.fromkeys(("size", "batch", "launches", "multiply_adds"), int),
    **dict.fromkeys(("seconds", "host_seconds", *TERMS), float),
    "speedup": float | None,
}
TITLE = "MODEL"
"""The title of its page."""
NOT_MEASURED = "MODEL, not measured"


def caption(record: dict) -> str:
    """What the tables show."""
    sources = "\n".join(
        f"* {name}: {device.reached.share:.0%} of the peak ({device.reached.source}). Figures of "
        f"the device: {device.source}; its L2 cache: {device.l2_source}."
        for name, device in DEVICES.items()
    )
    return (
        f"{NOT_MEASURED}: what a model says of both forms of the zoo's nets on named GPUs, and of "
        "the speedup. No GPU took part, and no claim is judged by it.\n\n"
        "The longest part of each launch (docs/profiling.md), 2 microseconds for each launch, and "
        "what the device waits for the host, whose time for a launch was measured here, on the "
        "CPU and interpreter below, without the driver's own. Scanning takes the batch that the "
        f"model finds fastest, of {', '.join(map(str, BATCHES[:-1]))} and {BATCHES[-1]} patches as "
        "far as kernels can index their maps and the device's memory holds them, and waits for the "
        "device once. Launches have the tiles that the kernels' cost model chooses for a device's "
        "own multiprocessors; tiles that were measured on a device do not count. "
        "A device marked * has code for the nearest later target that the installed compiler has; "
        f"the tables name it.\n\n{sources}"
    )


def table(rows: list[dict]) -> str:
    """The Markdown tables."""
    lines = [*_baseline(rows)]
    for direction in dict.fromkeys(row["direction"] for row in rows):
        of_direction = [row for row in rows if row["direction"] == direction]
        size = of_direction[0]["size"]
        lines += ["", f"## MODEL: {direction}, {size} x {size} labelled pixels", ""]
        lines += _speedups(of_direction)
        lines += ["", f"### MODEL: where the time goes, {direction}", ""]
        lines += _terms(of_direction)
    return "\n".join(lines)


def _by_form(rows):
    """{(net, device, direction): {form: row}}"""
    forms = {}
    for row in rows:
        key = row["net"], row["device"], row["direction"]
        forms.setdefault(key, {})[row["form"]] = row
    return forms


def _speedups(rows):
    """A line for each net, a column for each device."""
    devices = {row["device"]: row["stand_in"] for row in rows}
    heads = [f"{name} ({stand_in})*" if stand_in else name for name, stand_in in devices.items()]
    yield "Speedup (milliseconds of scanning, patches in a batch; milliseconds of the dense form)."
    yield ""
    yield f"| net | of it arithmetic | {' | '.join(f'{head} MODEL' for head in heads)} |"
    yield f"|---|---|{'---|' * len(heads)}"
    by_case = _by_form(rows)
    for net, direction in dict.fromkeys((row["net"], row["direction"]) for row in rows):
        cells = [_speedup(by_case.get((net, device, direction))) for device in devices]
        forms = next(forms for key, forms in by_case.items() if key[0] == net)
        yield f"| {net} | {_arithmetic(forms):.3g} x | {' | '.join(cells)} |"


def _speedup(forms):
    if forms is None:
        return "does not fit"
    dense, best = forms[DENSE], forms[BEST]
    scanning = f"{short(1e3 * best['seconds'], 4)}, {best['batch']}"
    return f"{short(best['speedup'])} ({scanning}; {short(1e3 * dense['seconds'], 4)})"


def _arithmetic(forms):
    return forms[BEST]["multiply_adds"] / forms[DENSE]["multiply_adds"]


def _terms(rows):
    """A line for each net, device and form."""
    yield f"| net | device | form | launches | MODEL ms | {' | '.join(TERMS)} |"
    yield f"|---|---|---|---|---|{'---|' * len(TERMS)}"
    for row in rows:
        shares = [f"{row[term] / row['seconds']:.0%}" for term in TERMS]
        form = row["form"] + (f", {row['batch']} a batch" if row["form"] == BEST else "")
        yield (
            f"| {row['net']} | {row['device']} | {form} | {row['launches']} "
            f"| {short(1e3 * row['seconds'], 4)} | {' | '.join(shares)} |"
        )


def _baseline(rows):
    """What it would take to reach the claimed speedup."""
    by_case = _by_form(rows)
    limits = {
        (net, direction): saved(zoo.build(net, backend="reference"), None, direction)
        for net, direction in dict.fromkeys((row["net"], row["direction"]) for row in rows)
    }
    said = _plainly(rows, max(limits.values()))
    yield from (f"## MODEL: the baseline that {CLAIMED_SPEEDUP} takes", "", said, "")
    yield (
        "| net | direction | arithmetic saves here | on an infinitely large image | MODEL: highest "
        f"speedup, on | how many times slower a baseline reaches {CLAIMED_SPEEDUP} there | its "
        "share of the peak, and ours | MODEL: speedup over one patch at a time, same device |"
    )
    yield "|---" * 8 + "|"
    for (net, direction), limit in limits.items():
        of_net = {key[1]: v for key, v in by_case.items() if (key[0], key[2]) == (net, direction)}
        device = max(of_net, key=lambda name: of_net[name][BEST]["speedup"])
        forms = of_net[device]
        best = forms[BEST]
        slower = CLAIMED_SPEEDUP / best["speedup"]
        rate = 2 * best["multiply_adds"] / best["seconds"] / DEVICES[device].peak
        alone = (
            short(forms[BATCH_OF_ONE]["speedup"], 4) if BATCH_OF_ONE in forms else "does not fit"
        )
        yield (
            f"| {net} | {direction} | {_arithmetic(forms):.3g} x "
            f"| {limit:.3g} x | {short(best['speedup'])}, {device} "
            f"| {slower:.3g} | {rate / slower:.2%}, {rate:.0%} | {alone} |"
        )


def _plainly(rows, limit):
    fair = [row for row in rows if row["form"] == BEST]
    alone = [row for row in rows if row["form"] == BATCH_OF_ONE]
    top = max(fair, key=lambda row: row["speedup"])
    over = [_named(row) for row in fair if row["speedup"] > CLAIMED_SPEEDUP]
    over_alone = sorted({row["net"] for row in alone if row["speedup"] > CLAIMED_SPEEDUP})
    nets = {row["net"] for row in rows}
    reached = (
        f"exceeds {CLAIMED_SPEEDUP} for {'; '.join(over)}"
        if over
        else (f"exceeds {CLAIMED_SPEEDUP} nowhere")
    )
    return (
        f"In the model, against scanning through the same kernels with the best batch, the dense "
        f"form {reached}; its highest speedup is {top['speedup']:.3g} ({_named(top)}). Arithmetic "
        f"saves at most {limit:.3g} times, on an infinitely large image; the rest is efficiency. "
        f"Over {CLAIMED_SPEEDUP} takes a baseline that leaves the device idle: one patch at a "
        f"time, each with launches of its own, is such a one on {len(over_alone)} of {len(nets)} "
        f"nets ({', '.join(over_alone) or 'none'}), on some device and in some direction; or "
        "batches through kernels that are slower than these by the factor in the table."
    )


def _named(row):
    return f"{row['net']}, {row['direction']}, {row['device']}"


def notes(profiles: Sequence[Results]) -> dict[str, str]:
    """What the model's results among the profiler's say beside claims, by direction.

    Raises:
        BadResults: rows are not those of the model.
    """
    said = {}
    for results in profiles:
        if results.record["experiment"] == "model":
            place = Path("..", "results", PROFILE, results.folder.name, PAGE)
            with naming(results.folder):
                code = f"commit {results.record['commit'][:12]}"
                for direction in DIRECTIONS:
                    text = note(shown_rows(results), direction)
                    said[direction] = f"{text} {link('Tables', place)}, of {code}."
    return said


def note(rows: list[dict], direction: str) -> str:
    """What the model says beside a claim of speedup: no verdict."""
    fair = [row for row in rows if (row["form"], row["direction"]) == (BEST, direction)]
    size, parts = fair[0]["size"], []
    for device in dict.fromkeys(row["device"] for row in fair):
        of_device = [row for row in fair if row["device"] == device]
        low, high = (choose(of_device, key=lambda row: row["speedup"]) for choose in (min, max))
        mark = f" (code for {high['stand_in']})" if high["stand_in"] else ""
        parts.append(
            f"{device}{mark} {short(low['speedup'])} ({low['net']}) to {short(high['speedup'])} "
            f"({high['net']})"
        )
    return (
        f"**{NOT_MEASURED}, and no verdict:** {direction}, {size} x {size} pixels, against "
        f"scanning with the best batch: {'; '.join(parts)}; the growth family is not modelled."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """The speedup of every net on every device, in both directions."""
    directions, devices, nets = (
        list(dict.fromkeys(row[name] for row in rows)) for name in ("direction", "device", "net")
    )
    by_case = _by_form(rows)
    width = 0.8 / len(devices)
    drawing = Figure(figsize=(max(8, 2.5 + 1.3 * len(nets)), 7.5), layout="constrained")
    for axes, direction in zip(drawing.subplots(2, 1, squeeze=False)[:, 0], directions):
        for i, (device, color) in enumerate(zip(devices, COLORS)):
            places = [n for n, net in enumerate(nets) if (net, device, direction) in by_case]
            forms = [by_case[nets[n], device, direction] for n in places]
            x = np.array(places) - 0.4 + (i + 0.5) * width
            heights = [one[BEST]["speedup"] for one in forms]
            axes.bar(x, heights, 0.9 * width, color=color, label=f"{device} MODEL")
            alone = [
                one[BATCH_OF_ONE]["speedup"] if BATCH_OF_ONE in one else np.nan for one in forms
            ]
            axes.plot(x, alone, "_", color=color, markersize=7, markeredgewidth=1.5)
            ratios = [_arithmetic(one) for one in forms]
            axes.hlines(ratios, x - width / 2, x + width / 2, color="black", lw=1.5)
        axes.axhline(CLAIMED_SPEEDUP, color="#d55e00", ls="--", lw=1)
        axes.set_yscale("log")
        axes.set_xticks(range(len(nets)), nets)
        axes.set_ylabel("MODEL: speedup (times)")
        axes.set_title(f"{NOT_MEASURED}: {direction}, {rows[0]['size']} x {rows[0]['size']} pixels")
    axes.legend(fontsize=8, ncols=len(devices), loc="upper center", bbox_to_anchor=(0.5, -0.1))
    drawing.supxlabel(
        "Bars: over scanning with the best batch; black: what arithmetic saves; dashes: over one\n"
        "patch at a time; broken line: the paper's claim, which no model judges",
        fontsize=8,
    )
    return drawing
