"""``python -m net info``."""

import json

import pytest

from net.__main__ import main
from net.learning import checkpoint
from tests.commands.files import saved_net
from tests.net.crafted import small_run


def test_says_what_a_net_is(tmp_path, capsys):
    saved_net(tmp_path / "net")
    assert main(["info", str(tmp_path / "net")]) == 0
    printed = capsys.readouterr().out
    for line in (
        "patch 3 x 6x7, float32, 151 parameters, 3 classes",
        "receptive field 6x7; halo 2 top, 3 left, 3 bottom, 3 right",
        "fc1    max1   2x3 / 1x1        3 x 1x1  2x2  6x7",
        "normalisation: (value - mean) / deviation, mean 100, 110, 120, deviation 50, 51, 52.5",
        "border: reflect; 0 in label images is unlabelled",
        "2      3      rest",
        "  epochs: 3",
    ):
        assert f"{line}\n" in printed


def test_says_it_to_scripts(tmp_path, capsys):
    net = saved_net(tmp_path / "net")
    assert main(["info", "--json", str(tmp_path / "net")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["receptive_field"] == {"size": [6, 7], "halo": [2, 3, 3, 3]}
    assert facts["usage"] == json.loads(json.dumps(net.usage.described()))
    assert facts["parameters"] == sum(array.size for array in net.parameters.values())
    assert (facts["classes"], facts["run"]) == (3, None)


def test_runs_and_nets_without_usage(tmp_path, capsys):
    checkpoint.save(tmp_path / "run", small_run())
    assert main(["info", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "usage: none is given" in printed
    assert "run: 7 steps, Adam, epoch 2, loss nan\n" in printed
    assert main(["info", "--json", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["steps"] == 7


@pytest.mark.parametrize("damaged", [True, False])
def test_fails_with_one_line(tmp_path, capsys, damaged):
    path = tmp_path / "net"
    if damaged:
        saved_net(path)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert main(["info", str(path)]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("python -m net info: ")
    assert str(path) in printed.err
