"""The limitations of all stored results, once for the whole, from what their records say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from experiments.reporting.heading import state
from experiments.reporting.markdown import escaped
from experiments.reporting.stored import Stored, threads
from experiments.storing.results import Results

HEADING = "Limitations"


def limitations(stored: Stored, experiments: Iterable[str]) -> Iterator[str]:
    """The lines of the section.

    Args:
        stored: all results.
        experiments: the names of all experiments.
    """
    yield f"## {HEADING}"
    yield ""
    yield "Of all results together, as their records say:"
    yield ""
    yield (
        "* **The paper.** Only its abstract, and the part of its introduction that a mirror had "
        "stored, were at hand, not its tables: the nets, images, GPU and baseline behind its "
        "figures are not known."
    )
    yield f"* **GPU.** {_gpus(stored.machines, list(experiments))}"
    yield f"* **Processors.** {_processors(stored.machines)}"
    yield f"* **Extrapolation.** {_extrapolation(stored.machines)}"
    yield (
        "* **Noise.** A time is the median of a few repeats in one process. Other processes with "
        "the same code have differed by more than p20 to p80 tell, so a speedup near the figure of "
        "a claim may exceed it in one run and not in the next."
    )
    quick = [
        f"{name} on {machine.name}"
        for machine in stored.machines
        for name, results in machine.results.items()
        if results.record["quick"]
    ]
    if quick:
        yield f"* **Tiny sizes.** Of `--quick`, and no results: {', '.join(quick)}."
    if any(results.record["experiment"] == "model" for results in stored.profiles):
        yield "* **Model.** What is called MODEL was calculated; no verdict rests on it."
    every = [results for machine in stored.machines for results in machine.results.values()]
    yield f"* **The code.** {states([*every, *stored.profiles])}"


def states(every: list[Results]) -> str:
    """Whether results are of one state of the code, and else which are of which."""
    by_state = {}
    for results in every:
        record = results.record
        places = by_state.setdefault(state(record), {})
        place = escaped(record["gpu"] or record["cpu"])
        places.setdefault(place, []).append(escaped(results.folder.name))
    if len(by_state) == 1:
        return f"All results are of one state of the code: {next(iter(by_state))}."
    parts = []
    for one, places in by_state.items():
        those = [f"{', '.join(names)} on {place}" for place, names in places.items()]
        parts.append(f"{one}: {'; '.join(those)}")
    return f"The results are of {len(by_state)} states of the code. {'. '.join(parts)}."


def _gpus(machines, experiments):
    gpus = [machine for machine in machines if machine.record["backend"] == "cuda"]
    if not gpus:
        return (
            "None has reported: what the method gains on one, which the paper speaks of, was not "
            "measured; what the CUDA kernels do is counted and modelled, not timed."
        )
    parts = []
    for machine in gpus:
        absent = [name for name in experiments if name not in machine.results]
        without = f", without {', '.join(absent)}" if absent else ""
        ran = [f"{name}{_of_nets(results.record)}" for name, results in machine.results.items()]
        parts.append(f"{machine.name}: {', '.join(ran)}{without}")
    return f"Reported: {'; '.join(parts)}. What another one gives is not known."


def _of_nets(record):
    """Which nets were asked for, if it was not all of an experiment's."""
    nets = record["nets"]
    return f" ({', '.join(map(escaped, nets))} alone)" if nets else ""


def _processors(machines):
    on_host = [machine for machine in machines if machine.record["backend"] != "cuda"]
    if not on_host:
        return "None was measured."
    parts = []
    for machine in on_host:
        cores = machine.record.get("cores")
        of = f" of {cores} cores" if type(cores) is int else ""
        parts.append(f"{escaped(machine.record['cpu'])}, {threads(machine.record)}{of}")
    most = max(machine.record["threads"] for machine in on_host)
    return f"{'; '.join(parts)}. What more than {most} threads give was not measured."


def _extrapolation(machines):
    parts = []
    for machine in machines:
        extrapolated = [
            row["extrapolated"]
            for results in machine.results.values()
            for row in results.rows
            if row.get("extrapolated") is not None and row.get("form") == "scanning"
        ]
        if extrapolated:
            parts.append(f"{sum(extrapolated)} of {len(extrapolated)} on {machine.name}")
    if not parts:
        return "No time is extrapolated."
    return (
        "Where scanning all pixels of an image would take too long, its time is taken on a sample "
        f"of them and scaled, marked `*`: {'; '.join(parts)}, layers counted one by one. So is the "
        "demo's, whose text says so."
    )
