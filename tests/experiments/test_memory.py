"""The experiment on memory accesses goes on where it was stopped."""

from types import SimpleNamespace

import pytest

from experiments import memory
from experiments.kept import Kept
from experiments.profiling import traced


def test_stopped_tracing_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    """One process traces what is missing, in order; what was traced before is not traced again."""
    begun = []

    def trace(cases, *, seed):
        for case in cases:
            begun.append(case)
            if len(begun) == 2:
                raise KeyboardInterrupt
            where = ("kernel", 1.0, "file", 1, "text", "x", "global", "load", 4)
            yield [traced.Line(str(case), 0, *where, is_map=True, main_loop=False)]

    monkeypatch.setattr(traced, "trace", trace)

    def options():
        kept = Kept(tmp_path, {"code": 1}, {})
        return SimpleNamespace(nets=("lenet28",), quick=True, seed=0, kept=kept)

    with pytest.raises(KeyboardInterrupt):
        memory.run(options())
    rows, _ = memory.run(options())
    stopped = begun[1]
    assert begun.count(stopped) == 2
    assert len(begun) == len(set(begun)) + 1 > 3
    assert {row["operator"] for row in rows} == {str(case) for case in begun}
