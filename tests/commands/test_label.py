"""``python -m net label``: the bits of ``Dense.predict``, in files; or one line, and no file."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from kernels.memory import cpu as memory
from net import Dense, load
from net.__main__ import main
from net.borders import patch_margins
from net.images import net_input
from net.large import layouts
from net.pictures import read
from net.usage import LabelRule, Usage
from tests import interrupts
from tests.commands.files import saved_image, saved_net

pytestmark = pytest.mark.cpu

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_net("net")
    saved_image("a.png")
    return tmp_path


def predicted(image, tile=None, mask=None):
    net = load("net", backend="cpu")
    border = net.usage.border if net.usage else "reflect"
    return Dense(net, border).predict(net_input(net, image), tile, mask)


def label(*arguments):
    return main(["label", "--net", "net", "--out", "out", *arguments])


def written(name="out/a.png"):
    return np.asarray(Image.open(name))


class TestResults:
    def test_are_the_bits_of_predict(self, folder, capsys):
        assert label("a.png", "--probabilities") == 0
        classes, probabilities = predicted(read("a.png"))
        np.testing.assert_array_equal(written(), classes + 1)
        assert written().dtype == np.uint8
        with tifffile.TiffFile("out/a.probabilities.tif") as file:
            assert file.series[0].axes == "CYX"
            assert file.asarray().tobytes() == probabilities.tobytes()
            assert 'Name="rim"' in file.ome_metadata
        assert written("out/a.overlay.png").shape == (41, 53, 3)
        assert sorted(os.listdir("out")) == ["a.overlay.png", "a.png", "a.probabilities.tif"]
        printed = capsys.readouterr().out.splitlines()
        assert "a.png: 3 x 41 x 53, in one pass, " in "\n".join(printed)
        assert printed[-2].startswith("0.00217 megapixels, ")
        assert printed[-1].startswith("out/a.png: cell ")

    def test_in_parts_where_memory_is_short(self, folder, monkeypatch, capsys):
        free = 300_000
        monkeypatch.setattr(memory, "free_bytes", lambda: free)
        assert label("a.png", "--json") == 0
        record = json.loads(capsys.readouterr().out)["images"][0]
        assert 0 < record["tile"] < 41
        assert record["planned_bytes"] <= free
        np.testing.assert_array_equal(written(), predicted(read("a.png"))[0] + 1)

    def test_chosen_pixels(self, folder, capsys):
        mask = np.random.default_rng(3).random((41, 53)) < 0.02
        Image.fromarray(mask).save("mask.png")
        assert label("a.png", "--where", "mask.png", "--json") == 0
        np.testing.assert_array_equal(written(), predicted(read("a.png"), mask=mask)[0] + 1)
        np.testing.assert_array_equal(written() > 0, mask)
        assert json.loads(capsys.readouterr().out)["images"][0]["unlabelled"] == (~mask).sum()
        np.testing.assert_array_equal(written("out/a.overlay.png")[~mask], written("a.png")[~mask])

    def test_pixels_of_nan_have_no_label(self, folder):
        image = written("a.png").astype(np.float32)
        image[20, 30, 1] = np.nan
        np.save("a.npy", image)
        assert label("a.npy") == 0
        classes = predicted(image)[0]
        assert 0 < (classes == -1).sum() < classes.size / 2
        np.testing.assert_array_equal(written(), classes + 1)

    def test_with_border_valid_the_map_lies_on_the_image(self, folder):
        saved_net("net", Usage(border="valid"))
        assert label("a.png") == 0
        top, left, bottom, right = patch_margins((6, 7))
        inside = written()[top : 41 - bottom, left : 53 - right]
        np.testing.assert_array_equal(inside, predicted(read("a.png"))[0] + 1)
        assert (written() > 0).sum() == inside.size

    @pytest.mark.parametrize(
        ("rule", "values"),
        [
            (LabelRule(unlabelled=255), [0, 1, 2]),
            (LabelRule(0, (3, 300, 1)), [3, 300, 1]),
            (LabelRule(None, COLORS), COLORS),
        ],
        ids=str,
    )
    def test_values_are_those_of_the_label_rule(self, folder, rule, values):
        saved_net("net", Usage(label_rule=rule))
        assert label("a.png") == 0
        np.testing.assert_array_equal(written(), np.array(values)[predicted(read("a.png"))[0]])

    def test_names_that_are_no_ascii(self, folder, capsys):
        os.rename("a.png", "zellkörper 1.ome.png")
        assert label("zellkörper 1.ome.png", "--json") == 0
        assert os.path.exists("out/zellkörper 1.png")
        assert json.loads(capsys.readouterr().out)["images"][0]["image"] == "zellkörper 1.ome.png"

    def test_a_net_that_says_nothing_of_its_usage(self, folder, capsys):
        saved_net("net", None)
        assert label("a.png") == 0
        np.testing.assert_array_equal(written(), predicted(read("a.png"))[0] + 1)
        assert "usage: none is given; images are taken as they are" in capsys.readouterr().out


class TestRefusals:
    def fails(self, capsys, status, message, *arguments):
        """With one line, nothing on stdout, and nothing written."""
        if status == 2:
            with pytest.raises(SystemExit) as ended:
                label(*arguments)
            assert ended.value.code == 2
        else:
            assert label(*arguments) == status
        printed = capsys.readouterr()
        assert message in printed.err
        assert status == 2 or (printed.out, printed.err.count("\n")) == ("", 1)
        assert not os.path.exists("out")

    def test_before_anything_is_written(self, folder, capsys):
        Image.fromarray(np.zeros((5, 6), np.uint8)).save("grey.png")
        os.mkfifo("pipe")
        (folder / "damaged.png").write_bytes((folder / "a.png").read_bytes()[:20])
        for message, *arguments in (
            ("grey.png cannot be read: it has 1 channels; expected 3", "a.png", "grey.png"),
            ("No such file or directory: 'nothing.png'", "a.png", "nothing.png"),
            ("is a pipe or a device; expected a file: 'pipe'", "a.png", "pipe"),
            ("Is a directory: '.'", "a.png", "."),
            ("damaged.png cannot be read: ", "a.png", "damaged.png"),
            (
                "grey.png is 5 x 6; expected 41 x 53, as a.png",
                "a.png",
                "--where",
                "grey.png",
            ),
            ("a.png cannot be loaded: it is truncated", "a.png", "--net", "a.png"),
            ("Not a directory: 'grey.png/a.png'", "a.png", "--out", "grey.png"),
        ):
            self.fails(capsys, 1, message, *arguments)
        saved_net("net", Usage(border="valid"))
        message = "grey.png: image is 5 x 6; with border 'valid' expected at least the patch, 6 x 7"
        saved_image("grey.png", (5, 6))
        self.fails(capsys, 1, message, "grey.png")

    def test_too_little_memory(self, folder, capsys, monkeypatch):
        monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
        self.fails(capsys, 1, "a.png: labelling takes 0.", "a.png")

    def test_wrong_arguments(self, folder, capsys):
        before = (folder / "a.png").read_bytes()
        os.mkdir("other")
        saved_image("other/a.png")
        self.fails(capsys, 2, "a.png and other/a.png would both be written", "a.png", "other/a.png")
        self.fails(
            capsys, 2, "a.png would be replaced; choose another --out", "a.png", "--out", "."
        )
        self.fails(capsys, 2, "invalid choice: 'middle'", "a.png", "--axes", "middle")
        self.fails(capsys, 2, "required: IMAGE")
        assert (folder / "a.png").read_bytes() == before

    def test_one_that_turns_out_to_be_damaged_leaves_the_others_whole(self, folder, capsys):
        saved_image("b.png", seed=1)
        content = (folder / "b.png").read_bytes()
        (folder / "b.png").write_bytes(content[: len(content) // 2])
        assert label("a.png", "b.png") == 1
        assert "b.png cannot be read: image file is truncated" in capsys.readouterr().err
        assert sorted(os.listdir("out")) == ["a.overlay.png", "a.png"]

    def test_alpha_is_dropped_with_a_word(self, folder, capsys):
        Image.open("a.png").convert("RGBA").save("b.png")
        assert label("a.png", "b.png") == 0
        assert capsys.readouterr().err == "python -m net label: b.png: alpha is dropped\n"
        np.testing.assert_array_equal(written("out/b.png"), written("out/a.png"))


class TestProcess:
    def test_ctrl_c(self, folder):
        np.save("large.npy", np.zeros((3, 6000, 6000), np.uint8))
        command = [
            sys.executable,
            "-m",
            "net",
            "label",
            "large.npy",
            "--net",
            "net",
            "--out",
            "out",
        ]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=interrupts.heed,
        )
        for line in process.stdout:
            if "megapixels" in line:
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        said = [line for line in error.splitlines() if not line.startswith("compiling kernels")]
        assert (out, said) == ("", [])
        assert process.returncode == 130
        assert not os.path.exists("out") or os.listdir("out") == []

    def test_whoever_reads_may_stop(self, folder):
        done = subprocess.run(
            f"{sys.executable} -m net info net | head -1",
            shell=True,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        assert done.stdout.startswith("net: a net, format")


class TestRegions:
    """``--as``: the same labels, region by region, in files for images of any size."""

    def test_are_those_of_the_class_map(self, folder, capsys):
        assert label("a.png", "--where", "a.png") == 0
        for kind in ("npy", "zarr", "tif", "ome.tif"):
            capsys.readouterr()
            limit = f"{layouts.taken_bytes() / 1e9 + 2:.1f} GB"  # other tests leave some in memory
            assert label("a.png", "--as", kind, "--memory", limit, "--where", "a.png") == 0
            said = capsys.readouterr().out.splitlines()
            assert said[-1] == f"out/a.{kind}"
            assert "41 x 53 pixels in one region; halo 2, 3, 3, 3" in said[-2]
        np.testing.assert_array_equal(np.load("out/a.npy"), written())
        for kind in ("tif", "ome.tif"):
            np.testing.assert_array_equal(tifffile.imread(f"out/a.{kind}"), written())
        assert Image.open("out/a.overview.png").size == (53, 41)

    def test_go_on(self, folder, capsys):
        assert label("a.png", "--as", "npy", "--json", "--probabilities") == 0
        assert json.loads(capsys.readouterr().out)["images"][0]["resumed_after"] == 0
        assert label("a.png", "--as", "npy", "--json", "--probabilities") == 0
        record = json.loads(capsys.readouterr().out)["images"][0]
        assert (record["resumed_after"], record["regions"]) == (1, 1)
        assert record["outputs"]["probabilities"] == "out/a.probabilities.npy"
        assert label("a.png", "--as", "npy") == 1
        assert "is of another run: probabilities" in capsys.readouterr().err

    def test_need_a_format(self, folder, capsys):
        for option in ("--memory", "--scheduler"):
            with pytest.raises(SystemExit) as ended:
                label("a.png", option, "x")
            assert ended.value.code == 2
            assert f"{option} needs --as" in capsys.readouterr().err
