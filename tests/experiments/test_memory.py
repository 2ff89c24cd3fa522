"""The experiment on memory accesses goes on where it was stopped."""

from types import SimpleNamespace

import pytest

from experiments import memory
from experiments.profiling import counter, simulation
from experiments.storing.cache import MeasurementCache


def test_stopped_tracing_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    """One process traces what is missing, in order; what was traced before is not traced again."""
    begun = []

    def trace(cases, *, seed):
        for case in cases:
            begun.append(case)
            if len(begun) == 2:
                raise KeyboardInterrupt
            where = ("kernel", 1.0, "file", 1, "text", "x", "global", "load", 4)
            yield [counter.Line(str(case), 0, *where, is_map=True, main_loop=False)]

    monkeypatch.setattr(simulation, "trace", trace)

    def options():
        cache = MeasurementCache(tmp_path, {"code": 1}, {})
        return SimpleNamespace(nets=("lenet28",), quick=True, seed=0, cache=cache)

    with pytest.raises(KeyboardInterrupt):
        memory.run(options())
    rows, _ = memory.run(options())
    stopped = begun[1]
    assert begun.count(stopped) == 2
    assert len(begun) == len(set(begun)) + 1 > 3
    assert {row["operator"] for row in rows} == {str(case) for case in begun}
