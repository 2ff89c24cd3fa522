"""The page of what others published, beside what arithmetic alone gives and what was measured."""

from __future__ import annotations

from pathlib import Path

from experiments.inputs import published
from experiments.inputs.arithmetic import DIRECTIONS, saved
from experiments.inputs.nets import built
from experiments.inputs.published import READ, Figure, Published
from experiments.measuring.compare import CUTTING, TOTAL
from experiments.measuring.timing import MARKS, mark
from experiments.reporting.derived import (
    PACED_BY_HOST,
    arithmetic,
    largest,
    mark_of_scanning,
    totals_of,
)
from experiments.reporting.markdown import escaped, link
from experiments.reporting.numbers import short
from experiments.reporting.report import PAGE
from experiments.reporting.stored import Machine, naming

MEASURED = "networks"
"""The experiment whose results stand beside."""
INTRODUCTION = """\
# What others published

Speedups and times of this method and its equivalents, as far as they were found, from
[published.toml](../experiments/inputs/published.toml). Arithmetic alone: multiply-adds of scanning
over those of the dense form, counted from the layers, and forward where a figure names no
direction; it depends on no machine and on no baseline. This page is made by `python -m experiments
report`, and printed by `python -m experiments published`."""
HERE = (
    "Here: speedup forward (what arithmetic alone gives), speedup backward (the same); "
    "milliseconds of a dense pass forward, backward; labelled pixels of the image. "
)


def page(machines: list[Machine]) -> str:
    """The page, for results beside ``docs/``.

    Raises:
        BadResults: rows are not those of their experiment.
    """
    cited = published.read()
    columns = [
        machine
        for machine in machines
        if MEASURED in machine.results and not machine.results[MEASURED].record["quick"]
    ]
    lines = [INTRODUCTION, "", _opponents(cited, columns), ""]
    heads = [f"here: {_linked(machine)}" for machine in columns]
    lines += [
        "| published by | published | arithmetic alone saves (times) "
        "| published over arithmetic (times) | net | hardware | baseline "
        f"| {' | '.join([*heads, 'source'])} | read |"
    ]
    lines.append("|---" * (9 + len(columns)) + "|")
    for figure in cited.figures:
        cells = [figure.who, figure.published, _saved(cited, figure), _left(cited, figure)]
        cells += [_net(figure), figure.hardware, figure.opponent]
        cells += [_here(machine, figure) for machine in columns]
        source = cited.sources[figure.source]
        place = list(cited.sources).index(figure.source) + 1
        cells += [_address(f"[{place}]", source), _read(figure)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", HERE + MARKS + PACED_BY_HOST]
    lines += ["", *_layers(cited, columns), "", "## Sources, and works cited", ""]
    for place, source in enumerate(cited.sources.values(), 1):
        known = "" if source.url else "; no address was found"
        lines.append(f"{place}. {_address(source.text, source)}: {source.about}{known}.")
    return "\n".join([*lines, ""])


def _address(text, source):
    return f"[{escaped(text)}]({source.url})" if source.url else escaped(text)


def _read(figure):
    """Where a figure was read, and what of its row is concluded."""
    return READ[figure.read] + (f"; inferred: {figure.inferred}" if figure.inferred else "")


def _linked(machine):
    return link(machine.plain_name, Path("..", "results", machine.folder.name, MEASURED, PAGE))


def _net(figure):
    size = f", {figure.labelled[0]} x {figure.labelled[1]} pixels" if figure.labelled else ""
    return figure.net + size


def _saved(cited: Published, figure: Figure) -> str:
    if figure.counted is None:
        if figure.counted_once:
            return (
                f"{figure.counted_once:g}, counted here once; for which direction and size of "
                "image was not noted, and its layers are not kept"
            )
        return "layers not at hand"
    ratios = cited.arithmetic(figure).items()
    if figure.labelled:
        told = ", ".join(f"{ratio:.3g} {direction}" for direction, ratio in ratios)
        return f"{told} ({figure.counted})"
    told = ", ".join(f"{ratio:.4g} {direction}" for direction, ratio in ratios)
    return f"at most {told}, on an infinitely large image ({figure.counted})"


def _left(cited, figure):
    """What the published speedup has beyond arithmetic."""
    if figure.speedup is None:
        return ""
    ratios = cited.arithmetic(figure).items()
    return ", ".join(f"{figure.speedup / ratio:.3g} {direction}" for direction, ratio in ratios)


def _here(machine, figure):
    """What a machine measured of the net, at the size that is nearest."""
    with naming(machine.folder / MEASURED):
        totals = totals_of(machine.rows[MEASURED])
        sizes = {key[1] for key in totals if key[0] == figure.counted}
        if not sizes:
            return "not measured"
        size = max(sizes)
        if figure.labelled:
            size = min(sizes, key=lambda one: abs(one**2 - figure.labelled[0] * figure.labelled[1]))
        speedups, seconds = [], []
        for direction in DIRECTIONS:
            dense = totals[figure.counted, size, direction, "dense"]
            scanning = totals[figure.counted, size, direction, "scanning"]
            ratio = arithmetic(totals, figure.counted, size, direction)
            speedups.append(f"{short(dense['speedup'])}{mark_of_scanning(scanning)} ({ratio:.3g})")
            seconds.append(f"{short(1e3 * dense['seconds'], 4)}{mark(dense)}")
        return f"{', '.join(speedups)}; {', '.join(seconds)} ms; at {size} x {size}"


def _opponents(cited, machines):
    """What the figures measured, in a paragraph."""
    counted = [one for one in cited.figures if one.speedup and one.counted]
    worst = max(counted, key=lambda one: one.speedup / max(cited.arithmetic(one).values()))
    paper = next(one for one in counted if one.source == "li2014")
    saves, limits = max(cited.arithmetic(worst).values()), cited.arithmetic(paper)
    told = " and ".join(f"{limit:.4g} times {direction}" for direction, limit in limits.items())
    classes = built(paper.counted, backend="reference").output.channels
    text = (
        f"**What such a figure measures.** On the net of {worst.who} arithmetic alone saves "
        f"{saves:.2g} times, and {worst.speedup:g} was published ({_read(worst)}): "
        f"{worst.speedup / saves:.2g} times more. On {paper.counted} with its {classes} classes, "
        "the test net that lies beside this method's layers in public code (whether the paper used "
        f"it is not known), it saves at most {told} on any image, and "
        f"{paper.speedup:g} was claimed, for nets and a baseline that the abstract does not name. "
        "What exceeds the ratio of multiply-adds is how much better the dense form uses the "
        "machine than the baseline does: a slow baseline makes a large figure. "
    )
    parts = []
    for machine in machines:
        with naming(machine.folder / MEASURED):
            ratios = efficiencies(machine.rows[MEASURED])
            parts.append(f"{min(ratios):.2f} to {max(ratios):.2f} times on {machine.name}")
    if parts:
        text += (
            "Here, where both forms run through the same kernels and scanning in the batches that "
            f"suit it best, what exceeds arithmetic is, at each net's largest image, "
            f"{'; '.join(parts)}."
        )
    return text


def efficiencies(rows: list[dict]) -> list[float]:
    """Speedup over arithmetic, of each net at its largest size, in both directions."""
    totals = totals_of(rows)
    return [
        totals[net, size, direction, "dense"]["speedup"] / arithmetic(totals, net, size, direction)
        for net, size in largest(totals).items()
        for direction in DIRECTIONS
    ]


def _layers(cited, machines):
    """The table layer by layer."""
    benchmark = cited.benchmark
    size, source = benchmark.labelled, cited.sources[benchmark.source]
    yield f"## {benchmark.net} layer by layer, {size} x {size} labelled pixels"
    yield ""
    peaks, ours = [], {}
    for machine in machines:
        with naming(machine.folder / MEASURED):
            for direction in DIRECTIONS:
                layers = _dense(machine.rows[MEASURED], benchmark, direction)
                if layers:
                    ours[f"here, {machine.name}, {direction}"] = layers[0]
                    peaks += [f"{layers[1]} on {machine.name}"] if layers[1] else []
    yield (
        f"Milliseconds of the dense form, from {_address(source.text, source)} "
        f"({READ[benchmark.read]}), whose layers are those of `{benchmark.net}`; `in all` is its "
        "own figure, with ReLU and loss, which are layers of their own there and part of the layer "
        "before them here. Arithmetic alone saves "
        f"{saved(built(benchmark.net, backend='reference'), size):.3g} times forward here. Peak "
        f"memory in training, as published for the {benchmark.peak_hardware}: "
        f"{benchmark.peak_gigabytes:.2f} GB"
        + (f"; here, forward and backward: {', '.join(dict.fromkeys(peaks))}." if peaks else ".")
    )
    columns = {f"{one.hardware}, {one.direction}": one for one in benchmark.times}
    yield ""
    yield f"| layer | {' | '.join([*columns, *ours])} |"
    yield "|---" * (1 + len(columns) + len(ours)) + "|"
    for number, layer in enumerate(benchmark.layers):
        cells = [f"{one.milliseconds[number]:g}" for one in columns.values()]
        cells += [short(layers[number], 4) for layers in ours.values()]
        yield f"| {layer} | {' | '.join(cells)} |"
    cells = [f"{one.total:g}" for one in columns.values()]
    cells += [short(layers[-1], 4) for layers in ours.values()]
    yield f"| in all | {' | '.join(cells)} |"


def _dense(rows, benchmark, direction):
    """Milliseconds of our layers in the order of the benchmark's, then in all; and the peak memory.
    None where they were not measured."""
    place = {"net": benchmark.net, "labelled": benchmark.labelled, "form": "dense"}
    place["direction"] = direction
    chosen = {row["layer"]: row for row in rows if place.items() <= row.items()}
    total = chosen.pop(TOTAL, None)
    chosen.pop(CUTTING, None)
    seconds = [row["seconds"] for row in chosen.values()]
    if total is None or len(seconds) != len(benchmark.layers):
        return None
    seconds = seconds if direction == "forward" else seconds[::-1]
    peak = f"{total['peak_bytes'] / 1e9:.2f} GB" if total["peak_bytes"] else None
    return [1e3 * one for one in (*seconds, total["seconds"])], peak
