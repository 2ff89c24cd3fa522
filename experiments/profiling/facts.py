"""What each source finds out about each call (host: about each pass), as rows."""

from __future__ import annotations

import math
from dataclasses import asdict

from tqdm import tqdm

from experiments.measuring import host
from experiments.profiling import calls, roofline, simulation, static, timed
from experiments.profiling.asked import FactSources
from experiments.profiling.counter import Line
from experiments.profiling.operators import OperatorCase


def profile(jobs, sources: FactSources) -> list[dict]:
    """The rows of every one of the sources, for the calls of ``asked.jobs``."""
    every = [(common, call) for common, of_job in jobs for call in of_job]
    lines = _traced([call for _, call in every]) if "traced" in sources.names else {}
    reader, times, rows = static.CodeReader(), {}, []
    with tqdm(every, desc="profile", unit="call", leave=False) as progress:
        for common, call in progress:
            progress.set_postfix_str(f"{common['net']} {call.layer}")
            case = call.case
            common = common | {
                "layer": call.layer,
                "direction": call.direction,
                "operator": call.operator,
                "shape": str(case),
                "multiply_adds": call.multiply_adds,
                "compulsory_bytes": call.compulsory_bytes,
                "intensity": 2 * call.multiply_adds / call.compulsory_bytes,
            }
            if "static" in sources.names:
                rows += _static_rows(common, call, sources.capabilities, reader)
            rows += _traced_rows(common, lines.get(case, ()))
            if "model" in sources.names:
                rows += _model_rows(common, call, sources.devices, reader, lines.get(case, ()))
            if "timed" in sources.names:
                if case not in times:
                    times[case] = timed.time(call)
                rows.append(_timed_row(common, call, times[case]))
    if "host" in sources.names:
        for common, of_job in jobs:
            if common["form"] == "dense":
                rows += _host_rows(common, of_job)
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def _traced(every) -> dict[OperatorCase, list[Line]]:
    short = {call.case: simulation.shortened(call) for call in every}
    unique = list(dict.fromkeys(short.values()))
    with tqdm(unique, desc="simulate", unit="call", leave=False) as progress:
        lines = dict(zip(progress, simulation.trace(unique)))
    return {case: lines[one] for case, one in short.items()}


def _launch_columns(launch):
    return {
        "kernel": launch.function.__name__,
        "blocks": math.prod(launch.blocks),
        "threads": launch.threads,
    }


def _static_rows(common, call, capabilities, reader):
    for launch in call.launches:
        for capability in capabilities:
            code = reader.read(launch, capability)
            made, limits = code.machine_code, static.LIMITS[capability]
            row = common | {"source": "static"} | _launch_columns(launch)
            row |= {
                "arch": "sm_{}{}".format(*capability),
                "registers": made.registers,
                "shared_bytes": made.shared_bytes,
                "local_bytes": made.local_bytes,
                "blocks_per_multiprocessor": code.resident_blocks(limits),
                "occupancy": code.occupancy(limits),
                "multiply_add_share": made.multiply_add_share,
                "executed_multiply_adds": roofline.executed_multiply_adds(call, launch),
            }
            row |= {f"loop {kind}": made.main_loop[kind] for kind in static.kinds()}
            yield row


def _traced_rows(common, lines):
    for line in lines:
        yield common | {"source": "traced"} | asdict(line) | {"moved": line.moved}


def _model_rows(common, call, devices, reader, lines):
    for device in devices:
        predictions, l2_bytes, stand_in = [], 0.0, ""
        short = calls.of_case(simulation.shortened(call)) if lines else None
        for number, launch in enumerate(call.launches):
            code = reader.read(launch, static.target_of(device.capability))
            if code.capability != device.capability:
                stand_in = "sm_{}{}".format(*code.capability)
            counted = counted_bytes(call, number, short, lines) if short else 0.0
            predictions.append(roofline.predict(call, launch, code, device, counted))
            l2_bytes += counted
        seconds = sum(prediction.seconds for prediction in predictions)
        longest = max(predictions, key=lambda prediction: prediction.seconds)
        yield (
            common
            | {
                "source": "model",
                "device": device.name,
                "stand_in": stand_in,
                "seconds": seconds,
                "bound": longest.bound,
                "counted_bytes": round(l2_bytes) or None,
            }
            | _rates(common, seconds, (device.peak, device.bandwidth))
        )


def counted_bytes(call, number, short, lines):
    """Bytes of the sectors of a launch, scaled from the traced lines of the shortened call."""
    launch = call.launches[number]
    names = [one.function.__name__ for one in call.launches]
    alike = [i for i, one in enumerate(short.launches) if one.function.__name__ == names[number]]
    nth = names[:number].count(names[number])
    if nth >= len(alike):  # the shortened call does without this launch
        return roofline.compulsory_bytes(launch)
    loops = call.multiply_adds / max(1, short.multiply_adds)
    threads, traced = (
        one.threads * math.prod(one.blocks) for one in (launch, short.launches[alike[nth]])
    )
    of_launch = [line for line in lines if line.launch == alike[nth]]
    return roofline.traced_bytes(of_launch, loops, threads / traced)


def _host_rows(common, of_job):
    """Of a net's dense form forward, and where its calls go back, of both directions."""
    of_pass = dict(zip(host.DIRECTIONS, ("forward", "backward")))
    made = {call.direction for call in of_job}
    for row in host.measured(common["net"], common["size"], quick=False):
        if of_pass[row["direction"]] in made:
            spread = {name: row.pop(f"seconds_{name}") for name in ("p20", "p80")}
            yield common | {"source": "host", "operator": "", "shape": ""} | row | spread


def _timed_row(common, call, time):
    from kernels.device.api import device_name

    row = common | {"source": "timed", "device": device_name()}
    if time is None:
        return row | dict.fromkeys(("seconds", "p20", "p80", "repeats", "GFLOP/s", "GB/s"))
    row |= {"seconds": time.median}
    row |= {"p20": time.p20, "p80": time.p80, "repeats": time.repeats}
    return row | _rates(common, time.median, timed.ceilings())


def _rates(common, seconds, ceilings):
    """Achieved rates and, where the device's (operations/s, bytes/s) are known, its roofline's
    least time over the time taken."""
    rates = {
        "GFLOP/s": 2e-9 * common["multiply_adds"] / seconds,
        "GB/s": 1e-9 * common["compulsory_bytes"] / seconds,
    }
    if ceilings is None:
        return rates
    peak, bandwidth = ceilings
    least = max(2 * common["multiply_adds"] / peak, common["compulsory_bytes"] / bandwidth)
    device = {"device GFLOP/s": 1e-9 * peak, "device GB/s": 1e-9 * bandwidth}
    return rates | {"roofline_share": least / seconds} | device
