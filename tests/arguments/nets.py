"""Arguments of nets, their forms and what these are made of."""

from dataclasses import fields

import numpy as np

from kernels import get_backend
from kernels.activation import activation_of
from kernels.window import Window
from net import Dense, Net, Scan, calibrate, layers, summary, zoo
from net.conversion import dense_window, steps_of
from net.description import LAYERS
from net.fragments import Fragments
from net.layers import FullyConnected
from net.planning import step_bytes
from net.program import Program
from tests.arguments.entries import (
    A_FLAG,
    A_PATH,
    A_TEXT,
    ABOVE_0,
    ANY_NUMBERS,
    NONE,
    PATCH,
    SHARE,
    SIZE,
    ZERO,
    Call,
    Entry,
    an_error,
    call_of,
    everywhere,
    image,
    method_of,
    small_net,
    some_pixels,
)

OF_FIELDS = {
    "int": 2,
    "int | Pair": 2,
    "int | Pair | None": 2,
    "Padding": 0,
    "Margins": (1, 0, 0, 1),
    "Positive": 0.1,
    "Fraction": 0.5,
    "Statistics": "frozen",
    "bool": True,
    "str | None": "c",
    "tuple[str, ...] | None": ("a", "b"),
}
"""Arguments of layers, by the annotations of their fields."""
FIELDS_TAKE = {
    "int | Pair | None": NONE,
    "Padding": ZERO,
    "Positive": ABOVE_0,
    "Fraction": SHARE,
    "bool": A_FLAG,
    "str | None": A_TEXT | NONE,
    "tuple[str, ...] | None": NONE,
}


def _layer(kind):
    given = {field.name: OF_FIELDS[field.type] for field in fields(kind)}
    takes = {field.name: FIELDS_TAKE.get(field.type, {}) for field in fields(kind)}
    return Entry(lambda: Call(kind, dict(given)), takes)


def _dense():
    return Dense(small_net(), "reflect")


def _scan():
    return Scan(small_net(), "reflect")


def _fragments():
    return Fragments(small_net(), "reflect")


def _node():
    return small_net().nodes["conv1"]


def _vectors():
    return np.ones((2, 2), np.float32)


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
        call_of(get_backend, name="reference"), called={"name": "backend"}
    ),
    "kernels.activation.activation_of": Entry(call_of(activation_of, activation="relu")),
    **{f"net.layers.{name}": _layer(getattr(layers, name)) for name in LAYERS.names},
    "net.graph.Net": Entry(call_of(Net, **OF_NET), {"seed": ZERO}),
    "net.graph.Net.arrays": Entry(method_of(small_net, "arrays")),
    "net.graph.Net.state": Entry(method_of(small_net, "state")),
    "net.graph.Net.load_state": Entry(
        method_of(small_net, "load_state", state=lambda: small_net().state())
    ),
    "net.graph.Net.save": Entry(
        method_of(small_net, "save", path="net.safetensors"), {"path": A_PATH}
    ),
    "net.graph.Net.without_softmax": Entry(method_of(small_net, "without_softmax")),
    "net.graph.Net.to": Entry(
        method_of(small_net, "to", dtype="float64", backend="reference"),
        {"dtype": NONE, "backend": NONE},
    ),
    "net.dense.Dense": Entry(call_of(Dense, net=small_net, border="valid")),
    "net.dense.Dense.output_size": Entry(method_of(_dense, "output_size", size=SIZE)),
    "net.dense.Dense.summary": Entry(
        method_of(_dense, "summary", labelled=8, mask=None, pixels=some_pixels),
        {"labelled": NONE, "mask": NONE, "pixels": NONE},
    ),
    "net.dense.Dense.check_memory": Entry(
        method_of(_dense, "check_memory", labelled=SIZE, peak_bytes=lambda: step_bytes, copied=1),
        {"copied": ZERO},
    ),
    "net.dense.Dense.enter": Entry(method_of(_dense, "enter", image=image)),
    "net.dense.Dense.forward": Entry(
        method_of(_dense, "forward", image=image, mask=None, pixels=some_pixels),
        {"image": ANY_NUMBERS, "mask": NONE, "pixels": NONE},
    ),
    "net.dense.Dense.predict": Entry(
        method_of(_dense, "predict", image=image, tile=3, mask=everywhere, pixels=None),
        {"tile": NONE, "mask": NONE, "pixels": NONE},
    ),
    "net.dense.Dense.gradients": Entry(
        method_of(
            _dense,
            "gradients",
            image=image,
            error=an_error,
            mask=everywhere,
            pixels=None,
            image_gradient=True,
            everywhere=True,
        ),
        {"mask": NONE, "pixels": NONE, "image_gradient": A_FLAG, "everywhere": A_FLAG},
    ),
    "net.scanning.Scan": Entry(call_of(Scan, net=small_net, border="valid", batch=2)),
    "net.scanning.Scan.check_memory": Entry(
        method_of(_scan, "check_memory", labelled=SIZE, pixels=3, learning=True, image=True),
        {"learning": A_FLAG, "image": A_FLAG},
    ),
    "net.scanning.Scan.forward": Entry(
        method_of(_scan, "forward", image=image, pixels=some_pixels), {"pixels": NONE}
    ),
    "net.scanning.Scan.gradients": Entry(
        method_of(
            _scan,
            "gradients",
            image=image,
            error=_vectors,
            pixels=some_pixels,
            image_gradient=True,
        ),
        {"image_gradient": A_FLAG},
        called={"pixels": "error"},
    ),
    "net.scanning.Scan.patches": Entry(
        method_of(_scan, "patches", x=lambda: image()[None], pixels=[[0, 1]])
    ),
    "net.scanning.Scan.batches": Entry(method_of(_scan, "batches", pixels=some_pixels)),
    "net.calibration.calibrate": Entry(
        call_of(calibrate, net=small_net, images=lambda: [image()], border="valid")
    ),
    "net.zoo.build": Entry(call_of(zoo.build, name="lenet28")),
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
    "net.conversion.dense_window": Entry(
        call_of(dense_window, window=Window((3, 2)), spacing=(2, 1))
    ),
    "net.conversion.steps_of": Entry(
        call_of(steps_of, net=small_net, form="dense", backward=True), {"backward": A_FLAG}
    ),
    "net.program.Program": Entry(call_of(Program, net=small_net, form="dense")),
    "net.summary.table": Entry(call_of(summary.table, net=small_net, labelled=(8, 9))),
    "net.summary.multiply_adds": Entry(
        call_of(summary.multiply_adds, net=small_net, node=_node, labelled=(8, 9))
    ),
    "net.fragments.Fragments": Entry(call_of(Fragments, net=small_net, border="valid")),
    "net.fragments.Fragments.forward": Entry(method_of(_fragments, "forward", image=image)),
    "net.fragments.Fragments.gradients": Entry(
        method_of(_fragments, "gradients", image=image, error=an_error)
    ),
    "kernels.window.Window.of": Entry(call_of(Window.of, kernel=3, stride=1, dilation=2)),
}
