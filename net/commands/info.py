"""Say what the file of a net or a run holds."""

from __future__ import annotations

import argparse
import json

import numpy as np

from net.borders import halo
from net.file_format import opened
from net.graph import Net
from net.learning.checkpoint import load_net
from net.tables import aligned, by
from net.usage import Usage

_SIDES = ("top", "left", "bottom", "right")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", help="as Net.save or a training run writes it")
    parser.add_argument("--json", action="store_true", help="for scripts: one JSON object")


def run(options: argparse.Namespace) -> int:
    """Read the file whole, so that a damaged one is found, and print what it holds."""
    net = load_net(options.file, backend="reference")
    with opened(options.file) as contents:
        document = contents.document
    if options.json:
        print(json.dumps(_facts(options.file, net, document)))
    else:
        print("\n".join(_lines(options.file, net, document)))
    return 0


def _facts(path, net, document):
    """What scripts are told: the keys of docs/file-format.md, and counts."""
    run = document.get("run")
    return {
        "file": str(path),
        "version": document["version"],
        "net": document["net"],
        "parameters": _parameters(net),
        "classes": net.output.channels,
        "receptive_field": {
            "size": list(net.receptive_field),
            "halo": list(halo(net.patch, net.receptive_field)),
        },
        "usage": net.usage and net.usage.described(),
        "run": run and {name: run[name] for name in ("steps", "optimizer", "border", "history")},
    }


def _lines(path, net, document):
    run = document.get("run")
    yield f"{path}: {'a net' if run is None else 'the run of a net'}, format {document['version']}"
    yield (
        f"patch {net.channels} x {by(net.patch)}, {net.dtype}, {_parameters(net):,} parameters, "
        f"{net.output.channels} classes"
    )
    sides = zip(_SIDES, halo(net.patch, net.receptive_field))
    around = ", ".join(f"{n} {side}" for side, n in sides)
    yield f"receptive field {by(net.receptive_field)}; halo {around}"
    yield from ("", str(net).split("\n", 1)[1], "")
    yield from usage_lines(net)
    if net.usage is not None and net.usage.training:
        yield from ("training", *(f"  {k}: {_short(v)}" for k, v in net.usage.training.items()))
    if run is not None:
        last = run["history"][-1] if run["history"] else {}
        row = "".join(f", {name} {value}" for name, value in last.items() if name != "step")
        yield f"run: {run['steps']} steps, {run['optimizer']['kind']}{row}"


def usage_lines(net: Net):
    """How a net is used, line by line."""
    usage = net.usage
    if usage is None:
        yield "usage: none is given; images are taken as they are, classes are numbered from 1"
        return
    normalization = usage.normalization
    if normalization is None:
        yield "normalisation: none, images are taken as they are"
    else:
        yield (
            f"normalisation: (value - mean) / deviation, mean {_numbers(normalization.mean)}, "
            f"deviation {_numbers(normalization.deviation)}"
        )
    classes = net.output.channels
    unlabelled = usage.label_rule.unlabelled
    nothing = "no value" if unlabelled is None else unlabelled
    yield f"border: {usage.border}; {nothing} in label images is unlabelled"
    yield aligned(("class", "value", "name", "color"), list(_classes(usage, classes)))


def _classes(usage: Usage, classes):
    colors = usage.colors or ("",) * classes
    rows = zip(usage.label_rule.of(classes), usage.names(classes), colors)
    for number, (value, name, color) in enumerate(rows):
        yield tuple(map(str, (number, value, name, color)))


def _parameters(net):
    return sum(int(np.prod(array.shape)) for array in net.parameters.values())


def _numbers(numbers):
    return ", ".join(f"{number:.6g}" for number in numbers)


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."
