"""A valid call of every public callable, and what else each argument takes, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kernels import get_backend
from kernels.activation import activation_of
from net import Dense, Net, Scan, calibrate, checkpoint, fitting, layers, sampling, zoo
from net.layers import BatchNorm, Convolution, FullyConnected
from net.optimizers import SGD, Adam, Cosine, Stepwise
from net.planning import step_bytes
from net.training import Trainer

PATCH = 3
SIZE = (4, 5)


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


def _built(layer, **given):
    """A net that consists of a layer of each of two widths, and the layer in between."""
    before = [layers.ReLU(name="a"), layers.ReLU(name="b")]
    if not layer.joins:
        before.pop()
    made = layer(**given)
    return Net([*before, made, FullyConnected(1)], channels=2, patch=4, backend="reference")


NAME = {"name": A_TEXT | NONE}
NAMED = NAME | {"inputs": NONE}
SIZES = NAMED | {"stride": NONE}
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
    "BatchNorm": ({"epsilon": 1e-5, "statistics": "frozen"}, {"epsilon": ABOVE_0}),
    "Dropout": ({"rate": 0.5}, {"rate": SHARE}),
    "Crop": ({"margins": (1, 0, 0, 1)}, {}),
    "Add": ({}, {}),
    "Concatenate": ({}, {}),
}


def _layer(name):
    cls, (arguments, takes) = getattr(layers, name), OF_LAYERS[name]
    inputs = ("a", "b") if cls.joins else ("a",)
    takes = {"name": A_TEXT | NONE} | ({} if cls.joins else {"inputs": NONE}) | takes
    given = {**arguments, "name": "c", "inputs": inputs}
    return Entry(lambda: Call(lambda **given: _built(cls, **given), dict(given)), takes)


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
    "backends.get_backend": Entry(
        _plain(get_backend, name="reference"), called={"name": "backend"}
    ),
    "activation.activation_of": Entry(_plain(activation_of, activation="relu")),
    **{f"layers.{name}": _layer(name) for name in OF_LAYERS},
    "graph.Net": Entry(_plain(Net, **OF_NET), {"seed": ZERO}),
    "graph.Net.arrays": Entry(_of(small_net, "arrays")),
    "graph.Net.state": Entry(_of(small_net, "state")),
    "graph.Net.load_state": Entry(_of(small_net, "load_state", state=lambda: small_net().state())),
    "graph.Net.save": Entry(_of(small_net, "save", path="net.safetensors"), {"path": A_PATH}),
    "graph.Net.without_softmax": Entry(_of(small_net, "without_softmax")),
    "graph.Net.to": Entry(
        _of(small_net, "to", dtype="float64", backend="reference"), {"dtype": NONE, "backend": NONE}
    ),
    "dense.Dense": Entry(_plain(Dense, net=small_net, border="valid")),
    "dense.Dense.output_size": Entry(_of(_dense, "output_size", size=SIZE)),
    "dense.Dense.summary": Entry(_of(_dense, "summary", labelled=8)),
    "dense.Dense.check_memory": Entry(
        _of(_dense, "check_memory", labelled=SIZE, peak_bytes=lambda: step_bytes, copied=1),
        {"copied": ZERO},
    ),
    "dense.Dense.enter": Entry(_of(_dense, "enter", image=image)),
    "dense.Dense.forward": Entry(
        _of(_dense, "forward", image=image, mask=_everywhere), {"mask": NONE}
    ),
    "dense.Dense.predict": Entry(
        _of(_dense, "predict", image=image, tile=3, mask=_everywhere),
        {"tile": NONE, "mask": NONE},
    ),
    "dense.Dense.gradients": Entry(
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
    "scanning.Scan": Entry(_plain(Scan, net=small_net, border="valid", batch=2)),
    "scanning.Scan.check_memory": Entry(
        _of(_scan, "check_memory", labelled=SIZE, pixels=3, learning=True, image=True),
        {"learning": A_FLAG, "image": A_FLAG},
    ),
    "scanning.Scan.forward": Entry(
        _of(_scan, "forward", image=image, pixels=_pixels), {"pixels": NONE}
    ),
    "scanning.Scan.gradients": Entry(
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
    "scanning.Scan.patches": Entry(_of(_scan, "patches", x=lambda: image()[None], pixels=[[0, 1]])),
    "scanning.Scan.batches": Entry(_of(_scan, "batches", pixels=_pixels)),
    "calibration.calibrate": Entry(
        _plain(calibrate, net=small_net, images=lambda: [image()], border="valid")
    ),
    "optimizers.Cosine": Entry(_plain(Cosine, rate=0.1, steps=3), {"rate": FROM_0}),
    "optimizers.Stepwise": Entry(
        _plain(Stepwise, rate=0.1, every=3, factor=0.5), {"rate": FROM_0, "factor": SHARE}
    ),
    "optimizers.SGD": Entry(
        _plain(SGD, rate=0.1, momentum=0.5, decay=0.1),
        {"rate": FROM_0, "momentum": SHARE, "decay": FROM_0},
    ),
    "optimizers.Adam": Entry(
        _plain(Adam, rate=0.1, beta1=0.5, beta2=0.5, epsilon=1e-8, decay=0.1),
        {"rate": FROM_0, "beta1": SHARE, "beta2": SHARE, "epsilon": ABOVE_0, "decay": FROM_0},
    ),
    "sampling.balanced_mask": Entry(
        _plain(
            sampling.balanced_mask,
            labels=labels,
            pixels=3,
            rng=lambda: np.random.default_rng(0),
        )
    ),
    "zoo.build": Entry(_plain(zoo.build, name="lenet28")),
    "zoo.featurenet": Entry(
        lambda: Call(
            lambda **given: zoo.featurenet(**given, backend="reference"), {"patch": 7, "classes": 2}
        )
    ),
    **{
        f"zoo.{name}": Entry(
            lambda name=name: Call(
                lambda **given: getattr(zoo, name)(**given, backend="reference"), {"classes": 2}
            )
        )
        for name in ZOO
    },
    "training.Trainer": Entry(
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
        f"training.Trainer.{method}": Entry(
            _of(trainer, method, image=image, labels=labels, mask=_everywhere)
        )
        for method in ("step", "gradients")
    },
    "training.Trainer.loss": Entry(
        _of(trainer, "loss", scores=_error, labels=labels, mask=_everywhere)
    ),
    "fitting.fit": Entry(
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
    "fitting.measure": Entry(_plain(fitting.measure, trainer=trainer, examples=_examples)),
    "checkpoint.save": Entry(
        _plain(checkpoint.save, path="run.safetensors", trainer=trainer), {"path": A_PATH}
    ),
    "checkpoint.of_run": Entry(_plain(checkpoint.of_run, trainer=trainer)),
}

_OF_GRAPH = "made by net.nodes alone, for net.graph to read"
_OF_TRAINER = "made by Trainer alone, of what it checked"
_OF_UPDATE = "called by Trainer alone, with the net, the slots and the gradients that it holds"
_OF_FILES = "reads a file: tests/net/test_checkpoint_refusals.py and test_mutants.py"
NOT_CALLED = {
    "backends.Backend": "made by get_backend alone",
    "backends.BackendUnavailable": "an error",
    "activation.Activation": "a record, which activation_of checks",
    "activation.check_forward": "a check, called by the operators",
    "activation.check_backward": "a check, called by the operators",
    "layers.NotConvertible": "an error",
    "layers.InstanceNorm": "always refused: tests/net/test_refusals.py",
    "layers.Layer": "the base of the layers",
    "layers.ActivationLayer": "the base of the activations",
    "layers.Map": _OF_GRAPH,
    "nodes.Node": _OF_GRAPH,
    "nodes.Node.weights_shape": _OF_GRAPH,
    "nodes.Node.parameters": _OF_GRAPH,
    "nodes.linked": "called by Net and net.checkpoint alone, with numbers that they checked",
    "dense.Dense.framed": "called with images that net.images.admitted_image has checked",
    "dense.Dense.needed": "called with masks that Dense and Trainer have checked",
    "optimizers.SGD.update": _OF_UPDATE,
    "optimizers.Adam.update": _OF_UPDATE,
    "training.Targets": _OF_TRAINER,
    "training.Targets.of": _OF_TRAINER,
    "training.Targets.loss": _OF_TRAINER,
    "training.Targets.error": _OF_TRAINER,
    "training.Trainer.counting": "called with labels that checked_labels has checked",
    "training.Trainer.check_memory": "called with images that admitted_image has checked",
    "training.checked_labels": "a check, called by Trainer and fit",
    "checkpoint.load": _OF_FILES,
    "checkpoint.load_net": _OF_FILES,
    "checkpoint.checked": _OF_FILES,
    "checkpoint.history_described": _OF_FILES,
    "checkpoint.Run": _OF_FILES,
}
