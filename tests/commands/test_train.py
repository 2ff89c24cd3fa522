"""``python -m net train``."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from net import Dense, load
from net.__main__ import main
from net.images import net_input
from net.learning.starting_nets import net_of

TOML = """
[net]
patch = 5
layers = [
    {kind = "Convolution", filters = 6, kernel = 4}, {kind = "BatchNorm"}, {kind = "ReLU"},
    {kind = "FullyConnected", features = 2},
]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images of colour, of which the bright pixels are class 2, and a net in TOML."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for i in range(3):
        image = rng.integers(0, 256, (16, 13 + i, 3), np.uint8)
        grey = image.mean(axis=2)
        labels = np.where(grey > 140, 2, np.where(grey < 110, 1, 0)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{i}.tif")
    (tmp_path / "net.toml").write_text(TOML)
    return tmp_path


def command(*more, net="net.toml"):
    return main(
        [
            *("train", "--images", "images", "--labels", "labels", "--net", net, "--out", "out"),
            *("--backend", "reference", "--rate", "0.03", *more),
        ]
    )


def test_it_trains_and_the_net_labels(folder, capsys):
    assert command("--steps", "60", "--class-names", "dark,bright", "--validation", "0.4") == 0
    shown = capsys.readouterr()
    assert "out/net.safetensors: epoch " in shown.out
    assert "bright" in shown.out
    net = load("out/net.safetensors", backend="reference")
    assert net.usage.class_names == ("dark", "bright")
    right = total = 0
    for i in range(3):
        image, labels = (
            np.array(Image.open(folder / kind / f"{i}.{suffix}"))
            for kind, suffix in (("images", "png"), ("labels", "tif"))
        )
        classes = Dense(net, "reflect").predict(net_input(net, image))[0]
        right += (classes + 1 == labels)[labels > 0].sum()
        total += (labels > 0).sum()
    assert right / total > 0.85
    files = {path.name for path in (folder / "out").iterdir()}
    assert files == {"net.safetensors", "run.safetensors", "log.csv", "curves.png"}


def test_scripts_and_the_same_command_again(folder, capsys):
    shown = []
    for _ in range(2):
        assert command("--steps", "6", "--json", "--validation", "0") == 0
        shown.append(capsys.readouterr())
    assert shown[0].out == shown[1].out
    assert json.loads(shown[0].out)["steps"] == 6
    assert "goes on at" not in shown[0].err
    assert "out/run.safetensors goes on at step 6" in shown[1].err
    assert command("--steps", "9", "--validation", "0") == 1
    assert "holds a run of optimizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "labels" / "1.tif").unlink(),
            "images and labels do not match: images/1.png has no label image",
        ),
        (
            lambda folder: Image.fromarray(np.ones((16, 13), np.uint8)).save(
                folder / "labels" / "1.tif"
            ),
            "labels/1.tif cannot be read: it is 16x13; expected 16x14, as its image",
        ),
        (
            lambda folder: Image.fromarray(np.full((16, 14), 7, np.uint8)).save(
                folder / "labels" / "1.tif"
            ),
            "labels/1.tif holds 7, and no label image holds 3; expected classes numbered from 1",
        ),
        (
            lambda folder: Image.fromarray(np.zeros((16, 14), np.uint8)).save(
                folder / "labels" / "1.tif"
            ),
            "labels/1.tif cannot be read: it holds no labelled pixel",
        ),
        (
            lambda folder: (folder / "net.toml").write_text("[net"),
            "net.toml describes no net: ",
        ),
        (
            lambda folder: (folder / "net.toml").write_text(TOML.replace("ReLU", "Relu")),
            "net.toml describes no net: net.layers[2].kind is 'Relu'",
        ),
        (
            lambda folder: (folder / "net.toml").write_text("fun = 3\n" + TOML),
            "net.toml describes no net: it holds ['fun']; expected net,",
        ),
        (
            lambda folder: (folder / "net.toml").unlink(),
            "source is 'net.toml'; expected a file, or one of scales, lenet28",
        ),
    ],
)
def test_refused_in_one_line_and_nothing_is_written(folder, capsys, spoil, message):
    spoil(folder)
    assert command() == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class-weights", "a,b"], "--class-weights: invalid numbers value: 'a,b'"),
        (["--steps", "0"], "--steps is 0; expected an int of at least 1"),
        (["--seed", "-1"], "--seed is -1; expected"),
        (["--validation", "nan"], "--validation is nan; expected"),
        (["--patience", "2", "--validation", "0"], "--patience needs a --validation"),
        (["--noise", "-1"], "noise is -1.0; expected"),
    ],
)
def test_wrong_arguments_exit_with_2(folder, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_nan_is_refused_by_the_name_of_its_file(folder, capsys):
    image = np.full((16, 14, 3), 7, np.float32)
    image[3, 4, 1] = np.nan
    (folder / "images" / "1.png").unlink()
    np.save(folder / "images" / "1.npy", image)
    assert command() == 1
    shown = capsys.readouterr().err.splitlines()
    assert "images/1.npy cannot be read: it holds NaN or infinities" in shown[-1]


def test_masks_of_0_and_255_and_arguments_before_the_file(folder, capsys):
    for i in range(3):
        path = folder / "labels" / f"{i}.tif"
        mask = (np.array(Image.open(path)) == 2).astype(np.uint8) * 255
        Image.fromarray(mask).save(path)
    assert command() == 1
    assert "labels holds 255 beside 0 (unlabelled); expected two classes" in capsys.readouterr().err
    rule = 'border = "zero"\nlabel_rule = {unlabelled = 7, values = [0, 255]}\n'
    (folder / "net.toml").write_text(rule + TOML)
    assert command("--steps", "2", "--border", "reflect", "--unlabelled", "9") == 0
    usage = load("out/net.safetensors", backend="reference").usage
    assert (usage.border, usage.label_rule.unlabelled) == ("reflect", 9)
    assert usage.label_rule.values == (0, 255)


def test_the_description_on_the_page(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    (tmp_path / "net.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    net = net_of(tmp_path / "net.toml", 2, 1, backend="reference")
    assert net.usage.class_names == ("background", "membrane")
    assert len(net.layers) == 5


def test_a_name_of_the_zoo_and_a_net_of_other_channels():
    net = net_of("lenet28", 3, 1, backend="reference")
    assert (net.output.channels, net.patch) == (3, (28, 28))
    with pytest.raises(ValueError, match="source 'n4' has 1 channels; the images have 3"):
        net_of("n4", 2, 3, backend="reference")
