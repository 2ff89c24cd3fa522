"""Memory access: what the kernels ask of memory in the dense form and in the strided patch form.

Counted on the simulator, block by block, at the sizes and tiles of real launches: for each layer
and kernel, the sectors of 32 bytes that a warp's request touches, and the bytes used of those
moved. Nothing is timed, and no device is needed.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from tqdm import tqdm

from experiments.profiling import calls, counter, simulation
from experiments.profiling.operators import OPERATORS, OperatorCase

TIMED = False
NETS, QUICK_NETS = ("strided67", "authors133", "greentea102"), ("strided67",)
SIZE, QUICK_SIZE = 256, 32
QUICK_CALLS = 2
"""Calls of each form that are traced with --quick."""
BATCH = 64
SINGLE, SINGLE_SHAPES = "single operators", {"dense": (1, 16, 157, 157), "patch": (64, 16, 21, 21)}
"""The name of what stands for a net where an operator is called alone, and the maps it gets."""
FORMS = ("dense", "patch")
COLUMNS = {
    **dict.fromkeys(("net", "form", "layer", "shape"), str),
    **{"labelled": int | None, "batch": int, "direction": str | None},
    **counter.COLUMNS,
}
COLORS = {"dense": "#0072b2", "patch": "#e69f00"}


def run(options) -> tuple[list[dict], dict]:
    """One row for each net, form, layer, launch and source line; no arrays."""
    size, nets = (QUICK_SIZE, QUICK_NETS) if options.quick else (SIZE, NETS)
    jobs = [
        ({"net": net, "labelled": size, "form": form, "batch": BATCH}, call)
        for net in options.nets or nets
        for form in FORMS
        for call in _calls(net, size, form, options.quick)
    ]
    if not options.quick:
        seen = {call.operator for _, call in jobs}
        singles = [name for name in OPERATORS if name not in seen and _reads_maps(name)]
        jobs += [single for name in singles for single in _single(name)]
    cases = list(dict.fromkeys(simulation.shortened(call) for _, call in jobs))
    parameters = {case: {"case": case.to_json()} for case in cases}
    missing = [case for case in cases if not options.cache.holds(parameters[case])]
    counted = simulation.trace(missing, seed=options.seed)
    lines = {}
    with tqdm(cases, desc="memory", unit="call") as progress:
        for case in progress:
            progress.set_postfix_str(case.operator)
            lines[case] = options.cache.measured(parameters[case], lambda: _rows(next(counted)))
    rows = []
    for common, call in jobs:
        common = common | {"layer": call.layer, "direction": call.direction}
        common["shape"] = str(call.case)
        rows += [common | line for line in lines[simulation.shortened(call)]]
    return rows, {}


def _rows(lines):
    return [asdict(line) | {"moved": line.moved} for line in lines]


def _calls(net, size, form, quick):
    every = calls.of_net(net, size, form, batch=BATCH, backward=not quick)
    return every[:QUICK_CALLS] if quick else every


def _reads_maps(operator):
    return not operator.startswith(("convolution", "patches", "sgd", "adam"))


def _single(operator):
    """Calls of an operator that no net calls, on maps as large as theirs, in both forms."""
    window = {}
    if operator.startswith("average_pooling"):
        window = {"dense": {"dilation": (2, 2)}, "patch": {"stride": (2, 2)}}
    for form, shape in SINGLE_SHAPES.items():
        moves = {"kernel": (2, 2)} | window[form] if window else {}
        call = calls.of_case(OperatorCase(operator, shape, **moves))
        common = {"net": SINGLE, "labelled": "", "form": form, "batch": shape[0]}
        yield common, replace(call, layer=operator)


def sums(rows: list[dict]) -> dict[tuple, dict]:
    """Requests, sectors and bytes of the feature maps.

    By net, layer, kernel, array, access and form.
    """
    total = {}
    for row in rows:
        if row["is_map"]:
            names = ("net", "layer", "kernel", "array", "access", "form")
            key = tuple(row[name] for name in names)
            one = total.setdefault(key, dict.fromkeys(_COUNTS, 0))
            for count in _COUNTS:
                # Scaled to all blocks of the launch
                one[count] += row[count] / row["share"]
    return total


_COUNTS = ("requests", "sectors", "asked", "moved")


def table(rows: list[dict]) -> str:
    """The Markdown table."""
    total = sums(rows)
    lines = [
        "| net | layer | kernel | array | access | dense: sectors per request "
        "| dense: bytes used of moved | patch: sectors per request | patch: bytes used of moved |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys(key[:-1] for key in total):
        cells = []
        for form in FORMS:
            one = total.get((*key, form))
            if one is None:
                cells += ["", ""]
            else:
                cells.append(f"{one['sectors'] / one['requests']:.2f}")
                cells.append(f"{one['asked'] / one['moved']:.0%}")
        lines.append(f"| {' | '.join([*key, *cells])} |")
    return "\n".join(lines)


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "How kernels read and write feature maps: 32-byte sectors that a request of a warp "
        "touches, and the share of the moved bytes that it asked for, in the dense form and in "
        "the patch net. The paper's abstract claims that its kernels continuously access memory: "
        "4 sectors hold the 128 bytes of a warp, and a row that begins anywhere spans 5.\n\n"
        "Counted on the simulator for a few blocks of each launch at its real size, in "
        "convolutions for a few steps of the main loop; caches are not modelled. A row of pixels "
        "that a warp shares with the next row takes a sector or two more. A layer without a line "
        "in one form runs in another kernel there: a window that covers its whole map is a matrix "
        "product."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """Bytes used of the bytes moved: a row for each kernel, grouped by operator, for both forms.

    Bars are of all bytes of the kernel's feature maps, dots of each layer's arrays alone.
    """
    rows = [row for row in rows if row["net"] != SINGLE and row["is_map"]]
    kernels = {}
    for row in rows:
        kernels.setdefault(row["operator"].split(".")[0], {})[row["kernel"]] = None
    places = [(group, name) for group, names in kernels.items() for name in (None, *names)]
    drawing = Figure(figsize=(10, 1.6 + 0.36 * len(places)), layout="constrained")
    axes = drawing.subplots()
    for offset, form in zip((-0.19, 0.19), FORMS):
        for y, (_, kernel) in enumerate(places):
            chosen = [row for row in rows if (row["kernel"], row["form"]) == (kernel, form)]
            if chosen:
                every = sums(chosen).values()
                whole = [sum(one[count] for one in every) for count in ("asked", "moved")]
                axes.barh(y + offset, 100 * whole[0] / whole[1], 0.36, color=COLORS[form])
                shares = [100 * one["asked"] / one["moved"] for one in every]
                axes.plot(shares, [y + offset] * len(shares), "|", color="black", markersize=8)
    labels = [kernel or group.replace("_", " ") for group, kernel in places]
    axes.set_yticks(range(len(places)), labels, fontsize=10)
    for text, (_, kernel) in zip(axes.get_yticklabels(), places):
        text.set_fontweight("normal" if kernel else "bold")
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlim(0, 101)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("bytes used of the bytes moved, %")
    nets = ", ".join(dict.fromkeys(row["net"] for row in rows))
    axes.set_title(f"How the kernels of both forms use memory\n(feature maps of {nets})")
    handles = [Patch(color=COLORS[form], label=f"{form} form") for form in FORMS]
    mark = {"marker": "|", "linestyle": "", "color": "black", "markersize": 8}
    handles.append(Line2D([], [], **mark, label="one array of one layer"))
    drawing.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10)
    return drawing
