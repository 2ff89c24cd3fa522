"""``python -m experiments`` from end to end, in processes of its own."""

import importlib
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from matplotlib.image import imread

from experiments import __main__
from experiments.measuring import timing
from experiments.reporting import claims, pages, stored
from experiments.reporting import printed as printing
from experiments.reporting import quick as quick_marks
from experiments.storing import cache, results
from tests import interrupts

ROOT = Path(__file__).parents[2]
EXPERIMENTS = [name for name in __main__.EXPERIMENTS if name not in __main__.APART]
DRAWN = [name for name in EXPERIMENTS if name not in ("equality", "host")]
SUBCOMMANDS = (*__main__.EXPERIMENTS, *__main__.TOOLS, "all", "report", "published", "list")
UNPACKED = {"measurements.csv", "record.json", "table.md"}


def experiments(*arguments, **environment):
    """Run the command line; a finished process with its text."""
    command = [sys.executable, "-m", "experiments", *map(str, arguments)]
    clean = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    return subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The machine's folder of results of every experiment with --quick, and what was printed."""
    out = tmp_path_factory.mktemp("run") / "results"
    done = experiments(
        *("all", "--quick", "--backend", "cpu", "--nets", "lenet28", "--out", out, "--pack")
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder, done.stdout


@pytest.mark.cpu
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick_run_stores_table_and_record(quick, name):
    machine, printed = quick
    folder = machine / name
    page = (folder / "table.md").read_text()
    assert printing.fitted(page, str(folder / "table.md")) in printed
    tables = re.findall(r"(?:^|\n)(?!\|)[^\n]*\n+(?=\|)", page)
    assert all(quick_marks.QUICK in heading for heading in tables)
    assert page.splitlines()[0].endswith(f"({quick_marks.QUICK})")
    assert set(os.listdir(folder)) >= UNPACKED
    record = json.loads((folder / results.RECORD).read_text())
    assert record["code"] == cache.state_digest()
    assert not [file for file in os.listdir(folder) if file.startswith(".")]


@pytest.mark.cpu
def test_what_takes_seconds_comes_first(quick):
    _, printed = quick
    titles = re.findall(r"^# (\w+) \(", printed, re.MULTILINE)
    assert titles[:4] == ["Demo", "Pooling", "Host", "Equality"]
    assert len(titles) == len(EXPERIMENTS)


@pytest.mark.cpu
def test_what_is_printed_fits_a_terminal(quick):
    _, printed = quick
    lines = [re.sub(r"/\S+", "/", line) for line in printed.splitlines()]  # no path can be wrapped
    assert not [line for line in lines if len(line) > printing.WIDTH]


@pytest.mark.cpu
@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn(quick, name):
    machine, printed = quick
    assert (machine / name / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert f"The picture: {machine / name / 'figure.png'}\n" in printed
    drawn = (machine / name / "figure.svg").read_text()
    assert "<svg" in drawn
    assert quick_marks.QUICK in drawn
    experiment = __main__.modules()[name]
    results = stored.load(machine / name, experiment)
    for axes in experiment.figure(results.rows, results.record, results.arrays).get_axes():
        assert axes.has_data() or not axes.axison, f"{axes.get_title()} is empty"


@pytest.mark.cpu
def test_times_come_with_their_spread_and_both_clocks(quick):
    machine, _ = quick
    for name in ("networks", "convolution", "pooling", "growth", "sampled", "methods"):
        rows = stored.load(machine / name, __main__.modules()[name]).rows
        for row in rows:
            if row.get("skipped"):  # no PyTorch here
                continue
            assert row["seconds_p20"] <= row["seconds"] <= row["seconds_p80"]
            assert row["repeats"] >= 1
            assert row["device_seconds"] is None


@pytest.mark.cpu
def test_with_quick_the_net_learns_more_than_its_baseline_knows_and_ratios_are_of_rounds(quick):
    machine, _ = quick
    rows = stored.load(machine / "segmentation", __main__.modules()["segmentation"]).rows
    accuracy = {r["subject"]: r["value"] for r in rows if r["measure"] == "accuracy"}
    assert accuracy["net"] > accuracy["baseline"]
    for name in ("networks", "growth", "sampled", "methods"):
        rows = stored.load(machine / name, __main__.modules()[name]).rows
        assert min(row["repeats"] for row in rows if row["repeats"] is not None) >= timing.FEWEST


@pytest.mark.cpu
def test_memory_is_told_with_its_method(quick):
    machine, _ = quick
    for name in ("networks", "sampled", "methods"):
        rows = stored.load(machine / name, __main__.modules()[name]).rows
        told = [row for row in rows if row["peak_method"]]
        assert told
        assert max(row["peak_bytes"] for row in told) > 100_000


@pytest.mark.cpu
def test_large_images_are_labelled_under_a_limit(quick):
    rows = stored.load(quick[0] / "large", __main__.modules()["large"]).rows
    timed, limited = rows
    assert (timed["net"], timed["labelled"]) == ("lenet28", 6 * 64 * 64)
    assert timed["repeats"] >= 1
    assert timed["share"] > 0.1
    assert limited["labelled"] == 10_000
    assert 50_000_000 < limited["peak_bytes"] < limited["limit"]


@pytest.mark.cpu
def test_report_rebuilds_everything_from_the_stored_files(quick):
    out = quick[0].parent
    made = [*out.glob("*/*/table.md"), *out.glob("*/*/figure.*"), out / "README.md"]
    before = {path: path.read_bytes() for path in made}
    assert len(before) == len(EXPERIMENTS) + 2 * len(DRAWN) + 1
    for path in made:
        path.unlink()
    assert experiments("report", "--out", out).returncode == 0
    assert {path: path.read_bytes() for path in made} == before


@pytest.mark.cpu
def test_the_archive_holds_the_results_and_not_the_cache(quick):
    machine, _ = quick
    with tarfile.open(machine.parent.with_name("results.tar.gz")) as archive:
        names = archive.getnames()
    for name in EXPERIMENTS:
        assert f"results/{machine.name}/{name}/measurements.csv" in names
    assert not [name for name in names if f"/{cache.FOLDER}/" in name]


@pytest.mark.cpu
def test_a_finished_experiment_is_not_measured_again_unless_asked(quick):
    machine, _ = quick
    again = ("convolution", "--quick", "--backend", "cpu", "--out", machine.parent)
    stored = machine / "convolution" / "measurements.csv"
    before = stored.read_bytes()
    assert experiments(*again).returncode == 0
    assert stored.read_bytes() == before
    counts = json.loads((machine / "convolution" / "record.json").read_text())["measurements"]
    assert counts["made"] == 0
    assert experiments(*again, "--fresh").returncode == 0
    counts = json.loads((machine / "convolution" / "record.json").read_text())["measurements"]
    assert counts["reused"] <= 3  # the base point, which belongs to every axis
    assert stored.read_bytes() != before


@pytest.mark.cpu
def test_a_second_machine_lies_beside_the_first(quick, tmp_path):
    machine, _ = quick
    for name in ("equality", "growth"):
        shutil.copytree(machine / name, tmp_path / "first" / name)
        shutil.copytree(machine / name, tmp_path / "second" / name)
        path = tmp_path / "second" / name / "record.json"
        record = json.loads(path.read_text()) | {"gpu": "Another GPU", "backend": "cuda"}
        path.write_text(json.dumps(record))
    done = experiments("report", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "README.md").read_text()
    assert "## Another GPU, backend cuda" in index
    assert index.count("growth/figure.png") == 2
    machines = stored.read(tmp_path, __main__.modules(), {}).machines
    page = pages.reproduction(machines)
    assert "| Another GPU, backend cuda |" in page
    assert claims.NO_GPU not in page
    assert claims.NO_GPU in pages.reproduction([m for m in machines if m.folder.name == "first"])


def test_report_rebuilds_and_lists_the_profilers_results(tmp_path):
    shutil.copytree(ROOT / "results" / stored.PROFILE, tmp_path / stored.PROFILE)
    made = [*tmp_path.glob("*/*/table.md"), *tmp_path.glob("*/*/figure.*")]
    before = {path: path.read_bytes() for path in made}
    for path in made:
        path.unlink()
    done = experiments("report", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for path, content in before.items():
        if path.suffix == ".png":  # another CPU rounds its shades another way
            one, other = imread(io.BytesIO(content)), imread(path)
            assert one.shape == other.shape
            assert abs(one - other).max() < 4 / 255, path
        else:
            assert path.read_bytes() == content, path
    index = (tmp_path / "README.md").read_text()
    for folder in (tmp_path / stored.PROFILE).iterdir():
        assert f"[{folder.name}]({stored.PROFILE}/{folder.name}/table.md)" in index


def test_list_names_every_experiment():
    printed = experiments("list").stdout
    assert [line.split()[0] for line in printed.splitlines()] == [
        *__main__.EXPERIMENTS,
        *__main__.TOOLS,
    ]


@pytest.fixture(scope="module")
def options_of():
    """The options that the help of each subcommand explains."""
    listed = {}
    for name in SUBCOMMANDS:
        done = experiments(name, "--help")
        assert done.stdout.startswith(f"usage: python -m experiments {name}"), done.stderr
        listed[name] = set(re.findall(r"^  (--[a-z]+)", done.stdout, re.MULTILINE))
    return listed


def test_help_names_each_subcommand():
    printed = experiments("--help").stdout
    assert all(re.search(rf"^    {name}\b", printed, re.MULTILINE) for name in SUBCOMMANDS)


def test_the_readme_says_which_options_each_subcommand_takes(options_of):
    text = " ".join((ROOT / "README.md").read_text().split())
    sentence = (
        r"Each experiment, and `all`, takes (.*?); those on nets of the zoo, and `all`, also take "
        r"(.*?)\."
    )
    each, nets = map(options_in, re.search(sentence, text).groups())
    extra = dict(re.findall(r"`([a-z]+)` has `(--[a-z]+)`, too", text))
    sentence = r"([`a-z, ]+), which are about the CUDA kernels alone, (and `[a-z]+`) have their own"
    apart = "".join(re.search(sentence, text).groups())
    assert set(re.findall("`([a-z]+)`", apart)) == set(__main__.TOOLS)
    sentence = r"`python -m experiments ([a-z]+)` [^;]*; it takes (.*?)\."
    others = {name: options_in(part) for name, part in re.findall(sentence, text)}
    assert others == {name: options_of[name] for name in ("report", "published")}
    for name in (*__main__.EXPERIMENTS, "all"):
        runs_nets = name == "all" or "options.nets" in source_of(name)
        expected = (
            each | (nets if runs_nets else set()) | ({extra[name]} if name in extra else set())
        )
        assert options_of[name] == expected, name
    assert not options_of["list"]
    for name in __main__.TOOLS:
        assert options_of[name]
        assert not each <= options_of[name]


def options_in(text):
    return set(re.findall("`(--[a-z]+)`", text))


def test_the_readme_says_what_all_leaves_out():
    text = " ".join((ROOT / "README.md").read_text().split())
    (told,) = re.findall(r"`python -m experiments all` runs all but (.*?);", text)
    assert set(re.findall(r"`([a-z_]+)`, which needs", told)) == set(__main__.APART)


def source_of(name):
    return inspect.getsource(importlib.import_module(f"experiments.{name}"))


def test_command_module_and_results_have_one_name():
    for name in (*__main__.EXPERIMENTS, *__main__.TOOLS):
        assert (ROOT / "experiments" / f"{name}.py").is_file()
    modules = {path.stem for path in (ROOT / "experiments").glob("[!_]*.py")}
    assert modules == {*__main__.EXPERIMENTS, *__main__.TOOLS}
    for record in (ROOT / "results").glob(f"*/*/{results.RECORD}"):
        machine, name = record.parts[-3:-1]
        experiment = json.loads(record.read_text())["experiment"]
        if machine == stored.PROFILE:
            assert experiment in __main__.profile.views()
        else:
            assert experiment == name
            assert name in __main__.EXPERIMENTS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("equality", "--nets", "alexnet"), "--nets names alexnet; expected some of lenet28"),
        (("equality", "--backend", "opencl"), "invalid choice: 'opencl'"),
        (("networks", "--backend", "simulator"), "--backend is simulator; expected cpu or cuda"),
        (("report", "--out", "/nonexistent"), "--out is /nonexistent; expected results"),
        (("equality", "--out", "/proc/here"), "--out is /proc/here; expected a writable folder"),
        (("equality", "--threads", "0"), "--threads: is '0'; expected an int of at least 1"),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments, message):
    done = experiments(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_backend_that_is_not_there_is_refused_with_what_is_missing(tmp_path):
    done = experiments("equality", "--backend", "cuda", "--out", tmp_path, NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 2
    assert "backend 'cuda' cannot run here: NUMBA_ENABLE_CUDASIM=1 is set" in done.stderr


@pytest.mark.cpu
def test_threads_are_as_many_as_asked_for(tmp_path):
    quick = ("--quick", "--backend", "cpu", "--nets", "lenet28", "--out", tmp_path)
    done = experiments("equality", "--threads", 1, *quick)
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("*/equality/record.json")
    assert json.loads(record.read_text())["threads"] == 1


def test_interrupting_leaves_nothing_half_written(tmp_path):
    """Ctrl-C during the measurements: exit status 130, and whole measurements or none."""
    command = [sys.executable, "-m", "experiments", "equality", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--backend", "cpu"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interrupts.heed,
    )
    seen = ""
    while "equality:" not in seen:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate()
    assert process.returncode == 130, rest
    assert "interrupted; finished measurements are cached" in rest
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(json.loads(path.read_text())["value"] for path in files)
