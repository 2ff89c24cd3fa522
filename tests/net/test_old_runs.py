"""Runs of version 1 become files of today, or are refused in little memory.

``version-1.npz`` was written by the program when it still wrote version 1.
"""

import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from net.__main__ import main
from net.file_format import BadCheckpoint
from net.layers import BatchNorm, Convolution, Dropout, FullyConnected, ReLU
from net.learning import checkpoint
from net.learning.old_runs import convert
from net.learning.optimizers import Adam, Cosine
from tests.net.mutants import OLD_RUN


def rewritten(path, change, **options):
    """The old run with its members, by name, changed."""
    with zipfile.ZipFile(OLD_RUN) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_header(path, change):
    """The old run with its JSON changed."""

    def changed(members):
        header = json.loads(np.load(io.BytesIO(members["header.npy"])).tobytes())
        header = change(header) or header
        content = io.BytesIO()
        np.save(content, np.frombuffer(json.dumps(header).encode(), np.uint8))
        members["header.npy"] = content.getvalue()

    return rewritten(path, changed)


def test_a_run_goes_on_where_it_was(tmp_path):
    before = OLD_RUN.read_bytes()
    convert(OLD_RUN, tmp_path / "new")
    assert OLD_RUN.read_bytes() == before
    trainer = checkpoint.load(tmp_path / "new", backend="reference")
    assert trainer.net.layers == (
        Convolution(2, (3, 2), stride=(1, 2)),
        *(BatchNorm(), ReLU(), Dropout(0.2), FullyConnected(3, bias=False)),
    )
    assert (trainer.net.channels, trainer.net.patch, trainer.net.dtype) == (1, (5, 4), "float32")
    assert trainer.optimizer == Adam(Cosine(0.1, 20))
    assert (trainer.seed, trainer.steps, trainer.dense.border) == (7, 5, "zero")
    assert (trainer.form, trainer.scan.batch) == ("dense", 64)
    assert trainer.class_weights.tolist() == [1, 2, 0]
    assert repr(trainer.losses) == "[1.25, nan]"
    assert trainer.history == [
        {"epoch": 1, "step": 3, "loss": 0.75},
        {"epoch": 2, "step": 3, "loss": float("inf")},
    ]
    old = np.load(OLD_RUN)
    for name, array in trainer.net.state().items():
        np.testing.assert_array_equal(array, old[f"net/{name}"])
    for name, array in trainer.slots.items():
        np.testing.assert_array_equal(array, old[f"slot/{name}"])
    assert not old["net/conv1.weights"].flags.c_contiguous, "Fortran order is a case of its own"


def test_the_error_names_the_command(tmp_path):
    command = f"python -m net convert {re.escape(str(OLD_RUN))} NEW"
    with pytest.raises(BadCheckpoint, match=command):
        checkpoint.load(OLD_RUN)


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "net", "convert", OLD_RUN, tmp_path / "new"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'new'} holds the run of {OLD_RUN}\n"
    assert checkpoint.load(tmp_path / "new", backend="reference").steps == 5


def test_the_command_fails_with_one_line(tmp_path, capsys):
    (tmp_path / "there").write_bytes(b"mine")
    (tmp_path / "bad").write_bytes(OLD_RUN.read_bytes()[:-50])
    os.mkfifo(tmp_path / "pipe")
    cases = [
        (OLD_RUN, tmp_path / "there", f"File exists: '{tmp_path / 'there'}'"),
        (OLD_RUN, tmp_path / "there" / "new", str(tmp_path / "there" / "new")),
        (
            tmp_path / "nothing",
            tmp_path / "new",
            f"No such file or directory: '{tmp_path}/nothing'",
        ),
        (tmp_path / "bad", tmp_path / "new", f"{tmp_path / 'bad'} cannot be converted: "),
        (tmp_path / "pipe", tmp_path / "new", "is a pipe or a device"),
        (tmp_path, tmp_path / "new", "Is a directory"),
        (OLD_RUN, "", "new is ''; expected the path of a file"),
    ]
    for old, new, message in cases:
        assert main(["convert", str(old), str(new)]) == 1
        printed = capsys.readouterr()
        assert message in printed.err
        assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert (tmp_path / "there").read_bytes() == b"mine"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("arguments", [[], ["convert"], ["convert", "a"], ["other"], ["--x"]])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: python -m net" in capsys.readouterr().err


class TestRefused:
    def refuses(self, path, message):
        with pytest.raises(BadCheckpoint, match=f"^{re.escape(str(path))} .*{message}"):
            convert(path, path.with_name("new"))
        assert not path.with_name("new").exists()

    @pytest.mark.parametrize("share", [0, 0.3, 0.999])
    def test_truncated(self, tmp_path, share):
        content, path = OLD_RUN.read_bytes(), tmp_path / "old"
        path.write_bytes(content[: int(share * len(content))])
        self.refuses(path, "cannot be converted")

    def test_flipped(self, tmp_path):
        content, path = bytearray(OLD_RUN.read_bytes()), tmp_path / "old"
        content[3000] ^= 1
        path.write_bytes(content)
        self.refuses(path, "cannot be converted: Bad CRC-32")

    def test_files_of_today(self, tmp_path):
        convert(OLD_RUN, tmp_path / "old")
        self.refuses(tmp_path / "old", "not a zip file")

    def test_foreign(self, tmp_path):
        path = tmp_path / "old.npz"
        np.savez(path, weights=np.ones(3))
        self.refuses(path, "header is uint8 of 0 bytes|header is no JSON")
        np.savez(path, header=np.ones(3))
        self.refuses(path, "header is float64 of 24 bytes")
        np.savez(path, header=np.array([{"format": "x"}], object))
        self.refuses(path, "array 'header' is of no kind that a run holds")
        np.savez(path, header=np.frombuffer(b'{"format": "x", "version": 1}', np.uint8))
        self.refuses(path, "it is a 'x', version 1; expected a 'regularly-sparse tr")

    def test_a_bomb_is_not_unpacked(self, tmp_path):
        """Zeros of 100 MB in 100 kB: compressed, or told to be stored."""

        def grown(members):
            with_zeros = io.BytesIO()
            np.save(with_zeros, np.zeros(25_000_000, np.float32))
            members["net/conv1.bias.npy"] = with_zeros.getvalue()

        path = rewritten(tmp_path / "old", grown, compression=zipfile.ZIP_DEFLATED)
        stored = bytearray(path.read_bytes())
        while (at := stored.find(b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x08")) >= 0:
            stored[at + 10] = 0
        (tmp_path / "stored").write_bytes(stored)
        for bomb in (path, tmp_path / "stored"):
            assert bomb.stat().st_size < 200_000
            tracemalloc.start()
            self.refuses(bomb, "it unpacks to more than its own size")
            assert tracemalloc.get_traced_memory()[1] < 5e6
            tracemalloc.stop()

    def test_compressed(self, tmp_path):
        path = rewritten(tmp_path / "old", lambda _: None, compression=zipfile.ZIP_DEFLATED)
        self.refuses(path, "unpacks to more|expected stored arrays")

    def test_other_members(self, tmp_path):
        path = tmp_path / "old"
        rewritten(path, lambda members: members.update({"readme": b"x"}))
        self.refuses(path, "it holds 'readme'; expected stored arrays")
        rewritten(path, lambda members: members.update({"net/more.npy": members["header.npy"]}))
        self.refuses(path, "array 'net/more' is too many")
        rewritten(path, lambda members: members.pop("slot/mean.conv1.bias.npy"))
        self.refuses(path, "array 'slot/mean.conv1.bias' is missing")

    def test_a_member_twice(self, tmp_path):
        path = tmp_path / "old"
        path.write_bytes(OLD_RUN.read_bytes())
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("header.npy", archive.read("header.npy"))
        self.refuses(path, "it holds 'header' twice")

    @pytest.mark.parametrize(
        "npy",
        [
            b"",
            b"\x93NUMPY",
            b"\x93NUMPY\x01\x00\xff\xff{'descr': '<f4'",
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n" + bytes(8),
            b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n",
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': ("
            + b"1" * 50_000
            + b"}",
        ],
    )
    def test_what_is_no_array(self, tmp_path, npy):
        path = rewritten(tmp_path / "old", lambda m: m.update({"net/conv1.bias.npy": npy}))
        self.refuses(path, "array 'net/conv1.bias' is of no kind that a run holds")

    def test_an_array_of_other_bytes_than_its_shape(self, tmp_path):
        def changed(members):
            npy = members["net/conv1.bias.npy"]
            assert npy.count(b"(2,)") == 1
            members["net/conv1.bias.npy"] = npy.replace(b"(2,)", b"(9,)")

        path = rewritten(tmp_path / "old", changed)
        self.refuses(path, r"array 'net/conv1.bias' has shape \(9,\), and other bytes than that")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"version": 2}, "version 2; expected"),
            ({"version": -1}, "version -1; expected"),
            ({"more": 1}, "header has the keys"),
            ({"steps": -1}, "steps is -1; expected an int from 0"),
            ({"losses": ["a"]}, "losses is .*; expected numbers"),
            ({"losses": None}, "losses is None; expected numbers"),
            ({"losses": [1] * 6}, "has 6 losses of 5 steps"),
            ({"history": [{"loss": "a"}]}, "loss is 'a'; expected a number"),
            ({"net": None}, "net is None; expected an object"),
            ({"trainer": {}}, "trainer has the keys"),
        ],
        ids=str,
    )
    def test_a_header(self, tmp_path, change, message):
        self.refuses(with_header(tmp_path / "old", lambda header: header | change), message)

    def test_any_name_of_a_module(self, tmp_path):
        def changed(header):
            header["net"]["layers"][2] = {"kind": "dataclass"}

        self.refuses(with_header(tmp_path / "old", changed), "kind is 'dataclass'; known are")
