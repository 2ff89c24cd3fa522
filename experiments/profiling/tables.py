"""The profiler's tables, caption and figure, from the stored rows alone."""

from __future__ import annotations

from experiments.measuring.host import COUNTED
from experiments.profiling import counter, figures, roofline, static
from experiments.reporting import host_part

_FIRST = ("net", "form", "layer", "direction", "kernel", "arch", "device", "stand_in", "bound")
_STATIC = ("blocks", "threads", "registers", "shared_bytes", "local_bytes")
_RATES = ("GFLOP/s", "GB/s", "roofline_share", "device GFLOP/s", "device GB/s")
COLUMNS = {
    **{"operator": str, "shape": str, "source": str, "size": int | None},
    **dict.fromkeys(("multiply_adds", "compulsory_bytes"), int | None),
    "intensity": float | None,
    **{name: kind | None for name, kind in counter.COLUMNS.items() if name != "operator"},
    **dict.fromkeys(_FIRST, str | None),
    **dict.fromkeys((*_STATIC, "blocks_per_multiprocessor", "executed_multiply_adds"), int | None),
    **dict.fromkeys([f"loop {kind}" for kind in static.kinds()], int | None),
    **dict.fromkeys(("occupancy", "multiply_add_share"), float | None),
    **dict.fromkeys(("seconds", "p20", "p80", *_RATES), float | None),
    **dict.fromkeys(("repeats", "counted_bytes", *COUNTED), int | None),
}
"""Each source has columns of its own; in the rows of the others they are empty."""


def caption(record: dict) -> str:
    """What the tables show."""
    parts = ["What the CUDA kernels of each layer do; docs/profiling.md explains every column."]
    if "traced" in record["sources"]:
        parts.append(
            "Traced: a few blocks of each launch on the simulator, in convolutions for a few steps "
            "of the main loop."
        )
    if "model" in record["sources"]:
        parts.append(roofline.ASSUMPTIONS)
    if "host" in record["sources"]:
        parts.append(
            "Host: what Python takes for a pass, with a device that does nothing, on arrays of "
            "shapes that came before; the driver's own time is not in it."
        )
    else:
        parts.append(
            "The host's time, launches and allocations of a pass are counted by "
            "`python -m experiments host`, whose page lies among each machine's results."
        )
    return "\n\n".join(parts)


def figure(rows: list[dict], record: dict, arrays: dict):
    """Roofline and instruction mixes."""
    return figures.draw(rows)


def table(rows: list[dict]) -> str:
    """The Markdown tables of each net and form, source by source."""
    parts = []
    for key in dict.fromkeys((row["net"], row["form"], row["size"]) for row in rows):
        of_net = [row for row in rows if (row["net"], row["form"], row["size"]) == key]
        if key[0]:
            parts += [f"## {key[0]}, {key[1]} form, {key[2]} x {key[2]} labelled pixels", ""]
        for source, lines in (
            ("static", _static),
            ("traced", memory_lines),
            ("model", _times),
            ("host", _host),
        ):
            chosen = [row for row in of_net if row["source"] == source]
            if source == "model":
                chosen += [row for row in of_net if row["source"] == "timed"]
            if chosen:
                parts += [*lines(chosen), ""]
    return "\n".join(parts)


def _markdown(title, heads, lines):
    yield from (f"### {title}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}")
    yield from (f"| {' | '.join(map(str, line))} |" for line in lines)


def _where(row):
    return [row["layer"] or "", row["direction"] or "", row["operator"]]


def _static(rows):
    heads = "layer,direction,operator,kernel,blocks x threads,arch,registers,shared bytes"
    heads += ",local bytes,blocks per SM,occupancy,multiply-adds in main loop,LDS 32/64/128"
    heads += ",LDG 32/64/128,STS 32/64/128,integer,barriers,wasted multiply-adds"
    lines = []
    for row in rows:
        loop = sum(value or 0 for key, value in row.items() if key.startswith("loop "))
        line = [*_where(row), row["kernel"], f"{row['blocks']} x {row['threads']}", row["arch"]]
        line += [row["registers"], row["shared_bytes"], row["local_bytes"]]
        line += [row["blocks_per_multiprocessor"], f"{row['occupancy']:.0%}"]
        if row["loop multiply-add"]:
            line.append(f"{row['loop multiply-add']} of {loop}: {row['multiply_add_share']:.1%}")
        else:
            line.append("")
        for kind in ("LDS", "LDG", "STS"):
            line.append("/".join(str(row[f"loop {kind} {width}"]) for width in (32, 64, 128)))
        line += [row["loop integer"], row["loop barrier"]]
        done = row["executed_multiply_adds"]
        line.append(f"{1 - row['multiply_adds'] / done:.1%}" if done else "")
        lines.append(line)
    yield from _markdown("Static: the compiled kernels", heads.split(","), lines)


def memory_lines(rows):
    """The table of memory accesses by source line."""
    heads = (
        "layer,direction,kernel,line,array,access,requests,sectors per request,bytes used of moved"
    )
    heads += ",most sectors of a full row beyond its bytes,wavefronts of ideal"
    sums = {}
    for row in rows:
        where = row["layer"] or "", row["direction"] or "", row["kernel"]
        place = f"{row['file'].removeprefix('kernels/')}:{row['line']}"
        key = (*where, place, row["array"], f"{row['memory']} {row['access']}")
        total = sums.setdefault(key, dict.fromkeys(_COUNTS, 0) | {"most_beyond": 0})
        for count in _COUNTS:
            total[count] += row[count]
        total["most_beyond"] = max(total["most_beyond"], row["most_beyond"])
    lines = []
    for key, total in sums.items():
        line = [*key, total["requests"]]
        if total["sectors"]:
            line += [f"{total['sectors'] / total['requests']:.2f}"]
            line += [
                f"{total['asked'] / total['moved']:.0%}",
                total["most_beyond"] if total["full_requests"] else "",
                "",
            ]
        else:
            line += ["", "", "", f"{total['wavefronts'] / total['ideal_wavefronts']:.2f}"]
        lines.append(line)
    yield from _markdown("Traced: memory accesses", heads.split(","), lines)


_COUNTS = ("requests", "asked", "sectors", "moved", "full_requests")
_COUNTS += ("wavefronts", "ideal_wavefronts")


def _times(rows):
    """Modelled and measured times side by side, and their sums."""
    devices = list(dict.fromkeys((row["source"], row["device"]) for row in rows))
    marks = {row["device"] for row in rows if row["source"] == "model" and row["stand_in"]}
    heads = ["layer", "direction", "operator", "million multiply-adds", "compulsory MB"]
    heads += [_device_head(*device, marks) for device in devices]
    calls = {}
    for row in rows:
        key = (*_where(row), row["shape"])
        calls.setdefault(key, {})[row["source"], row["device"]] = row
    lines = []
    for (layer, direction, operator, _), by_device in calls.items():
        first = next(iter(by_device.values()))
        line = [layer, direction, operator, f"{first['multiply_adds'] / 1e6:.1f}"]
        line.append(f"{first['compulsory_bytes'] / 1e6:.1f}")
        lines.append(line + [_time(by_device.get(device)) for device in devices])
    totals = [_total([row for row in rows if (row["source"], row["device"]) == d]) for d in devices]
    lines.append(["total", "", "", "", "", *totals])
    title = "Milliseconds: MODEL, not measured"
    if any(source == "timed" for source, _ in devices):
        title = "Milliseconds, MODEL and measured: each column says which"
    yield from _markdown(title, heads, lines)


def _host(rows):
    """Of whole passes: time, launches and allocations."""
    lines = [host_part.cells(row, row["p20"], row["p80"]) for row in rows]
    yield from _markdown("Host: Python's part of a pass", host_part.HEADS, lines)


def _total(rows):
    seconds = [row["seconds"] for row in rows]
    return "not measured" if None in seconds else f"{1e3 * sum(seconds):.3f}"


def _device_head(source, device, marks):
    return (
        f"{device}{'*' if device in marks else ''} {'MODEL' if source == 'model' else 'measured'}"
    )


def _time(row):
    if row is None:
        return ""
    if row["seconds"] is None:
        return "not measured"
    text = f"{1e3 * row['seconds']:.3f}"
    if row["source"] == "model":
        return f"{text} ({row['bound']})"
    spread = f"{1e3 * row['p20']:.3f} to {1e3 * row['p80']:.3f}"
    rates = f"{row['GFLOP/s']:.0f} GFLOP/s, {row['GB/s']:.0f} GB/s"
    if row["roofline_share"] is None:
        return f"{text} ({spread}; {rates}; its roofline is not known)"
    return f"{text} ({spread}; {rates}; {row['roofline_share']:.0%} of the roofline)"
