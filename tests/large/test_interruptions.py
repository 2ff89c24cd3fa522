"""Runs that are killed at any moment, and journals that are not theirs."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from net.large import label, layouts, plan
from net.large.journal import Journal, journal_path, noted
from net.large.sinks import probabilities_path
from net.large.work import Work
from tests.large.images import SOURCES, image_of, labels_of, net_of, read


@pytest.fixture(autouse=True)
def small_regions(monkeypatch):
    monkeypatch.setattr(
        layouts, "chosen", lambda *given: layouts.layout(*given[:2], (16, 32), given[2])
    )


def content(path: Path):
    """All bytes of a file, or of the files of a folder, by name."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


def in_a_child(regions, seconds, out, **given):
    """Label in a forked process that is killed so many seconds after it has noted some regions;
    whether it was."""
    child = os.fork()
    if not child:
        try:
            label(out=out, **given)
        finally:
            os._exit(0)
    while len(noted(journal_path(out))) < regions:
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def killed_at_random(name, times, folder, monkeypatch):
    """Kill at random moments, go on, and compare with a run that was let be."""
    net, image = net_of(backend="reference"), image_of((150, 130))
    given = {"image": image, "net": net, "probabilities": "uint8"}
    whole, out = folder / "whole" / name, folder / "killed" / name
    label(out=whole, **given)
    np.testing.assert_array_equal(read(whole), labels_of(net, image, "reflect")[0])
    expected = [content(path) for path in (whole, probabilities_path(whole))]
    labelled, one, rng = [], Work.label, np.random.default_rng(0)

    def counted(self, region, taken):
        labelled.append(region.number)
        return one(self, region, taken)

    monkeypatch.setattr(Work, "label", counted)
    killed = resumed = 0
    while killed < times:
        shutil.rmtree(out.parent, ignore_errors=True)
        if in_a_child(rng.integers(0, 48), rng.uniform(0, 0.003), out, **given):
            killed += 1
            done = noted(journal_path(out))
            resumed += 0 < len(done) < 50
            del labelled[:]
            label(out=out, **given)
            assert sorted(labelled) == sorted(set(range(50)) - done)
            assert [content(path) for path in (out, probabilities_path(out))] == expected
    return resumed


@pytest.mark.parametrize("name", ["labels.npy", "labels.zarr", "labels.tif"])
def test_killed(name, tmp_path, monkeypatch):
    assert killed_at_random(name, 3, tmp_path, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("name", ["labels.npy", "labels.zarr", "labels.tif", "labels.ome.tif"])
def test_killed_thirty_times(name, tmp_path, monkeypatch):
    assert killed_at_random(name, 30, tmp_path, monkeypatch) > 20


@pytest.mark.cpu
@pytest.mark.parametrize("name", ["labels.npy", "labels.zarr", "labels.tif"])
def test_goes_on_where_it_stopped(name, tmp_path):
    """Also with a torn line at the journal's end, and what was not noted half written."""
    net, image = net_of(), image_of()
    label(image, net, tmp_path / "whole" / name)
    out = tmp_path / "stopped" / name

    def stop(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(image, net, out, progress=stop)
    with journal_path(out).open("ab") as file:
        file.write(b"1")
    if out.is_dir():
        next(out.rglob("c/0/0")).with_suffix(".0a1b.partial").write_bytes(b"half a shard")
    steps = []
    going_on = plan(image, net, out)
    assert "7 regions are done" in str(going_on)
    going_on.execute(lambda done, total: steps.append((done, total)))
    assert steps == [(done, 20) for done in range(8, 21)]
    assert content(out) == content(tmp_path / "whole" / name)
    label(image, net, out, progress=lambda *step: pytest.fail("nothing is left to do"))


def test_two_at_once(tmp_path):
    image, net, out = image_of((20, 20)), net_of(backend="reference"), tmp_path / "labels.npy"
    label(image, net, out)
    planned = plan(image, net, out)
    with Journal(journal_path(out), planned.run), pytest.raises(BlockingIOError, match="another"):
        planned.execute()


def test_shards_are_whole(tmp_path):
    """Each region writes its own files, so nobody reads what another one is writing."""
    image, net, out = image_of(), net_of(backend="reference"), tmp_path / "labels.zarr"
    label(image, net, out, probabilities="uint8")
    for path in (out, probabilities_path(out)):
        array = zarr.open_group(path, mode="r")["0"]
        assert array.shards[-2:] == (16, 32)
        shards = [f for f in (path / "0" / "c").rglob("*") if f.is_file()]
        assert len(shards) == 20


ANOTHER = {
    "image": lambda: {"image": image_of(seed=1)},
    "net": lambda: {"net": net_of(patch=(9, 9), backend="reference")},
    "border": lambda: {"border": "zero"},
    "probabilities": lambda: {"probabilities": "uint8"},
    "where": lambda: {"where": np.ones((67, 101), np.uint8)},
}


@pytest.mark.parametrize("what", ANOTHER)
def test_another_run_is_refused(what, tmp_path):
    given = {"image": image_of(), "net": net_of(backend="reference"), "out": tmp_path / "a.npy"}
    label(**given)
    before = content(tmp_path)
    with pytest.raises(ValueError, match=f"is of another run: {what}"):
        label(**given | ANOTHER[what]())
    assert content(tmp_path) == before


def test_what_is_no_run_is_refused(tmp_path):
    given = {"image": image_of(), "net": net_of(backend="reference"), "out": tmp_path / "a.npy"}
    (tmp_path / "a.npy").write_bytes(b"dear")
    with pytest.raises(FileExistsError, match="no journal of it"):
        label(**given)
    journal_path(tmp_path / "a.npy").write_bytes(b"{}")
    with pytest.raises(ValueError, match="is no journal"):
        label(**given)
    assert (tmp_path / "a.npy").read_bytes() == b"dear"


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"out": "labels.jpg"}, ValueError, "ends in .npy, .zarr"),
        ({"where": np.ones((5, 6))}, ValueError, "where is of 5 x 6 pixels; expected 67 x 101"),
        ({"image": np.zeros((67, 101), complex)}, TypeError, "image has dtype complex128"),
        ({"image": np.zeros((67, 101, 4), "u1")}, ValueError, "3 channels"),
        ({"image": np.zeros((4, 9, 3), "u1"), "border": "valid"}, ValueError, "at least the patch"),
        ({"image": "no.tif"}, OSError, "no.tif"),
        ({"memory": "much"}, ValueError, "memory is 'much'"),
        ({"probabilities": "float8"}, ValueError, "probabilities is 'float8'"),
        (
            {"image": image_of((9, 1)), "out": "a.tif", "probabilities": "uint8"},
            ValueError,
            "one c",
        ),
        ({"out": "a.ome.tif", "probabilities": "float16"}, None, ""),
    ],
)
def test_wrong_arguments(changed, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"image": image_of(), "net": net_of(backend="reference"), "out": "a.npy"}
    if error is None:
        label(**given | changed)
        return
    with pytest.raises(error, match=re.escape(message)):
        label(**given | changed)
    assert not any(tmp_path.iterdir())


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def break_(path):
    path = path / "zarr.json" if path.is_dir() else path
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("which", ["labels", "probabilities"])
@pytest.mark.parametrize("name", ["a.npy", "a.zarr", "a.tif"])
def test_files_that_are_gone_damaged_or_not_its_own_are_refused(name, which, tmp_path):
    out = tmp_path / name
    path = out if which == "labels" else probabilities_path(out)
    given = {"net": net_of(backend="reference"), "out": out, "probabilities": "uint8"}
    given["image"] = image_of((20, 20))
    label(**given)
    for hurt, error, message in (
        (lambda: break_(path), ValueError, "is damaged or of another kind"),
        (lambda: remove(path), FileNotFoundError, "is not there, but"),
        (
            lambda: [f() for f in (journal_path(out).unlink, path.mkdir)],
            FileExistsError,
            "is there",
        ),
    ):
        hurt()
        if path != out and error is FileExistsError:
            remove(out)
        before = content(tmp_path)
        with pytest.raises(error, match=re.escape(f"{path} {message}")):
            label(**given)
        assert content(tmp_path) == before


def test_an_overview_that_is_read_or_cannot_be_written_is_refused(tmp_path):
    given = {"net": net_of(backend="reference"), "out": tmp_path / "image.npy"}
    image = SOURCES["png"](tmp_path, image_of((20, 20))).rename(tmp_path / "image.overview.png")
    with pytest.raises(ValueError, match="is read and would be replaced"):
        label(image, **given)
    image.unlink()
    image.mkdir()
    with pytest.raises(IsADirectoryError, match="overview cannot be written"):
        label(image_of((20, 20)), **given)
    assert not journal_path(given["out"]).exists()


def test_damaged_images_are_named(tmp_path):
    net, out = net_of(backend="reference"), tmp_path / "labels.npy"
    for source in ("npy", "tiff in tiles", "zarr 3"):
        path = SOURCES[source](tmp_path, image_of())
        if path.is_dir():
            damaged = max(f for f in path.rglob("*") if f.is_file() and f.name != "zarr.json")
        else:
            damaged = path
        content = damaged.read_bytes()
        damaged.write_bytes(content[: len(content) // 2] + b"\xff" * 9)
        with pytest.raises(ValueError, match=f"{path.name} cannot be read"):
            label(path, net, out)
