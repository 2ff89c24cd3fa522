"""A valid call of every public callable, and what else each argument takes, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernels import get_backend
from kernels.activation import activation_of
from kernels.window import Window
from net import (
    Dense,
    Net,
    Scan,
    calibrate,
    checkpoint,
    fitting,
    layers,
    old_runs,
    sampling,
    summary,
    zoo,
)
from net.conversion import dense_window, steps_of
from net.fragments import Fragments
from net.layers import BatchNorm, Convolution, FullyConnected
from net.optimizers import SGD, Adam, Cosine, Stepwise
from net.planning import step_bytes
from net.program import Program
from net.training import Trainer

PATCH = 3
SIZE = (4, 5)
OLD_RUN = Path(__file__).parent / "net" / "version-1.npz"


class Call(NamedTuple):
    """A function and its arguments, fresh for each call."""

    function: Callable
    arguments: dict


@dataclass(frozen=True)
class Entry:
    """One public callable.

    Attributes:
        fresh: makes its ``Call``.
        takes: by argument, the names of values in ``tests.test_bad_arguments.BAD`` that are right
            there, each with the reason.
        called: by argument, the name of another one that messages may call in its place.
    """

    fresh: Callable[[], Call]
    takes: dict[str, dict[str, str]] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)


def because(reason, *values):
    return dict.fromkeys(values, reason)


FROM_0 = because("a number of at least 0", "0", "1.5", "2**70")
ABOVE_0 = because("a number above 0", "1.5", "2**70")
SHARE = because("a number of at least 0 and less than 1", "0")
ZERO = because("an int of at least 0", "0")
A_TEXT = because("a printable text", "text")
NONE = because("the same as leaving it out", "None")
A_FLAG = because("True or False", "True")
A_PATH = because("a path; nothing is there, or it is written", "text")


def small_net():
    return Net(
        [Convolution(2, 2), BatchNorm(), FullyConnected(2)],
        channels=1,
        patch=PATCH,
        backend="reference",
    )


def image(size=SIZE):
    return np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(1, *size)


def labels():
    return np.indices(SIZE).sum(axis=0) % 2


def trainer(form="dense"):
    return Trainer(small_net(), SGD(0.1), form=form)


NAMED = {"name": A_TEXT | NONE, "inputs": NONE}
OF_LAYERS = {
    "Convolution": (
        {"filters": 2, "kernel": 2, "stride": 1, "dilation": 1, "padding": 0, "bias": True},
        {"padding": ZERO, "bias": A_FLAG},
    ),
    "FullyConnected": ({"features": 2, "bias": True}, {"bias": A_FLAG}),
    **dict.fromkeys(
        ("MaxPool", "AveragePool"),
        (
            {"kernel": 2, "stride": 1, "dilation": 1, "padding": 0, "ceil_mode": False},
            {"stride": NONE, "padding": ZERO, "ceil_mode": A_FLAG},
        ),
    ),
    **dict.fromkeys(("AdaptiveMaxPool", "AdaptiveAveragePool"), ({"bins": 2}, {})),
    "ReLU": ({}, {}),
    "Tanh": ({}, {}),
    "Sigmoid": ({}, {}),
    "Softmax": ({}, {}),
    "LeakyReLU": ({"slope": 0.1}, {"slope": ABOVE_0}),
    "ELU": ({"alpha": 0.1}, {"alpha": ABOVE_0}),
    "InstanceNorm": ({}, {}),
    "BatchNorm": ({"epsilon": 1e-5, "statistics": "frozen"}, {"epsilon": ABOVE_0}),
    "Dropout": ({"rate": 0.5}, {"rate": SHARE}),
    "Crop": ({"margins": (1, 0, 0, 1)}, {}),
    "Add": ({}, {}),
    "Concatenate": ({}, {}),
}


def _layer(name):
    arguments, takes = OF_LAYERS[name]
    given = {**arguments, "name": "c", "inputs": ("a", "b")}
    return Entry(lambda: Call(getattr(layers, name), dict(given)), NAMED | takes)


def _of(make, method, **arguments):
    """A method of what ``make`` makes; arguments that are functions are called first."""

    def fresh():
        return Call(getattr(make(), method), {n: _called(a) for n, a in arguments.items()})

    return fresh


def _plain(function, **arguments):
    return lambda: Call(function, {n: _called(a) for n, a in arguments.items()})


def _called(argument):
    return argument() if callable(argument) else argument


def _dense():
    return Dense(small_net(), "reflect")


def _scan():
    return Scan(small_net(), "reflect")


def _convert():
    Path("new").unlink(missing_ok=True)
    return Call(old_runs.convert, {"old": OLD_RUN, "new": "new"})


def _reading(load, **more):
    """A call of a function that reads the file of a run."""

    def fresh():
        checkpoint.save("run.safetensors", trainer())
        given = {"path": "run.safetensors", "backend": "reference"}
        return Call(load, given | {name: make() for name, make in more.items()})

    return fresh


def _fragments():
    return Fragments(small_net(), "reflect")


def _node():
    return small_net().nodes["conv1"]


def _everywhere():
    return np.ones(SIZE, bool)


def _error():
    return np.ones((2, *SIZE), np.float32)


def _vectors():
    return np.ones((2, 2), np.float32)


def _pixels():
    return np.array([[0, 0], [3, 4]])


def _examples():
    return [image()], [labels()]


OF_NET = {
    "layers": lambda: [FullyConnected(2)],
    "channels": 1,
    "patch": PATCH,
    "dtype": "float32",
    "seed": 0,
    "initializer": "he",
    "backend": "reference",
}
ZOO = ("lenet28", "n4", "plain133", "rcnn25", "strided67", "authors133", "greentea102")

CALLS = {
    "kernels.backends.get_backend": Entry(
        _plain(get_backend, name="reference"), called={"name": "backend"}
    ),
    "kernels.activation.activation_of": Entry(_plain(activation_of, activation="relu")),
    **{f"net.layers.{name}": _layer(name) for name in OF_LAYERS},
    "net.graph.Net": Entry(_plain(Net, **OF_NET), {"seed": ZERO}),
    "net.graph.Net.arrays": Entry(_of(small_net, "arrays")),
    "net.graph.Net.state": Entry(_of(small_net, "state")),
    "net.graph.Net.load_state": Entry(
        _of(small_net, "load_state", state=lambda: small_net().state())
    ),
    "net.graph.Net.save": Entry(_of(small_net, "save", path="net.safetensors"), {"path": A_PATH}),
    "net.graph.Net.without_softmax": Entry(_of(small_net, "without_softmax")),
    "net.graph.Net.to": Entry(
        _of(small_net, "to", dtype="float64", backend="reference"), {"dtype": NONE, "backend": NONE}
    ),
    "net.dense.Dense": Entry(_plain(Dense, net=small_net, border="valid")),
    "net.dense.Dense.output_size": Entry(_of(_dense, "output_size", size=SIZE)),
    "net.dense.Dense.summary": Entry(_of(_dense, "summary", labelled=8)),
    "net.dense.Dense.check_memory": Entry(
        _of(_dense, "check_memory", labelled=SIZE, peak_bytes=lambda: step_bytes, copied=1),
        {"copied": ZERO},
    ),
    "net.dense.Dense.enter": Entry(_of(_dense, "enter", image=image)),
    "net.dense.Dense.forward": Entry(
        _of(_dense, "forward", image=image, mask=_everywhere), {"mask": NONE}
    ),
    "net.dense.Dense.predict": Entry(
        _of(_dense, "predict", image=image, tile=3, mask=_everywhere),
        {"tile": NONE, "mask": NONE},
    ),
    "net.dense.Dense.gradients": Entry(
        _of(
            _dense,
            "gradients",
            image=image,
            error=_error,
            mask=_everywhere,
            image_gradient=True,
            everywhere=True,
        ),
        {"mask": NONE, "image_gradient": A_FLAG, "everywhere": A_FLAG},
    ),
    "net.scanning.Scan": Entry(_plain(Scan, net=small_net, border="valid", batch=2)),
    "net.scanning.Scan.check_memory": Entry(
        _of(_scan, "check_memory", labelled=SIZE, pixels=3, learning=True, image=True),
        {"learning": A_FLAG, "image": A_FLAG},
    ),
    "net.scanning.Scan.forward": Entry(
        _of(_scan, "forward", image=image, pixels=_pixels), {"pixels": NONE}
    ),
    "net.scanning.Scan.gradients": Entry(
        _of(
            _scan,
            "gradients",
            image=image,
            error=_vectors,
            pixels=_pixels,
            image_gradient=True,
        ),
        {"image_gradient": A_FLAG},
        called={"pixels": "error"},
    ),
    "net.scanning.Scan.patches": Entry(
        _of(_scan, "patches", x=lambda: image()[None], pixels=[[0, 1]])
    ),
    "net.scanning.Scan.batches": Entry(_of(_scan, "batches", pixels=_pixels)),
    "net.calibration.calibrate": Entry(
        _plain(calibrate, net=small_net, images=lambda: [image()], border="valid")
    ),
    "net.optimizers.Cosine": Entry(_plain(Cosine, rate=0.1, steps=3), {"rate": FROM_0}),
    "net.optimizers.Stepwise": Entry(
        _plain(Stepwise, rate=0.1, every=3, factor=0.5), {"rate": FROM_0, "factor": SHARE}
    ),
    "net.optimizers.SGD": Entry(
        _plain(SGD, rate=0.1, momentum=0.5, decay=0.1),
        {"rate": FROM_0, "momentum": SHARE, "decay": FROM_0},
    ),
    "net.optimizers.Adam": Entry(
        _plain(Adam, rate=0.1, beta1=0.5, beta2=0.5, epsilon=1e-8, decay=0.1),
        {"rate": FROM_0, "beta1": SHARE, "beta2": SHARE, "epsilon": ABOVE_0, "decay": FROM_0},
    ),
    "net.sampling.balanced_mask": Entry(
        _plain(
            sampling.balanced_mask,
            labels=labels,
            pixels=3,
            rng=lambda: np.random.default_rng(0),
        )
    ),
    "net.zoo.build": Entry(_plain(zoo.build, name="lenet28")),
    "net.zoo.featurenet": Entry(
        lambda: Call(
            lambda **given: zoo.featurenet(**given, backend="reference"), {"patch": 7, "classes": 2}
        )
    ),
    **{
        f"net.zoo.{name}": Entry(
            lambda name=name: Call(
                lambda **given: getattr(zoo, name)(**given, backend="reference"), {"classes": 2}
            )
        )
        for name in ZOO
    },
    "net.training.Trainer": Entry(
        _plain(
            Trainer,
            net=small_net,
            optimizer=lambda: SGD(0.1),
            border="valid",
            class_weights=(1.0, 2.0),
            seed=0,
            form="dense",
            batch=2,
        ),
        {"class_weights": NONE, "seed": ZERO},
    ),
    **{
        f"net.training.Trainer.{method}": Entry(
            _of(trainer, method, image=image, labels=labels, mask=_everywhere)
        )
        for method in ("step", "gradients")
    },
    "net.training.Trainer.loss": Entry(
        _of(trainer, "loss", scores=_error, labels=labels, mask=_everywhere)
    ),
    "net.fitting.fit": Entry(
        _plain(
            fitting.fit,
            trainer=trainer,
            examples=_examples,
            epochs=1,
            pixels=3,
            validation=_examples,
            log="log.csv",
            checkpoint="run.safetensors",
            save_every=1,
            progress=False,
        ),
        {
            "validation": NONE,
            "log": NONE | A_PATH,
            "checkpoint": NONE | A_PATH,
            "save_every": NONE,
            "progress": A_FLAG,
        },
    ),
    "net.fitting.measure": Entry(_plain(fitting.measure, trainer=trainer, examples=_examples)),
    "net.checkpoint.save": Entry(
        _plain(checkpoint.save, path="run.safetensors", trainer=trainer), {"path": A_PATH}
    ),
    "net.conversion.dense_window": Entry(
        _plain(dense_window, window=Window((3, 2)), spacing=(2, 1))
    ),
    "net.conversion.steps_of": Entry(
        _plain(steps_of, net=small_net, form="dense", backward=True), {"backward": A_FLAG}
    ),
    "net.program.Program": Entry(_plain(Program, net=small_net, form="dense")),
    "net.summary.table": Entry(_plain(summary.table, net=small_net, labelled=(8, 9))),
    "net.summary.multiply_adds": Entry(
        _plain(summary.multiply_adds, net=small_net, node=_node, labelled=(8, 9))
    ),
    "net.fragments.Fragments": Entry(_plain(Fragments, net=small_net, border="valid")),
    "net.fragments.Fragments.forward": Entry(_of(_fragments, "forward", image=image)),
    "net.fragments.Fragments.gradients": Entry(
        _of(_fragments, "gradients", image=image, error=_error)
    ),
    "net.old_runs.convert": Entry(_convert, {"new": A_PATH}),
    "kernels.window.Window.of": Entry(_plain(Window.of, kernel=3, stride=1, dilation=2)),
    "net.checkpoint.load": Entry(_reading(checkpoint.load, expected=small_net), {"expected": NONE}),
    "net.checkpoint.load_net": Entry(_reading(checkpoint.load_net)),
    "net.checkpoint.of_run": Entry(_plain(checkpoint.of_run, trainer=trainer)),
}
