"""What a reader sees first: marks of --quick, lines that fit, the headline, and a forecast."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments import __main__
from experiments.measuring.timing import interleaved
from experiments.reporting import headline, printed, quick, report, stored
from experiments.reporting.forecast import UNKNOWN, Forecast
from tests.experiments.stored_results import growth, store

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", sorted((ROOT / "results").glob("*/*/table.md")), ids=str)
def test_stored_pages_fit_120_columns_and_nothing_is_lost_unsaid(page):
    text = page.read_text()
    lines = printed.fitted(text, "table.md").splitlines()
    assert max(len(line) for line in lines if " " in line) <= 120
    said = re.sub(r"\s+", "", "".join(lines))
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        for name, _, *column in zip(*cells):
            if any(cell.strip() for cell in column):
                words = re.sub(r"\\(.)", r"\1", name).replace("-", "- ").split()
                assert all(word in said for word in words)


def test_columns_that_do_not_fit_are_left_out_and_named():
    page = "| a | b | c |\n|---|---|---|\n| 1 | 22 | 333 |"
    assert printed.fitted(page, "here", 6) == "a  b\n1  22\n(here\nhas\nmore\ncolumns:\nc)"
    assert "more" not in printed.fitted(page, "here", 10)


def test_results_of_quick_are_seen_as_such(tmp_path):
    folder = store(tmp_path, quick=True)
    made = report.shown(__main__.modules()["equality"], stored.load(folder, _Equality))
    title, *rest = made[folder / report.PAGE].decode().splitlines()
    assert title == f"# Equality ({quick.QUICK})"
    assert rest[rest.index("|---|---|---|---|---|---|---|") - 3] == f"**{quick.QUICK}**"
    drawing = Figure()
    quick.stamp(drawing)
    assert [text.get_text() for text in drawing.texts] == [quick.QUICK]


class _Equality:
    COLUMNS = __main__.modules()["equality"].COLUMNS


def test_with_quick_no_ratio_is_of_a_single_round():
    given = interleaved({"slow": lambda: 1}, longest=-1.0, surely=3)
    assert len(given["slow"]) == 3


def test_the_headline_counts_what_reaches_the_claim(tmp_path):
    rows = growth()
    for row in rows:
        row["speedup"] = 1600.0 if (row["patch"], row["labelled"]) == (32, 16) else 20.0
        row["multiply_adds"] = 800 if row["form"] == "scanning" else 2
    store(tmp_path, rows, "networks")
    store(tmp_path, rows, "networks", machine="of-quick", quick=True, utc="2030-01-01T00:00:00")
    machines = stored.read(tmp_path, __main__.modules(), {}).machines
    text = headline.put(machines, f"# A\n\n{headline.BEGIN}\n\nold\n\n{headline.END}\nrest\n")
    assert "old" not in text
    assert text.endswith("\nrest\n")
    said = " ".join(text.split())
    assert said.count("in 1 of 3 cases (the best: family-32 at 16, 1600 times") == 2
    assert "arithmetic alone gives 400" in said
    assert "of-quick" not in text
    assert headline.put(machines, text) == text
    with pytest.raises(ValueError, match="the README lacks the lines"):
        headline.put(machines, headline.END + headline.BEGIN)


def test_the_headline_is_of_the_largest_size_that_most_nets_reach():
    sizes = {"a": (64, 128, 256), "b": (64, 128), "c": (64,)}
    rows = [{"net": net, "labelled": size} for net, reached in sizes.items() for size in reached]
    assert headline._common_size(rows) == 128


def test_the_headline_in_the_readme_is_made_from_the_stored_results():
    machines = stored.read(ROOT / "results", __main__.modules(), __main__.profile.views()).machines
    text = (ROOT / "README.md").read_text()
    assert headline.put(machines, text) == text
    assert text.index("make demo") < text.index("make reproduce") < text.index("make test")
    assert not re.search(r"^    \S", text[: text.index("make demo") - 4], re.MULTILINE)


def test_a_forecast_scales_what_records_tell_to_this_machine(tmp_path, capsys):
    for name, seconds in (("equality", 120.0), ("growth", 600.0)):
        store(tmp_path, None if name == "equality" else growth(), name, gflops=100.0)
        path = tmp_path / "a-machine" / name / "record.json"
        more = {"seconds": seconds, "measurements": {"made": 2, "reused": 2}}
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    (tmp_path / "a-machine" / "growth" / "more.json").write_text("no record")
    names = ("equality", "growth", "pooling")
    expected = Forecast(names, tmp_path, "cpu", 50.0)
    assert expected.seconds == {"equality": 240.0, "growth": 1200.0, "pooling": None}
    assert re.search("equality +4 minutes\n +growth +20 minutes", expected.told())
    assert re.search("in all +24 minutes, and those that were not measured", expected.told())
    assert Forecast(names, tmp_path, "cuda", 50.0).seconds == dict.fromkeys(names)

    bar = expected.bar()
    bar.begin("equality")
    assert bar.total == 1440.0 + UNKNOWN
    for done in (60.0, 120.0, 180.0, 240.0, 240.0):
        bar.step()
        assert bar.done == done
    bar.begin("growth")
    bar.end()
    bar.close()
    assert bar.done == 1440.0
    assert "growth, 2 of 3" in capsys.readouterr().err
