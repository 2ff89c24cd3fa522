"""The archive of results: exactly they, and the same bytes for the same results."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from experiments import __main__
from experiments.reporting import archive
from experiments.storing import cache
from tests.experiments.stored_results import growth, store, store_profile

EXPECTED = {
    "results/README.md": None,
    **{f"results/a-machine/equality/{n}": None for n in ("measurements.csv", "arrays.npz")},
    **{f"results/a-machine/equality/{n}": None for n in ("record.json", "table.md")},
    **{f"results/a-machine/growth/{n}": None for n in ("measurements.csv", "record.json")},
    **{f"results/a-machine/growth/{n}": None for n in ("table.md", "figure.png", "figure.svg")},
    **{f"results/profile/here/{n}": None for n in ("measurements.csv", "record.json", "table.md")},
}


def fill(out):
    """Results, and all that is none of them."""
    folder = store(out, arrays={"a": np.arange(3)})
    store(out, growth(), "growth")
    store_profile(out)
    (folder / cache.FOLDER).mkdir()
    for stray in (folder / cache.FOLDER / "0.json", folder / "notes.txt", out / ".hidden"):
        stray.write_text("x")
    (out / "a-machine" / "link").symlink_to("/etc")
    (folder / "link.csv").symlink_to("/etc/passwd")


def packed(out):
    assert __main__.main(["report", "--pack", "--out", str(out)]) == 0
    return archive.place(Path(out))


def members(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        return {m.name: (m, opened.extractfile(m).read()) for m in opened.getmembers()}


@pytest.mark.parametrize(
    ("folder", "given", "place"),
    [
        ("mine", "mine", "mine.tar.gz"),
        ("mine", "./mine/", "mine.tar.gz"),
        ("here", ".", "../here.tar.gz"),
        ("here/sub", "..", "../../here.tar.gz"),
        (f"{cache.FOLDER}/mine", f"{cache.FOLDER}/mine", f"{cache.FOLDER}/mine.tar.gz"),
        (cache.FOLDER, cache.FOLDER, f"{cache.FOLDER}.tar.gz"),
    ],
)
def test_the_results_and_nothing_else(tmp_path, monkeypatch, folder, given, place):
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder if given in (".", "..") else tmp_path)
    fill(Path(given))
    path = packed(given)
    assert path.samefile(place)
    held = members(path.read_bytes())
    assert list(held) == sorted(EXPECTED)
    for name, (member, content) in held.items():
        assert member.isreg()
        assert (member.mode, member.mtime, member.uid, member.gid) == (0o644, 0, 0, 0)
        assert (member.uname, member.gname, member.pax_headers) == ("", "", {})
        assert content == Path(given, Path(name).relative_to("results")).read_bytes()


def test_the_same_results_give_the_same_bytes(tmp_path):
    contents = []
    for place in ("a", "b"):
        out = tmp_path / place / "results"
        fill(out)
        for i, path in enumerate(sorted(out.rglob("*.csv"))):
            if not path.is_symlink():
                os.utime(path, (i, i))
                path.chmod(0o600 + i)
        contents.append(packed(out).read_bytes())
    assert contents[0] == contents[1]


def test_the_root_has_nothing_beside_it():
    with pytest.raises(ValueError, match="--out is /; expected a folder with a name"):
        archive.place(Path("/"))
