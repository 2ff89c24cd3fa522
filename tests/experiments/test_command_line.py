"""``python -m experiments`` from end to end, in processes of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ["equality", "networks", "sampled", "memory", "segmentation"]
DRAWN = EXPERIMENTS[1:]


def experiments(*arguments, **environment):
    """Run the command line; a finished process with its text."""
    command = [sys.executable, "-m", "experiments", *map(str, arguments)]
    clean = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    return subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Results of every experiment with --quick, for two nets."""
    out = tmp_path_factory.mktemp("results")
    nets = ("lenet28", "rcnn25")
    done = experiments("all", "--quick", "--backend", "cpu", "--nets", *nets, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick_run_stores_table_and_record(quick, name):
    out, printed = quick
    folder = out / name
    assert (folder / "table.md").read_text() in printed
    assert {"measurements.csv", "record.json", "table.md"} <= set(os.listdir(folder))
    assert not [file for file in os.listdir(folder) if file.startswith(".")]


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn(quick, name):
    out, _ = quick
    assert (out / name / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / name / "figure.svg").read_text()


def test_report_rebuilds_tables_and_figures_from_the_stored_files(quick):
    out, _ = quick
    made = [*out.glob("*/table.md"), *out.glob("*/figure.*")]
    before = {path: path.read_bytes() for path in made}
    assert len(before) == len(EXPERIMENTS) + 2 * len(DRAWN)
    for path in made:
        path.unlink()
    assert experiments("report", "--out", out).returncode == 0
    assert {path: path.read_bytes() for path in made} == before


def test_list_names_every_experiment():
    printed = experiments("list").stdout
    assert [line.split()[0] for line in printed.splitlines()] == EXPERIMENTS


@pytest.mark.parametrize("name", [*EXPERIMENTS, "all", "report", "list"])
def test_help_explains_each_subcommand(name):
    assert name in experiments("--help").stdout
    assert "usage: python -m experiments" in experiments(name, "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("equality", "--nets", "alexnet"), "--nets names alexnet; expected some of lenet28"),
        (("equality", "--backend", "opencl"), "invalid choice: 'opencl'"),
        (("networks", "--backend", "simulator"), "--backend is simulator; expected cpu or cuda"),
        (("report", "--out", "/nonexistent"), "--out is /nonexistent; expected results"),
        (("equality", "--out", "/proc/here"), "--out is /proc/here; expected a writable folder"),
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


def test_interrupting_leaves_nothing_half_written(tmp_path):
    """Ctrl-C during the measurements: exit status 130, an empty folder."""
    command = [sys.executable, "-m", "experiments", "equality", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--backend", "cpu"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    seen = ""
    while "equality:" not in seen:
        seen += process.stderr.read(1)
    process.send_signal(2)
    _, rest = process.communicate()
    assert process.returncode == 130, rest
    assert "interrupted" in rest
    assert os.listdir(tmp_path) == []
