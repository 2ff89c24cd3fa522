"""A training run in one file, and a net in one (docs/file-format.md).

Everything random is a function of (seed, step), so the run's random and sampler state are these two
numbers. On the ``cpu`` backend a resumed run continues bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from kernels import get_backend
from net import file_format
from net.borders import BORDERS
from net.description import (
    Kinds,
    a_choice,
    a_count,
    a_number,
    a_text,
    architecture,
    check_arrays,
    check_values,
    demanded,
    held,
    net_options,
    of_net,
    usage_of,
)
from net.file_format import LARGEST_INT, BadCheckpoint, an_object, exactly, opened, quoted
from net.graph import Net, net_of
from net.learning.optimizers import SGD, Adam, Cosine, Stepwise
from net.learning.training import FORMS, Trainer
from net.nodes import linked
from net.usage import Usage

__all__ = ["BadCheckpoint", "checked", "load", "load_net", "of_run", "save"]

OPTIMIZERS = Kinds(SGD, Adam, nested={"Rate": Kinds(Cosine, Stepwise)})

LOSSES = "run/losses"

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""How JSON, which has no such numbers, holds them."""


def save(path: str | Path, trainer: Trainer) -> None:
    """Write the whole run; a crash leaves the checkpoint that was there before.

    Raises:
        ValueError: a file cannot hold it (see ``of_run``), or the run diverged; nothing is written
            then.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> from net import zoo
    >>> trainer = Trainer(zoo.build("lenet28", backend="cpu"), SGD(0.1), seed=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder, "run.safetensors"), trainer)
    ...     load(Path(folder, "run.safetensors"), backend="cpu").seed
    3
    """
    file_format.write(path, *of_run(trainer))


def load(path: str | Path, *, backend: str = "auto", expected: Net | None = None) -> Trainer:
    """The run that ``save`` wrote, ready to go on.

    Args:
        path: the file.
        backend: name of the net's backend.
        expected: refuse a checkpoint of another architecture than this net's.

    Raises:
        BadCheckpoint: damaged, foreign, of a newer version, a net without a run, or of another
            architecture than expected.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "run.safetensors").write_bytes(b"no such thing")
    ...     load(Path(folder, "run.safetensors"), backend="cpu")
    Traceback (most recent call last):
        ...
    net.file_format.BadCheckpoint: ... cannot be loaded: it is truncated, or no safetensors file
    """
    if expected is not None and not isinstance(expected, Net):
        raise TypeError(f"expected is a {type(expected).__name__}; expected a Net or None")
    get_backend(backend)
    wanted = expected and architecture(
        expected.layers, expected.channels, expected.patch, expected.dtype
    )
    with opened(path) as contents:
        options, _, run = checked(contents.document, contents.entries)
        stored = architecture(**options)
        if expected is not None and stored != wanted:
            raise ValueError(f"it has another architecture: {_difference(stored, wanted)}")
        if run is None:
            raise ValueError("it holds a net without a run, which net.load reads")
        arrays = contents.arrays()
        slots = _checked_slots(arrays)
        net = net_of(contents.document, arrays, backend)
        trainer = Trainer(net, **run.options)
    trainer.steps, trainer.history = run.steps, run.history
    trainer.losses = arrays[LOSSES].tolist()
    to_device = net.backend.memory.to_device
    trainer.slots = {name: to_device(slots[f"slot/{name}"]) for name in trainer.slots}
    return trainer


def load_net(path: str | Path, *, backend: str = "auto") -> Net:
    """The net that ``Net.save`` wrote, or the net of a run.

    Args:
        path: the file.
        backend: name of the net's backend.

    Raises:
        BadCheckpoint: damaged, foreign, or of a newer version.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> from net import zoo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     zoo.build("lenet28", backend="cpu").save(Path(folder, "net.safetensors"))
    ...     load_net(Path(folder, "net.safetensors"), backend="cpu").patch
    (28, 28)
    """
    get_backend(backend)
    with opened(path) as contents:
        checked(contents.document, contents.entries)
        return net_of(contents.document, contents.arrays(), backend)


def of_run(trainer: Trainer) -> tuple[dict, dict[str, np.ndarray]]:
    """A run as ``net.file_format.write`` takes it: its document and its arrays.

    Raises:
        TypeError: no Trainer.
        ValueError: a file cannot hold it: a layer, an optimiser or a number that is none of this
            program's, named with its field, or parameters that are NaN or infinite.

    >>> from net import zoo
    >>> document, _ = of_run(Trainer(zoo.build("lenet28", backend="cpu"), SGD(0.1), seed=3))
    >>> document["run"]["seed"], document["run"]["optimizer"]["rate"]
    (3, 0.1)
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer is a {type(trainer).__name__}; expected a Trainer")
    net, to_host = trainer.net, trainer.net.backend.memory.to_host
    document, arrays = of_net(net)
    document["run"] = {
        "optimizer": OPTIMIZERS.described("optimizer", trainer.optimizer),
        "border": trainer.dense.border,
        "class_weights": trainer.class_weights.tolist(),
        "seed": trainer.seed,
        "form": trainer.form,
        "batch": trainer.scan.batch,
        "steps": trainer.steps,
        "history": history_described(trainer.history),
    }
    for name, array in trainer.slots.items():
        arrays[f"slot/{name}"] = held(to_host(array), net.dtype)
    arrays[LOSSES] = np.array([_real("losses", loss) for loss in trainer.losses], np.float64)
    checked(document, arrays)
    _checked_slots(arrays)
    return document, arrays


def _checked_slots(arrays) -> dict:
    """Those of the arrays that an optimiser holds."""
    slots = {name: array for name, array in arrays.items() if name.startswith("slot/")}
    for name, array in slots.items():
        check_values(f"array {quoted(name)}", name, array)
    return slots


@dataclass(frozen=True)
class SavedRun:
    """What a document says of a run: the arguments of ``Trainer``, and how far it is."""

    options: dict
    steps: int
    history: list[dict]


def checked(document: dict, arrays: dict) -> tuple[dict, Usage | None, SavedRun | None]:
    """What a document says, its arrays compared with what it demands; nothing is allocated.

    Args:
        document: its ``net``, its usage and its ``run``, if it has these.
        arrays: whatever has a dtype and a shape, by name.

    Returns:
        the arguments of ``Net``, its usage or None, and the run or None.

    Raises:
        ValueError: something is wrong, or does not belong together.

    >>> from net import zoo
    >>> document, arrays = of_run(Trainer(zoo.build("lenet28", backend="cpu"), SGD(0.1)))
    >>> options, _, run = checked(document, arrays)
    >>> options["patch"], run.steps
    ((28, 28), 0)
    """
    options = net_options(document.get("net"))
    nodes = list(linked(options["layers"], options["channels"], options["patch"]).values())
    wanted, run = demanded(nodes, options["dtype"]), None
    if "run" in document:
        run = _run(document["run"], nodes[-1].output.channels)
        wanted[LOSSES] = ("float64", (None,))
        for node, slot in product(nodes, run.options["optimizer"].slots):
            for name, shape in node.parameters.items():
                wanted[f"slot/{slot}.{name}"] = (options["dtype"], shape)
    check_arrays({n: a for n, a in arrays.items() if n.startswith(file_format.PREFIXES)}, wanted)
    if run is not None and arrays[LOSSES].shape[0] > run.steps:
        raise ValueError(f"{LOSSES} has {arrays[LOSSES].shape[0]} losses of {run.steps} steps")
    usage = usage_of(document, options["patch"], options["channels"], nodes[-1].output)
    return options, usage, run


def _run(value, classes) -> SavedRun:
    keys = {"optimizer", "border", "class_weights", "seed", "form", "batch", "steps", "history"}
    value = exactly("run", value, keys)
    weights, history = value["class_weights"], value["history"]
    if not isinstance(weights, list) or len(weights) != classes:
        raise ValueError(f"class_weights is {quoted(weights)}; expected {classes} numbers")
    if not isinstance(history, list):
        raise ValueError(f"history is {quoted(history)}; expected a list")
    options = {
        "optimizer": OPTIMIZERS.rebuilt("optimizer", value["optimizer"]),
        "border": a_choice("border", value["border"], BORDERS),
        "class_weights": [a_number("class_weights", weight) for weight in weights],
        "seed": a_count("seed", value["seed"], 0),
        "form": a_choice("form", value["form"], FORMS),
        "batch": a_count("batch", value["batch"]),
    }
    rows = [_row(f"history[{i}]", row) for i, row in enumerate(history)]
    return SavedRun(options, a_count("steps", value["steps"], 0), rows)


def _row(where, row):
    """Numbers by name, of a row in a document."""
    row = an_object(where, row)
    texts = {name for name, value in row.items() if isinstance(value, str)}
    return _numbers(where, row | {name: _NOT_FINITE.get(row[name], row[name]) for name in texts})


def history_described(history: list[dict]) -> list[dict]:
    """A trainer's history as JSON can hold it."""
    if not isinstance(history, list):
        raise ValueError(f"history is {quoted(history)}; expected a list")
    rows = [_numbers(f"history[{i}]", row) for i, row in enumerate(history)]
    return [{n: v if math.isfinite(v) else str(v) for n, v in row.items()} for row in rows]


def _numbers(where, row):
    row = an_object(where, row)
    return {a_text(where, name): _real(f"{where}.{name}", value) for name, value in row.items()}


def _real(where, value):
    """``value`` as Python's int or float; NumPy's are taken too: nothing is computed with them."""
    if isinstance(value, Integral) and type(value) is not bool and abs(int(value)) <= LARGEST_INT:
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Integral):
        return float(value)
    raise ValueError(f"{where} is {quoted(value)}; expected a number")


def _difference(stored, expected) -> str:
    for key in ("channels", "patch", "dtype"):
        if stored[key] != expected[key]:
            return f"{key} {stored[key]}, expected {expected[key]}"
    for i, (one, other) in enumerate(zip(stored["layers"], expected["layers"])):
        if one != other:
            return f"layer {i} is {one}, expected {other}"
    return f"{len(stored['layers'])} layers, expected {len(expected['layers'])}"
