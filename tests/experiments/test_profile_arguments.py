"""The command line of the profiler, and the cases that its options stand for."""

import argparse
import json

import pytest

from experiments import __main__ as command_line
from experiments import profile
from experiments.profiling import asked, calls
from experiments.profiling.operators import OperatorCase
from kernels.activation import ACTIVATIONS
from kernels.device import api
from tests.activations import each_activation

NAMED = [f"{name} {one or ''}".strip() for name, one in ACTIVATIONS.items()]
POOLING = *("--operator", "max_pooling.forward"), *("--shape", "1", "1", "4", "4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected either nets of the zoo, or --operator, or --targets"),
        (("n4", "--operator", "softmax.forward"), "expected either nets of the zoo, or --operator"),
        (("n4", "--targets"), "expected either nets of the zoo, or --operator, or --targets"),
        (("alexnet",), "net is alexnet; expected some of lenet28"),
        (("--operator", "convolution.sideways"), "--operator is convolution.sideways; expected"),
        (("--operator", "softmax.forward"), "--operator needs --shape N C H W"),
        (
            (*POOLING, "--kernel", "5", "5"),
            "input size is 4 x 4; expected at least the footprint 5 x 5",
        ),
        *(
            (
                (*POOLING, "--activation", *words),
                f"--activation is {' '.join(words)}; expected one of {', '.join(NAMED)}"
                ", where a parameter is a number above 0",
            )
            for words in (
                *(("gelu",), ("elu",), ("elu", "0"), ("elu", "one"), ("relu", "1")),
                ("elu", "1", "2"),
            )
        ),
        (("n4", "--arch", "sm_80,sm_1"), "--arch is sm_1; expected some of sm_35, sm_50"),
        (("n4", "--devices", "K20"), "--devices names K20; expected some of K40, V100"),
        (("n4", "--sources", "timed"), "backend 'cuda' cannot run here"),
        (
            ("n4", "--form", "patch", "--sources", "host"),
            "--sources names host; expected nets in their dense form",
        ),
        ((*POOLING, "--sources", "host"), "--sources names host; expected nets in their dense"),
        (("n4", "--sources", "traced", "--out", "/proc/here"), "--out is /proc/here"),
    ],
)
def test_bad_input_is_refused_before_any_work(arguments, message, capsys):
    if "timed" in arguments and api.why_unavailable() is None:
        pytest.skip("there is a device")
    assert command_line.main(["profile", *arguments]) == 2
    assert message in capsys.readouterr().err


@each_activation
def test_an_activation_is_told_by_arguments_and_by_json(activation):
    case = OperatorCase("convolution.forward", (1, 8, 20, 150), 48, activation=activation)
    assert OperatorCase.of_json(json.loads(json.dumps(case.to_json()))) == case
    options = argparse.ArgumentParser()
    profile.add_arguments(options)
    ((_, (call,)),) = asked.jobs(options.parse_args(case.to_arguments().split()))
    assert call.given["activation"] == activation


def test_nsight_commands_name_exactly_one_launch(capsys):
    case = "--operator convolution.forward --shape 1 3 9 9 --filters 5 --kernel 2 3"
    assert command_line.main(["profile", *case.split(), "--ncu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    launched = calls.of_case(OperatorCase("convolution.forward", (1, 3, 9, 9), 5, (2, 3))).launches
    names = [launch.function.__name__ for launch in launched]
    assert len(lines) == len(set(names)) == len(names)
    for line, name in zip(lines, names):
        assert line == (
            f"ncu --set full --kernel-name regex:{name} --launch-skip 3 --launch-count 1 "
            f".venv/bin/python -m experiments profile {case} --sources timed"
        )
