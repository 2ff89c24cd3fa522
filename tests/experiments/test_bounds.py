"""The bounds that the CUDA kernels are held to: their scopes, verdicts and known misses."""

import itertools
from pathlib import Path

import pytest

from experiments import __main__ as command_line
from experiments.profiling import compiled, targets
from experiments.profiling.bounds import BOUNDS, MISSES, SHARES, is_as_known, share_fact
from experiments.reporting import stored
from net import zoo

PUBLISHED = Path(__file__).parents[2] / "results" / stored.PROFILE / "targets"


def fact(target, value, case="a", of="k"):
    return {"target": target, "of": of, "case": case, "value": value}


def test_verdicts_follow_from_the_worst_case():
    rows = [fact("share, large", 0.9), fact("share, large", 0.86, "b"), fact("local", 0)]
    rows += [fact("compile", 61.5, "n4, 3 kernels"), fact("compile", 59.9, of="other")]
    verdicts, reasons = targets.table(rows).split("\n\n## Why these bounds\n\n")
    first, _, _, _, *lines = verdicts.splitlines()
    assert first == "2 of 4 lines are met."
    assert [line.split(" | ")[2:] for line in lines] == [
        ["at least 87.0%", "86.0%", "b", "2", "**not met** by 1 of 2 |"],
        ["at most 0", "0", "a", "1", "met |"],
        ["at most 60.0", "61.5", "n4, 3 kernels", "1", "**not met** by 1 of 1 |"],
        ["at most 60.0", "59.9", "a", "1", "met |"],
    ]
    for name in ("share, large", "local", "compile"):
        assert reasons.count(BOUNDS[name].reason) == 1
    assert "## Known misses" not in verdicts


def test_known_misses_are_listed():
    miss = MISSES[0]
    row = fact(miss.target, BOUNDS[miss.target].limit + 1, f"{miss.case}, here", miss.of)
    assert is_as_known(row)
    assert not is_as_known(row | {"value": 0})
    assert not is_as_known(row | {"of": "another"})
    verdicts, misses = targets.table([row]).split("\n\n## Known misses\n\n")
    assert "**not met** by 1 of 1" in verdicts
    assert f"| {miss.of} | {miss.case} | {miss.reason} |" in misses


def test_what_the_published_list_does_not_meet_is_known():
    """And what is known to be missed is missed there."""
    rows = stored.load_profile(PUBLISHED, command_line.profile.views()).rows
    unknown = [(row["target"], row["of"], row["case"]) for row in rows if not is_as_known(row)]
    assert unknown == []
    assert {miss for miss in MISSES if not any(map(miss.covers, rows))} == set()


def test_each_tile_is_under_the_bound_of_its_scope():
    """At its limit a share is within the bound, and below it is not."""
    for case, capability in itertools.product(compiled.tile_cases(), [(8, 0), (9, 0)]):
        name, of_all = share_fact(case, capability, 1.0)
        assert sum(BOUNDS[share].applies(case, capability) for share in SHARES) == 1
        least = BOUNDS[name].limit / of_all
        assert BOUNDS[name].holds(share_fact(case, capability, least * (1 + 1e-9))[1])
        assert not BOUNDS[name].holds(share_fact(case, capability, least * (1 - 1e-9))[1])
        small = name.startswith("share, small")
        assert small == (of_all != 1)
        assert small or case.tile.height >= 32


@pytest.mark.parametrize("net", zoo.ZOO)
def test_what_a_net_launches_is_within_the_bounds(net):
    facts = list(targets.launched_facts(net))
    assert {row["target"] for row in facts} >= {"idle", "idle, launch", "waste", "workspace"}
    assert [row for row in facts if not is_as_known(row)] == []
