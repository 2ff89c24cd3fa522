"""A valid call of every operator, and what else each argument takes, with the reason."""

import numpy as np

from kernels import get_backend
from tests.arguments.entries import A_FLAG, FROM_0, SHARE, Call, Entry, because

MAP = (2, 3, 4, 5)
VECTORS = {"mean": (3,), "variance": (3,), "gamma": (3,), "beta": (3,)}
WINDOW = {"kernel": 2, "stride": 1, "dilation": 1}
WEIGHTS = {"weights": (4, 3, 2, 2), "bias": (4,)}
LABELS = {"labels": np.zeros((2, 4, 5), np.int32), "mask": np.ones((2, 4, 5), bool)}
TARGETS = LABELS | {"class_weights": (3,), "total": (1,)}
PLACES = {"rows": np.zeros(2, np.int32), "columns": np.zeros(2, np.int32)}
FOLDED = {"mean": (4,), "variance": (4,), "gamma": (4,), "beta": (4,), "epsilon": 1e-5}
RATES = {"rate": 0.1, "momentum": 0.5, "decay": 0.1}
MOMENTS = {"rate": 0.1, "beta1": 0.5, "beta2": 0.5, "epsilon": 1e-8, "decay": 0.1, "count": 1}
NO_BIAS = {"bias": because("no bias", "None")}
NO_OUT = {"out": because("a new array", "None")}
NO_ACTIVATION = {"activation": because("none", "None")}
EPSILON = {"epsilon": FROM_0}

CELLS = (6, 3, 1, 1)
ROWS = {"rows": np.zeros((4, 2), np.int32)}

OPERATORS = {
    "activation.forward": ({"x": MAP, "activation": "relu", "out": MAP}, NO_OUT),
    "activation.backward": ({"error": MAP, "y": MAP, "activation": "relu", "out": MAP}, NO_OUT),
    "adam.step": (
        dict.fromkeys(("parameter", "gradient", "mean", "square"), MAP) | MOMENTS,
        {
            **dict.fromkeys(("rate", "epsilon", "decay"), FROM_0),
            **dict.fromkeys(("beta1", "beta2"), SHARE),
        },
    ),
    "sgd.step": (
        dict.fromkeys(("parameter", "gradient", "velocity"), MAP) | RATES,
        dict.fromkeys(RATES, FROM_0),
    ),
    "average_pooling.forward": ({"x": MAP, **WINDOW}, {}),
    "average_pooling.backward": ({"error": (2, 3, 3, 4), "size": (4, 5), **WINDOW}, {}),
    "max_pooling.forward": (
        {"x": MAP, **WINDOW, "activation": "relu", "argmax": False},
        {**NO_ACTIVATION, "argmax": A_FLAG},
    ),
    "max_pooling.backward": (
        {
            "error": (2, 3, 3, 4),
            "argmax": np.zeros((2, 3, 3, 4), np.uint8),
            "size": (4, 5),
            **WINDOW,
        },
        {},
    ),
    "batch_normalization.forward": (
        {"x": MAP, **VECTORS, "epsilon": 1e-5, "activation": "relu"},
        EPSILON | NO_ACTIVATION,
    ),
    "batch_normalization.backward": (
        {
            **{"error": MAP, "x": MAP, "mean": (3,), "variance": (3,), "gamma": (3,)},
            **{"epsilon": 1e-5, "activation": "relu", "y": MAP, "out": MAP},
        },
        EPSILON | NO_ACTIVATION | NO_OUT,
    ),
    "batch_normalization.fold": (WEIGHTS | FOLDED, EPSILON | NO_BIAS),
    "convolution.forward": (
        {"x": MAP, **WEIGHTS, "stride": 1, "dilation": 1, "activation": "relu"},
        NO_BIAS | NO_ACTIVATION,
    ),
    "convolution.gradient_input": (
        {
            **{"error": (2, 4, 3, 4), "weights": (4, 3, 2, 2), "size": (4, 5)},
            **{"stride": 1, "dilation": 1},
        },
        {},
    ),
    "convolution.gradient_weights": ({"x": MAP, "error": (2, 4, 3, 4), **WINDOW}, {}),
    "convolution.gradient_bias": ({"error": MAP}, {}),
    "cross_entropy.total_weight": (LABELS | {"class_weights": (3,)}, {}),
    "cross_entropy.forward": ({"scores": MAP, **TARGETS}, {}),
    "cross_entropy.backward": ({"scores": MAP, **TARGETS}, {}),
    "dropout.apply": (
        {"x": MAP, **PLACES, "spacing": (1, 1), "rate": 0.5, "key": (1, 2, 3)},
        {"rate": SHARE, "key": because("(seed, step, layer)", "(1, 2, 3)")},
    ),
    "listed_average_pooling.forward": (
        {"x": CELLS, **ROWS, "kernel": 2, "columns": 2},
        {"columns": because("those of the kernel", "None")},
    ),
    "listed_average_pooling.backward": (
        {"error": (4, 3, 1, 1), **ROWS, "kernel": 2, "cells": 6},
        {},
    ),
    "listed_cells.table": ({**ROWS, "cells": 6}, {}),
    "listed_cells.select": ({"x": CELLS, "cells": np.arange(4, dtype=np.int32)}, {}),
    "listed_cells.select_backward": (
        {"error": (4, 3, 1, 1), "cells": np.arange(4, dtype=np.int32), "count": 6},
        {},
    ),
    "listed_cells.gather": ({"image": (1, 3, 4, 5), **PLACES}, {}),
    "listed_cells.gather_backward": ({"error": (2, 3, 1, 1), **PLACES, "size": (4, 5)}, {}),
    "listed_convolution.forward": (
        {"x": CELLS, **ROWS, "weights": (4, 3, 2, 2), "bias": (4,), "activation": "relu"},
        NO_BIAS | NO_ACTIVATION,
    ),
    "listed_convolution.gradient_input": (
        {"error": (4, 4, 1, 1), **ROWS, "weights": (4, 3, 2, 2), "cells": 6},
        {},
    ),
    "listed_convolution.gradient_weights": (
        {"x": CELLS, **ROWS, "error": (4, 4, 1, 1), "kernel": 2},
        {},
    ),
    "listed_max_pooling.forward": (
        {"x": CELLS, **ROWS, "kernel": 2, "activation": "relu", "argmax": False},
        {**NO_ACTIVATION, "argmax": A_FLAG},
    ),
    "listed_max_pooling.backward": (
        {
            **{"error": (4, 3, 1, 1), "argmax": np.zeros((4, 3, 1, 1), np.uint8)},
            **{**ROWS, "kernel": 2, "cells": 6},
        },
        {},
    ),
    "masking.apply": ({"error": MAP, "mask": LABELS["mask"]}, {}),
    "merging.add": ({"maps": [MAP, MAP]}, {}),
    "merging.concatenate": ({"maps": [MAP, MAP]}, {}),
    "merging.concatenate_backward": ({"error": MAP, "channels": (1, 2)}, {}),
    "padding.pad": ({"x": MAP, "margins": (1, 0, 2, 0), "mode": "zero"}, {}),
    "padding.pad_backward": ({"error": MAP, "margins": (1, 0, 2, 0), "mode": "zero"}, {}),
    "padding.crop": ({"x": MAP, "margins": (1, 0, 2, 0)}, {}),
    "padding.crop_backward": ({"error": MAP, "margins": (1, 0, 2, 0)}, {}),
    "patches.extract": ({"image": (1, 3, 4, 5), **PLACES, "size": (2, 2)}, {}),
    "patches.extract_backward": ({"error": (2, 3, 2, 2), **PLACES, "image_size": (4, 5)}, {}),
    "softmax.forward": ({"x": MAP}, {}),
    "softmax.backward": ({"error": MAP, "y": MAP}, {}),
}
_OF_MEMORY = "no operator: allocates and copies what was checked"
NOT_OPERATORS = {
    f"memory.{name}": _OF_MEMORY
    for name in (
        *(
            "empty",
            "zeros",
            "to_device",
            "to_host",
            "all_to_host",
            "synchronize",
            "on_stream",
            "release",
        ),
        "free_bytes",
    )
}


def of_operator(name: str, backend: str) -> Entry:
    """An operator on a backend, with arrays of ones of the shapes above."""
    folder, function = name.split(".")
    call = getattr(getattr(get_backend(backend), folder), function)
    arguments, takes = OPERATORS[name]
    return Entry(
        lambda: Call(call, {n: _array(n, a) for n, a in arguments.items()}),
        takes,
        called={"parameter": "gradient"},
    )


def _array(name, value):
    if isinstance(value, list):
        return [_array(name, one) for one in value]
    if isinstance(value, np.ndarray):
        return value.copy()
    shapes = isinstance(value, tuple) and name not in (
        *("spacing", "key", "channels", "margins", "size", "image_size"),
    )
    return np.ones(value, np.float32) if shapes else value
