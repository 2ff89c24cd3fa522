"""A training run in one file: ``.npz`` without pickle, a JSON header and the arrays.

Everything random is a function of (seed, step), so the run's random and sampler state are these two
numbers. On the ``cpu`` backend a resumed run continues bit for bit.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from net import layers, optimizers
from net.files import write_atomically
from net.graph import Net
from net.training import Trainer

FORMAT = "regularly-sparse training run"
VERSION = 1


class BadCheckpoint(ValueError):
    """A file that is no checkpoint of this program, or not a whole one; the message says why."""


def save(path: Path, trainer: Trainer) -> None:
    """Write the whole run; a crash leaves the checkpoint that was there before.

    Raises:
        OSError: the file cannot be written.

    >>> import tempfile
    >>> from net import zoo
    >>> from net.optimizers import SGD
    >>> trainer = Trainer(zoo.build("lenet28", backend="cpu"), SGD(0.1), seed=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder, "run.npz"), trainer)
    ...     load(Path(folder, "run.npz"), backend="cpu").seed
    3
    """
    to_host = trainer.net.backend.memory.to_host
    header = {"format": FORMAT, "version": VERSION, "net": describe(trainer.net)}
    header["trainer"] = {
        "optimizer": _described(trainer.optimizer),
        "border": trainer.dense.border,
        "class_weights": trainer.class_weights.tolist(),
        "seed": trainer.seed,
        "form": trainer.form,
        "batch": trainer.scan.batch,
    }
    header |= {name: getattr(trainer, name) for name in ("steps", "losses", "history")}
    arrays = {f"net/{name}": array for name, array in trainer.net.state().items()}
    arrays |= {f"slot/{name}": to_host(array) for name, array in trainer.slots.items()}
    content = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(content, header=text, **arrays)
    write_atomically(Path(path), content.getvalue())


def load(path: Path, *, backend: str = "auto", expected: Net | None = None) -> Trainer:
    """The run that ``save`` wrote, ready to go on.

    Args:
        path: the file.
        backend: where the net is to run.
        expected: refuse a checkpoint of another architecture than this net's.

    Raises:
        BadCheckpoint: truncated, foreign, of a newer version, or of another architecture.
        OSError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "run.npz").write_bytes(b"no such thing")
    ...     load(Path(folder, "run.npz"), backend="cpu")
    Traceback (most recent call last):
        ...
    net.checkpoint.BadCheckpoint: ... is truncated or no checkpoint of this program ...
    """
    header, arrays = _read(Path(path))
    if expected is not None and header["net"] != describe(expected):
        raise BadCheckpoint(
            f"{path} holds another architecture: {_difference(header['net'], describe(expected))}"
        )
    net = _net(header["net"], backend)
    options = header["trainer"] | {"optimizer": _rebuilt(header["trainer"]["optimizer"])}
    trainer = Trainer(net, **options)
    for name in ("steps", "losses", "history"):
        setattr(trainer, name, header[name])
    to_device = net.backend.memory.to_device
    try:
        net.load_state(_under("net/", arrays))
        slots = _under("slot/", arrays)
        trainer.slots = {name: to_device(slots[name].copy()) for name in trainer.slots}
    except (ValueError, KeyError) as error:
        raise BadCheckpoint(f"{path} lacks arrays of its own header: {error}") from None
    return trainer


def describe(net: Net) -> dict:
    """A net's architecture as JSON can hold it."""
    return {
        "layers": [_described(layer) for layer in net.layers],
        "channels": net.channels,
        "patch": list(net.patch),
        "dtype": net.dtype,
    }


def _net(description, backend) -> Net:
    return Net(
        [_rebuilt(layer) for layer in description["layers"]],
        channels=description["channels"],
        patch=tuple(description["patch"]),
        dtype=description["dtype"],
        backend=backend,
    )


def _described(value):
    """A dataclass of layers or optimizers as a dict with its ``kind``; anything else as it is."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: _described(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__} | fields
    return list(value) if isinstance(value, tuple) else value


def _rebuilt(value):
    """The inverse of ``_described``."""
    if isinstance(value, dict):
        fields = {name: _rebuilt(v) for name, v in value.items() if name != "kind"}
        kind = getattr(layers, value["kind"], None) or getattr(optimizers, value["kind"])
        return kind(**fields)
    return tuple(value) if isinstance(value, list) else value


def _read(path) -> tuple[dict, dict]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        name, version = header["format"], header["version"]
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint(
            f"{path} is truncated or no checkpoint of this program ({error})"
        ) from None
    if name != FORMAT:
        raise BadCheckpoint(f"{path} is a {name!r}; expected a {FORMAT!r}")
    if version > VERSION:
        raise BadCheckpoint(
            f"{path} has version {version}; this program reads versions up to {VERSION}"
        )
    return header, arrays


def _under(prefix, arrays):
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _difference(found, expected) -> str:
    for key in ("channels", "patch", "dtype"):
        if found[key] != expected[key]:
            return f"{key} {found[key]}, expected {expected[key]}"
    pairs = list(zip(found["layers"], expected["layers"]))
    for i, (ours, theirs) in enumerate(pairs):
        if ours != theirs:
            return f"layer {i} is {ours}, expected {theirs}"
    return f"{len(found['layers'])} layers, expected {len(expected['layers'])}"
