"""Train a net on images and label images of the same names.

DIR gets net.safetensors, the net of the best epoch, with all that label needs; log.csv; curves.png,
renewed as it learns; and run.safetensors, from which the same command goes on where it was
interrupted. In label images 0 is unlabelled and classes count from 1, unless --unlabelled says
otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from kernels.cross_entropy import UNLABELLED
from net.borders import BORDERS
from net.learning import runs
from net.learning.augmentation import Augmentation
from net.learning.runs import train
from net.learning.sources import NAMES, net_of, usage_of
from net.pictures import matched, read
from net.pictures.labels import read_values
from net.pictures.reading import decoding
from net.tables import by
from net.usage import LabelRule, Usage


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add = parser.add_argument
    add("--images", required=True, metavar="DIR")
    add("--labels", required=True, metavar="DIR", help="label images, whatever their suffixes")
    names = ", ".join(NAMES)
    add("--net", default="scales", help=f"a net's file, a .toml, or one of {names} (scales)")
    add("--out", required=True, metavar="DIR", help="it is made if need be")
    add("--axes", choices=("first", "last"), help="which axis holds the channels")
    add("--unlabelled", type=int, default=0, metavar="VALUE", help="in label images; -1: none (0)")
    add("--class-names", metavar="A,B,...", help="a name for each class")
    add("--border", choices=BORDERS, default="reflect", help="of images (reflect)")
    add(
        "--validation",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of the images, or of the "
        "labels of a single one, in a block a patch away from the others; 0 is none (0.2)",
    )
    add("--steps", type=int, default=300, help="about how many (300)")
    add("--pixels", type=int, default=60, help="of an image a step learns from, balanced (60)")
    add("--rate", type=float, default=3e-3, help="of Adam at first; it falls to 0 (0.003)")
    add("--class-weights", metavar="W,W,...", help="a weight for each class (1 each)")
    add("--patience", type=int, metavar="EPOCHS", help="stop after so many without improvement")
    default = runs.AUGMENTATION
    for name in ("brightness", "contrast", "noise"):
        value = getattr(default, name)
        add(f"--{name}", type=float, default=value, help=f"of the augmentation ({value})")
    add("--no-turns", action="store_true", help="do not turn images by quarters")
    add("--no-flips", action="store_true", help="do not flip images")
    add("--seed", type=int, default=0, help="of all that is random (0)")
    add("--backend", default="auto", help="where to run: auto, cuda or cpu (auto)")
    add("--json", action="store_true", help="for scripts: one JSON object")


def run(options: argparse.Namespace) -> int:
    """Read everything, train, and say how well."""
    pairs = matched(options.images, options.labels)
    images = [read(image, axes=options.axes) for image, _ in pairs]
    channels = {len(image): path for image, (path, _) in zip(images, pairs)}
    if len(channels) > 1:
        found = ", ".join(f"{path} {number}" for number, path in channels.items())
        raise ValueError(f"images differ in channels: {found}")
    usage = usage_of(options.net)
    if usage is None:
        unlabelled = None if options.unlabelled == UNLABELLED else options.unlabelled
        usage = Usage(label_rule=LabelRule(unlabelled=unlabelled), border=options.border)
    if options.class_names is not None:
        usage = replace(usage, class_names=tuple(options.class_names.split(",")))
    labels = [read_values(path, usage.label_rule) for _, path in pairs]
    classes = _classes(labels, usage.label_rule)
    for (_, path), own, image in zip(pairs, labels, images):
        _check(path, own, usage.label_rule, classes, image.shape[1:])
    source = options.net, classes, *channels
    net = net_of(*source, seed=options.seed, backend=options.backend)
    net.usage = usage
    weights = options.class_weights
    trained = train(
        net,
        images,
        labels,
        axes="first",
        validation=options.validation or None,
        steps=options.steps,
        pixels=options.pixels,
        rate=options.rate,
        augmentation=Augmentation(
            turns=not options.no_turns,
            flips=not options.no_flips,
            brightness=options.brightness,
            contrast=options.contrast,
            noise=options.noise,
        ),
        class_weights=None if weights is None else [float(one) for one in weights.split(",")],
        patience=options.patience,
        seed=options.seed,
        out=options.out,
        progress=sys.stderr.isatty(),
    )
    path = str(Path(options.out, runs.NET))
    if options.json:
        print(json.dumps({"net": path, **net.usage.training}))
        return 0
    print(f"{path}: epoch {net.usage.training['epoch_kept']} of {len(trained.history)}")
    if trained.metrics is not None:
        print(trained.metrics.table(net.usage.names(classes)))
    return 0


def _classes(labels, rule) -> int:
    """How many classes the rule names, or, where it numbers them, the label images hold."""
    if rule.values is not None:
        return len(rule.values)
    first, most = rule.of(1)[0], max(own[own != rule.unlabelled].max(initial=0) for own in labels)
    if most <= first:
        raise ValueError(f"labels hold no class above {first}; expected at least two classes")
    return int(most) - first + 1


def _check(path, labels, rule, classes, size):
    """Refuse a label image, by its file's name, that does not suit the rule or its image."""
    with decoding(path):
        found = rule.decoded(labels, classes)
        if found.shape != size:
            raise ValueError(f"it is {by(found.shape)}; expected {by(size)}, as its image")
        if (found == UNLABELLED).all():
            raise ValueError("it holds no labelled pixel; expected at least one")
