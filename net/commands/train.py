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
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from kernels import BACKENDS, checks
from kernels.cross_entropy import UNLABELLED
from net.borders import BORDERS
from net.graph import LARGEST_SEED
from net.images import is_finite
from net.learning import runs
from net.learning.augmentation import Augmentation
from net.learning.runs import train
from net.learning.starting_nets import NAMES, net_of, usage_of
from net.pictures import matched, read
from net.pictures.labels import read_values
from net.pictures.reading import decoding
from net.tables import by
from net.usage import Usage


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add = parser.add_argument
    add("--images", required=True, metavar="DIR")
    add("--labels", required=True, metavar="DIR", help="label images, whatever their suffixes")
    names = ", ".join(NAMES)
    add("--net", default="scales", help=f"a net's file, a .toml, or one of {names} (scales)")
    add("--out", required=True, metavar="DIR", help="it is made if need be")
    add("--axes", choices=("first", "last"), help="which axis holds the channels")
    add("--unlabelled", type=int, metavar="VALUE", help="in label images; -1: none (0)")
    add("--class-names", metavar="A,B,...", help="a name for each class")
    add("--border", choices=BORDERS, help="of images (that of the net's file, or reflect)")
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
    add("--images-a-step", type=int, default=1, metavar="N", help="a step learns from (1)")
    add("--rate", type=float, default=3e-3, help="of Adam at first (0.003)")
    add(
        "--schedule",
        choices=tuple(runs.SCHEDULES),
        default="cosine",
        help="of the rate: half a cosine to 0, a tenth after each third, or constant (cosine)",
    )
    add("--class-weights", type=_numbers, metavar="W,W,...", help="one for each class (1 each)")
    add("--patience", type=int, metavar="EPOCHS", help="stop after EPOCHS without improvement")
    default = runs.AUGMENTATION
    for name in ("brightness", "contrast", "noise"):
        value = getattr(default, name)
        add(f"--{name}", type=float, default=value, help=f"of the augmentation ({value})")
    add("--no-turns", action="store_true", help="do not turn images by quarters")
    add("--no-flips", action="store_true", help="do not flip images")
    add("--seed", type=int, default=0, help="of all that is random (0)")
    text = "of a Dask cluster whose workers share the images of a step, tcp://..."
    add("--scheduler", metavar="ADDRESS", help=text)
    add("--backend", choices=BACKENDS, default="auto", help="where to run (auto)")
    add("--json", action="store_true", help="for scripts: one JSON object")


def run(options: argparse.Namespace) -> int:
    """Read everything, train, and say how well."""
    augmentation = _augmentation(options)
    pairs = matched(options.images, options.labels)
    images = [read(image, axes=options.axes) for image, _ in pairs]
    channels = {len(image): path for image, (path, _) in zip(images, pairs)}
    if len(channels) > 1:
        listed = ", ".join(f"{path} {number}" for number, path in channels.items())
        raise ValueError(f"images differ in channels: {listed}")
    kinds = {image.dtype: path for image, (path, _) in zip(images, pairs)}
    if len(kinds) > 1:
        listed = ", ".join(f"{path} {kind}" for kind, path in kinds.items())
        told = f"images differ in dtype, and values are taken as they are: {listed}"
        warnings.warn(told, stacklevel=2)
    usage = _usage(options)
    labels = [read_values(path, usage.label_rule) for _, path in pairs]
    for (path, _), image in zip(pairs, images):
        with decoding(path):
            if not is_finite(image):
                raise ValueError("it holds NaN or infinities; expected finite values")
    classes = _classes([path for _, path in pairs], labels, usage.label_rule)
    for (_, path), label_map, image in zip(pairs, labels, images):
        _check(path, label_map, usage.label_rule, classes, image.shape[1:])
    source = options.net, classes, *channels
    net = net_of(*source, seed=options.seed, backend=options.backend)
    net.usage = usage
    trained = train(
        net,
        images,
        labels,
        axes="first",
        validation=options.validation or None,
        steps=options.steps,
        pixels=options.pixels,
        images_a_step=options.images_a_step,
        rate=options.rate,
        schedule=options.schedule,
        augmentation=augmentation,
        class_weights=options.class_weights,
        patience=options.patience,
        seed=options.seed,
        out=options.out,
        client=options.scheduler,
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


def _numbers(text):
    return [float(one) for one in text.split(",")]


_numbers.__name__ = "numbers"  # as argparse calls what a text is not


def _augmentation(options) -> Augmentation:
    """The augmentation that is asked for; all options are checked, before any file is read."""
    try:
        for name in ("steps", "pixels", "images-a-step"):
            checks.count(f"--{name}", getattr(options, name.replace("-", "_")))
        checks.count("--seed", options.seed, 0, LARGEST_SEED)
        checks.number("--rate", options.rate, positive=True)
        if options.validation:
            checks.number("--validation", options.validation, positive=True, below=1)
        if options.patience is not None:
            checks.count("--patience", options.patience)
            if not options.validation:
                raise ValueError("--patience needs a --validation to judge by")
        return Augmentation(
            turns=not options.no_turns,
            flips=not options.no_flips,
            brightness=options.brightness,
            contrast=options.contrast,
            noise=options.noise,
        )
    except ValueError as error:
        options.error(str(error))


def _usage(options) -> Usage:
    """That of the net's file, but for what the arguments say."""
    usage = usage_of(options.net) or Usage()
    if options.unlabelled is not None:
        unlabelled = None if options.unlabelled == UNLABELLED else options.unlabelled
        rule = replace(usage.label_rule, unlabelled=unlabelled)
        usage = replace(usage, label_rule=rule)
    if options.border is not None:
        usage = replace(usage, border=options.border)
    if options.class_names is not None:
        usage = replace(usage, class_names=tuple(options.class_names.split(",")))
    return usage


def _classes(paths, labels, rule) -> int:
    """How many classes the rule names, or, where it numbers them, the label images hold."""
    if rule.values is not None:
        return len(rule.values)
    first = rule.of(1)[0]
    values = [np.unique(image[image != rule.unlabelled]) for image in labels]
    held = np.unique(np.concatenate(values))
    if len(held) < 2:
        values_held = ", ".join(f"{value:g}" for value in held) or "no labelled pixel"
        beside = "" if rule.unlabelled is None else f" beside {rule.unlabelled} (unlabelled)"
        raise ValueError(
            f"{paths[0].parent} holds {values_held}{beside}; expected two classes or more"
        )
    classes = int(held[-1]) - first + 1
    if len(held) < classes and held[0] >= first:
        path = next(path for path, image in zip(paths, values) if held[-1] in image)
        missing = min(set(range(first, first + classes)) - set(held.tolist()))
        raise ValueError(
            f"{path} holds {held[-1]:g}, and no label image holds {missing}; expected classes "
            f"numbered from {first}, or a label_rule in a .toml (--net) that gives their values"
        )
    return classes


def _check(path, labels, rule, classes, size):
    """Refuse a label image, by its file's name, that does not suit the rule or its image."""
    with decoding(path):
        classes_of_pixels = rule.decoded(labels, classes)
        if classes_of_pixels.shape != size:
            raise ValueError(
                f"it is {by(classes_of_pixels.shape)}; expected {by(size)}, as its image"
            )
        if (classes_of_pixels == UNLABELLED).all():
            raise ValueError("it holds no labelled pixel; expected at least one")
