"""What a reader sees first: marks of --quick, lines that fit, the headline, and a forecast."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments import __main__
from experiments.measuring.timing import interleaved
from experiments.reporting import forecast, headline, printed, quick, report, stored
from experiments.reporting.forecast import UNKNOWN, Forecast
from experiments.reporting.numbers import short
from tests.experiments.stored_results import equality, growth, store

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


def test_columns_that_do_not_fit_follow_where_no_file_holds_them():
    page = "| a | b | c | d |\n|---|---|---|---|\n| 1 | 22 | 333 | 4 |\n| 5 | | 6 | 7 |\n\nrest"
    first, rest = "a  b\n1  22\n5", "a  c    d\n1  333  4\n5  6    7"
    assert printed.fitted(page, width=9) == f"{first}\n\n{rest}\n\nrest"
    narrow = "a  c\n1  333\n5  6\n\na  d\n1  4\n5  7"
    assert printed.fitted(page, width=6) == f"{first}\n\n{narrow}\n\nrest"
    heading = "| a |\n|---|"
    assert printed.fitted(heading) == printed.fitted(heading, "here") == ""


@pytest.mark.parametrize(
    ("value", "digits", "told"),
    [
        *((17.642, 3, "17.6"), (999.4, 3, "999"), (999.6, 3, "1000"), (999.6, 4, "999.6")),
        *((1605.7, 3, "1606"), (2226123.4, 4, "2226123"), (0, 3, "0")),
    ],
)
def test_numbers_are_whole_from_1000_on(value, digits, told):
    assert short(value, digits) == told


@pytest.mark.parametrize("page", sorted((ROOT / "results").glob("*/*/table.md")), ids=str)
def test_stored_times_and_speedups_are_no_powers_of_ten(page):
    counts = page.parent.name in ("equality", "growth", "networks")  # of multiply-adds, or pixels
    assert not re.search(r"\de\+\d+[*†)]" if counts else r"\de\+(?!00)", page.read_text())


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
    given = interleaved({"slow": lambda: 1}, longest=-1.0, min_rounds=3)
    assert len(given["slow"]) == 3


def test_the_headline_counts_what_reaches_the_claim(tmp_path):
    rows = growth()
    for row in rows:
        row["speedup"] = 1600.0 if (row["patch"], row["labelled"]) == (32, 16) else 20.0
        row["multiply_adds"] = 800 if row["form"] == "scanning" else 2
        row["extrapolated"] = row["form"] == "scanning" and row["speedup"] == 1600
    smaller = [row | {"net": "lenet28", "labelled": 8} for row in rows if row["labelled"] == 24]
    rows += smaller
    store(tmp_path, rows, "networks")
    store(tmp_path, rows, "networks", machine="of-quick", quick=True, utc="2030-01-01T00:00:00")
    machines = stored.read(tmp_path, __main__.modules(), {}).machines
    (first, last), (begin, end) = headline.PICTURE, headline.HEADLINE
    text = f"# A\n\n{first}\n\nold\n\n{last}\n\n    make demo\n\n{begin}\n\nold\n\n{end}\nrest\n"
    text = headline.put(machines, text)
    assert "old" not in text
    assert text.endswith("\nrest\n")
    said = " ".join(text.split())
    assert "pixels 20 (family-16) to 1600* (family-32) times as fast as" in said
    assert "(2 of 3 nets; lenet28 ran at 8; `*`: scanning extrapolated from a timed" in said
    assert said.count("in 1 of 4 cases (the best: family-32 at 16, 1600* times") == 2
    assert "arithmetic alone gives 400" in said
    assert "of-quick" not in text
    assert headline.put(machines, text) == text
    with pytest.raises(ValueError, match="the README lacks the lines"):
        headline.put(machines, first + last + end + begin)


def test_the_headline_says_where_the_host_set_the_pace(tmp_path):
    rows = [row | {"device_seconds": 0.1} for row in growth()]
    store(tmp_path, rows, "networks")
    machines = stored.read(tmp_path, __main__.modules(), {}).machines
    text = "\n".join((*headline.PICTURE, *headline.HEADLINE))
    said = " ".join(headline.put(machines, text).split())
    assert "32‡ (family-16)" in said
    assert "`‡`: the host set the pace of scanning)" in said


def test_the_headline_is_of_the_largest_size_that_most_nets_reach():
    sizes = {"a": (64, 128, 256), "b": (64, 128), "c": (64,)}
    rows = [{"net": net, "labelled": size} for net, reached in sizes.items() for size in reached]
    assert headline._common_size(rows) == 128


def test_the_headline_in_the_readme_is_made_from_the_stored_results():
    machines = stored.read(ROOT / "results", __main__.modules(), __main__.profile.views()).machines
    text = (ROOT / "README.md").read_text()
    assert headline.put(machines, text) == text
    commands = [text.index(f"make {name} ") for name in ("demo", "reproduce", "test")]
    assert text.index(headline.PICTURE[1]) < min(commands)
    assert commands == sorted(commands)
    assert max(commands) < text.index(headline.HEADLINE[0])
    assert not re.search(r"^    \S", text[: commands[0] - 4], re.MULTILINE)


def test_a_forecast_scales_what_records_tell_to_this_machine(tmp_path, capsys):
    """The fastest probe of each machine counts, whichever experiment's it was."""
    for machine, name, seconds, gflops, nets in (
        ("a-machine", "equality", 120.0, 40.0, None),
        ("a-machine", "growth", 600.0, 80.0, None),
        ("a-machine", "networks", 1.0, 100.0, ["n4"]),
        ("another", "growth", 1000.0, 20.0, None),
    ):
        told = {"seconds": seconds, "gflops": gflops, "nets": nets}
        store(tmp_path, None, name, machine, measurements={"made": 2, "reused": 2}, **told)
    names = ("equality", "growth", "networks")
    expected = Forecast(names, tmp_path, "cpu", 50.0)
    assert expected.seconds == {"equality": 240.0, "growth": 400.0, "networks": None}
    assert re.search("equality +4 minutes\n +growth +7 minutes", expected.message())
    assert re.search("in all +11 minutes, and what was not measured before", expected.message())
    assert "CPU" not in expected.message()
    unknown = Forecast(names, tmp_path / "empty", "cpu", 50.0)
    assert unknown.seconds == dict.fromkeys(names)
    assert unknown.message().count("not measured before") == 3
    assert "in all" not in unknown.message()

    bar = expected.bar()
    bar.begin("equality")
    assert bar.total == 640.0 + UNKNOWN
    assert "about 12:40 left, equality, 1 of 3" in capsys.readouterr().err
    for done, left in (60.0, "11:40"), (120.0, "10:40"), (180.0, "09:40"), (240.0, "08:40"):
        bar.step(made=False)
        assert bar.done == done
        assert f"about {left} left" in capsys.readouterr().err
    bar.step(made=True)
    assert bar.done == 240.0
    bar.begin("growth")
    bar.end()
    bar.close()
    assert bar.done == 640.0
    assert "growth, 2 of 3" in capsys.readouterr().err


def test_a_forecast_for_a_gpu_tells_what_was_measured_on_a_cpu_alone(tmp_path):
    told = {"gflops": 50.0, "measurements": {"made": 4, "reused": 0}}
    store(tmp_path, None, "equality", "a-host", seconds=240.0, **told)
    store(tmp_path, None, "growth", "a-host", seconds=600.0, **told)
    store(tmp_path, None, "growth", "a-gpu", seconds=900.0, backend="cuda", **told)
    expected = Forecast(("equality", "growth", "networks"), tmp_path, "cuda", 50.0)
    assert expected.seconds == {"equality": 240.0, "growth": 900.0, "networks": None}
    lines = expected.message().splitlines()
    assert lines[1] == "  equality      4 minutes (as on a CPU)"
    assert lines[2:4] == ["  growth        15 minutes", "  networks      not measured before"]
    assert "It may take less, since a GPU computes faster, or more" in expected.message()
    assert max(map(len, lines)) <= 120
    own = Forecast(("growth",), tmp_path, "cuda", 50.0)
    assert "CPU" not in own.message()


@pytest.mark.cpu
def test_all_says_what_to_expect_and_shows_one_bar(tmp_path, monkeypatch, capsys):
    def giving(rows):
        return lambda options: (options.cache.measured({}, lambda: rows), {})

    experiments = __main__.modules()
    monkeypatch.setattr(experiments["equality"], "run", giving(equality()))
    monkeypatch.setattr(experiments["growth"], "run", giving(growth()))
    names = dict.fromkeys(("equality", "growth"), "an experiment")
    monkeypatch.setattr(__main__, "EXPERIMENTS", names)
    monkeypatch.setattr(forecast, "probe", lambda threads: 123.0)
    assert __main__.main(["all", "--backend", "cpu", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr()
    first, *lines = told.out.splitlines()
    assert first == "A matrix product of this machine: 123 GFLOP/s. What to expect:"
    assert [line.split()[0] for line in lines[:2]] == ["equality", "growth"]
    assert re.search(r"all experiments:   0%.*about \d\d:\d\d left, equality, 1 of 2", told.err)
    assert re.search(r"all experiments: 100%.*about 00:00 left, growth, 2 of 2", told.err)
    records = [*tmp_path.glob("*/*/record.json")]
    assert [json.loads(path.read_text())["gflops"] for path in records] == [123.0, 123.0]
