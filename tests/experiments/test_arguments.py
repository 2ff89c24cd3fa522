"""Every argument of every subcommand with bad values: one line that names it, before any work."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__, equality
from experiments.inputs.arguments import usable_cores
from experiments.profiling import calls
from experiments.storing import cache, machine
from kernels import get_backend
from kernels.device import api
from tests.experiments import stored_results

ROOT = Path(__file__).parents[2]
NAMES = {
    **{"nets": "nosuch", "devices": "nosuch", "operator": "softmax.sideways", "arch": "sm_1"},
    "activation": "nosuch",
}
"""Arguments that are checked against names known elsewhere, and a name that is not."""
NUMBERS = ("-1", "", "x", "nan", "inf", "1.5", "1e3", "0x1", "9" * 30, "9" * 5000, "1 2")
FOLDERS = ("", "a\0b")
FOLDER_NAMES = ("", ".", "..", "a/b", "/a", "../a", "a\\b", "a\0", "a\n")


def arguments():
    """(subcommand, its action) for every argument that has a value."""
    (group,) = __main__._parser()._subparsers._group_actions
    for subcommand, parser in group.choices.items():
        for action in parser._actions:
            if action.nargs != 0:
                yield subcommand, action


def bad_values():
    for subcommand, action in arguments():
        name = action.option_strings[0] if action.option_strings else action.dest
        kind = getattr(action.type, "__qualname__", "").split(".")[0]
        if action.choices:
            values = ("nosuch", "", "0")
        elif kind in ("integer", "threads"):
            values = NUMBERS if name == "--seed" else ("0", *NUMBERS)
        elif kind == "folder":
            values = FOLDERS
        elif kind == "folder_name":
            values = FOLDER_NAMES
        else:
            continue
        for value in values:
            yield pytest.param(
                subcommand, name, action.nargs, value, id=f"{subcommand} {name} {value[:40]!a}"
            )


def test_every_argument_is_checked():
    """None is a bare int, float or path; those without a type are names."""
    ours = {"integer", "threads", "folder", "folder_name"}
    for subcommand, action in arguments():
        kind = getattr(action.type, "__qualname__", "").split(".")[0]
        assert action.choices or kind in ours or action.dest in NAMES, (subcommand, action.dest)


def assert_refused(given, message, capsys):
    """One line on stderr that begins so, and exit status 2."""
    try:
        status = __main__.main(given)
    except SystemExit as exit_:
        status = exit_.code
    printed = capsys.readouterr()
    assert status == 2
    assert not printed.out
    (line,) = printed.err.rstrip("\n").split("\n")
    assert line.startswith(f"experiments: error: {message}"), line


@pytest.mark.parametrize(("subcommand", "name", "nargs", "value"), list(bad_values()))
def test_a_bad_value(subcommand, name, nargs, value, capsys):
    count = nargs if type(nargs) is int else 1
    assert_refused([subcommand, name, *[value] * count], f"argument {name}: ", capsys)


def names():
    for subcommand, action in arguments():
        if action.dest in NAMES and not action.choices and action.type is None:
            yield subcommand, action.option_strings[0] if action.option_strings else None, action


@pytest.mark.parametrize(("subcommand", "option", "action"), list(names()))
def test_a_name_that_is_not_known(subcommand, option, action, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "why_unavailable", lambda: None)
    given = [subcommand, *([option] if option else []), NAMES[action.dest]]
    if subcommand == "profile" and action.dest in ("devices", "arch"):
        given += ["--targets"]
    if action.dest == "activation":
        given += ["--operator", "activation.forward", "--shape", "1", "1", "4", "4"]
    assert_refused(given, f"{option or 'net'} ", capsys)
    assert not os.listdir()


def test_as_many_threads_as_cores_and_no_more(capsys):
    parse = __main__._parser().parse_args
    assert parse(["equality", "--threads", str(usable_cores())]).threads == usable_cores()
    for more in (usable_cores() + 1, 5000, 10**6):
        message = (
            f"argument --threads: is '{more}'; expected an int of at least 1, and at most "
            f"{usable_cores()}, the cores that this process may use"
        )
        assert_refused(["equality", "--threads", str(more)], message, capsys)


def test_cores_are_those_of_this_process():
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += "from experiments.inputs.arguments import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_threads_are_refused_before_anything_is_imported():
    program = (
        "import sys; from experiments.__main__ import main\n"
        "try: main(['all', '--threads', '1000000'])\n"
        "except SystemExit as refused: print(refused.code, {'numba', 'kernels'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "2 set()\n", done.stderr


@pytest.mark.parametrize(
    "shape", [("1", "1", "2147483647", "2"), ("2147483647",) * 4, ("1", "65536", "1", "1")]
)
def test_arrays_too_large_to_be_indexed(shape, capsys):
    given = ["profile", "--operator", "convolution.forward", "--shape", *shape]
    assert_refused(given, f"--shape is {' '.join(shape)}, and weights are ", capsys)


def test_arrays_that_do_not_fit_into_memory(monkeypatch, capsys):
    def of_net(*_, **__):
        raise MemoryError

    monkeypatch.setattr(calls, "of_net", of_net)
    message = "--size, --batch or --shape is too large: the arrays do not fit into memory"
    assert_refused(["profile", "n4", "--size", "32768"], message, capsys)
    monkeypatch.setattr(api, "why_unavailable", lambda: None)
    assert_refused(["tune", "--nets", "n4"], "--pixels or --batch is too large: ", capsys)


@pytest.fixture
def measured(monkeypatch):
    """Equality measures nothing; each run of it is noted."""
    runs = []

    def run(options):
        runs.append(options)
        return options.cache.measured({}, stored_results.equality), {}

    monkeypatch.setattr(equality, "run", run)
    return runs


@pytest.fixture
def place(tmp_path):
    """The folder for the results of equality on this machine."""
    slug = machine.slug(machine.described(get_backend("cpu")))
    return tmp_path / "results" / slug / "equality"


EQUALITY = ("equality", "--backend", "cpu", "--nets", "lenet28")


@pytest.mark.parametrize("above", [2, 1, 0, -1])
def test_a_file_in_the_place_of_a_folder(measured, place, above, capsys):
    """Of the results, of the machine, of the experiment and of the cache."""
    blocked = place / cache.FOLDER if above < 0 else (place, *place.parents)[above]
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("no folder")
    out = place.parents[1]
    message = f"--out is {out}; expected a writable folder, and {blocked} is none: Not a directory"
    assert_refused([*EQUALITY, "--out", str(out)], message, capsys)
    assert not measured
    assert blocked.read_text() == "no folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(measured, tmp_path, capsys):
    tmp_path.chmod(0o500)
    message = f"--out is {tmp_path}; expected a writable folder, and {tmp_path} is none: Permission"
    assert_refused([*EQUALITY, "--out", str(tmp_path)], message, capsys)
    assert not measured


def test_a_folder_of_the_system(measured, capsys):
    given = [*EQUALITY, "--out", "/proc/here"]
    assert_refused(given, "--out is /proc/here; expected a writable folder, and /proc is", capsys)
    assert not measured


def test_an_archive_that_cannot_be_written(measured, capsys):
    given = [*EQUALITY, "--pack", "--out", "/"]
    assert_refused(given, "--out is /; expected a folder with a name, to pack it", capsys)
    assert not measured


def full_disk(monkeypatch, free=0):
    """After so many files."""
    written = iter(range(free))

    def fsync(_):
        if next(written, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("free", range(4))
def test_a_full_disk(measured, place, free, monkeypatch, capsys):
    """For the cached measurement, the table, the record, the page; what there is, is whole."""
    full_disk(monkeypatch, free)
    message = "[Errno 28] No space left on device: "
    assert_refused([*EQUALITY, "--out", str(place.parents[1])], message, capsys)
    assert len(measured) == 1
    files = [path for path in place.rglob("*") if path.is_file()]
    assert len(files) == free
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text())
    monkeypatch.undo()
    monkeypatch.setattr(equality, "run", lambda options: (stored_results.equality(), {}))
    assert __main__.main([*EQUALITY, "--out", str(place.parents[1])]) == 0


def test_a_full_disk_during_a_report(tmp_path, monkeypatch, capsys):
    folder = stored_results.store(tmp_path)
    full_disk(monkeypatch)
    given = ["report", "--out", str(tmp_path)]
    message = f"[Errno 28] No space left on device: '{folder / 'table.md'}'"
    assert_refused(given, message, capsys)
    assert not [path for path in folder.iterdir() if "table" in path.name]


def test_a_folder_in_the_place_of_a_table(tmp_path, capsys):
    folder = stored_results.store(tmp_path)
    (folder / "table.md").mkdir()
    assert_refused(["report", "--out", str(tmp_path)], "[Errno 21] Is a directory: ", capsys)


def test_a_parser_says_what_is_wrong_in_one_line(capsys):
    assert_refused(["equality", "--nosuch"], "unrecognized arguments: --nosuch", capsys)
    assert_refused([], "the following arguments are required: EXPERIMENT", capsys)
