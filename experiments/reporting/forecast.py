"""How long experiments will take here, from what they took where they were measured.

Records of results say how long an experiment took, and how fast the machine multiplied matrices
then. A probe of a second or two measures how fast this one does. Whatever else runs on a machine
only slows a probe down: the fastest one in its records counts for all of them.

What no GPU has measured as a whole is told as on a CPU. That bounds nothing: a GPU computes in less
time, but gets larger images, which hosts are spared, and waits for its compiler.
"""

from __future__ import annotations

import json
from pathlib import Path

from tqdm import tqdm

from experiments.measuring.ceilings import ceilings
from experiments.storing.results import RECORD

UNKNOWN = 120.0
"""Seconds that the bar counts for an experiment that has not been measured."""
ENOUGH = 0.1
"""Share of all that must have been measured before its pace corrects the time left."""
_AS_ON_CPU = " (as on a CPU)"
_NO_BOUND = """\
As on a CPU: no GPU has measured all of it. It may take less, since a GPU computes faster, or more,
since it gets larger images and its compiler is at work before each net (docs/gpu.md)."""
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone{postfix}"


def probe(threads: int) -> float:
    """1e9 multiplications and additions a second of a matrix product on the host: on one thread,
    times their number, as threads of BLAS wait for one another where another process runs."""
    return threads * ceilings("cpu", 1, quick=True)["gflops"]


class Forecast:
    """What experiments will take, and a bar over all of them.

    Args:
        names: the experiments' names, in the order in which they will run.
        stored: the folder of all results.
        backend: records of this one count, or of the CPU where there are none.
        gflops: the speed of this machine (see ``probe``).

    Attributes:
        seconds: the seconds of each, by name; None where no record holds them.
        on_cpu: the names of those that no record of ``backend`` holds, but one of a CPU.
        steps: the number of measurements of each, by name; 1 where no record holds it.
    """

    def __init__(self, names, stored: Path, backend: str, gflops: float):
        self.names, self.gflops = tuple(names), gflops
        self.seconds, self.steps, self.on_cpu = {}, {}, set()
        folders = sorted(stored.glob("*"))
        machines, hosts = ([_machine(one, of) for one in folders] for of in (backend, "cpu"))
        for name in self.names:
            records = [machine[name] for machine in machines if name in machine]
            if not records:
                records = [host[name] for host in hosts if name in host]
                self.on_cpu.update([name] if records else [])
            taken = [one["seconds"] * one["gflops"] / gflops for one in records]
            self.seconds[name] = min(taken, default=None)
            self.steps[name] = max((one["steps"] for one in records), default=1)

    def message(self) -> str:
        """The forecast as text: a line for each experiment, and one for all."""
        lines = [f"A matrix product of this machine: {self.gflops:.0f} GFLOP/s. What to expect:"]
        for name, seconds in self.seconds.items():
            lines.append(f"  {name:13} {_in_words(seconds)}{_AS_ON_CPU * (name in self.on_cpu)}")
        known = [seconds for seconds in self.seconds.values() if seconds is not None]
        if known:
            more = "" if len(known) == len(self.seconds) else ", and what was not measured before"
            lines.append(f"  {'in all':13} {_in_words(sum(known))}{more}")
        lines += [_NO_BOUND] if self.on_cpu else []
        return "\n".join([*lines, "Compiling the kernels, once, takes some minutes more."])

    def bar(self) -> Bar:
        """The bar over all of them."""
        return Bar({n: UNKNOWN if s is None else s for n, s in self.seconds.items()}, self.steps)


class Bar:
    """One bar over all experiments, as long as what they are expected to take.

    Args:
        seconds, steps: the attributes of ``Forecast``, all of them known.
    """

    def __init__(self, seconds: dict[str, float], steps: dict[str, int]):
        self._seconds, self._steps = seconds, steps
        options = {"bar_format": _BAR, "smoothing": 0, "position": 0, "mininterval": 0}
        self._bar = tqdm(total=sum(seconds.values()), desc="all experiments", **options)
        self._end = self._read = 0.0

    @property
    def total(self) -> float:
        """Seconds that all are expected to take."""
        return self._bar.total

    @property
    def done(self) -> float:
        """Seconds that what is finished was expected to take."""
        return self._bar.n

    def begin(self, name: str) -> None:
        """An experiment begins."""
        self._name, self._end = name, self._end + self._seconds[name]
        self._draw()

    def step(self, made: bool) -> None:
        """One of its measurements is finished; ``made`` is False if it was only read."""
        share = self._seconds[self._name] / self._steps[self._name]
        place = min(self._end, self._bar.n + share)
        if not made:
            self._read += place - self._bar.n
        self._go_to(place)

    def end(self) -> None:
        """It is finished."""
        self._go_to(self._end)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def _go_to(self, place):
        self._bar.update(place - self._bar.n)
        self._draw()

    def _draw(self):
        """Draw it, with the time left: as expected, later at the pace of what was measured."""
        state = self._bar.format_dict
        measured = state["n"] - self._read
        pace = state["elapsed"] / measured if measured >= ENOUGH * state["total"] else 1
        left = tqdm.format_interval(pace * (state["total"] - state["n"]))
        place = f"{[*self._seconds].index(self._name) + 1} of {len(self._seconds)}"
        self._bar.set_postfix_str(f"about {left} left, {self._name}, {place}")


def _machine(folder, backend):
    """What the records of a machine say, by experiment; ``gflops`` is its fastest probe."""
    records = {path.parent.name: _read(path) for path in folder.glob(f"*/{RECORD}")}
    usable = {name: one for name, one in records.items() if one and one["backend"] == backend}
    fastest = max((one["gflops"] for one in usable.values()), default=None)
    return {name: one | {"gflops": fastest} for name, one in usable.items() if one["whole"]}


def _read(path):
    """What a record says; None where it says too little."""
    try:
        record = json.loads(path.read_text())
        read = {name: float(record[name]) for name in ("seconds", "gflops")}
        read["steps"] = max(1, sum(record["measurements"].values()))
        read["whole"] = record["nets"] is None and not record["quick"]
        return read | {"backend": record["backend"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _in_words(seconds):
    if seconds is None:
        return "not measured before"
    minutes = round(seconds / 60)
    return f"{minutes} minute{'s' * (minutes > 1)}" if minutes else "less than a minute"
