"""Arguments of how a net is used: ``net.usage``."""

import numpy as np

from net.usage import LabelRule, Normalization, Usage
from tests.arguments.entries import NONE, Entry, because, call_of, image, method_of

A_VALUE = because("a value of a label image", "-1", "0")
VALUES = because("a value for each class", "[1]", "(1, 2, 3)")
NUMBERS = because("a number for each channel", "[1]")
HALVES = because("any real numbers", "itself, in float16")
RECORD = because("a record", "{}")


def _rule():
    return LabelRule(unlabelled=255)


def _of_one_channel():
    return Normalization((0.5,), (2.0,))


def _labels():
    return np.array([[0, 1, 255]], np.uint8)


def _class_map():
    return np.array([[0, 1, -1]])


CALLS = {
    "net.usage.Usage": Entry(
        call_of(
            Usage,
            normalization=_of_one_channel,
            class_names=("a", "b"),
            colors=((0, 0, 0), (1, 1, 1)),
            label_rule=_rule,
            border="zero",
            training=lambda: {"a": 1},
        ),
        {"normalization": NONE, "class_names": NONE, "colors": NONE, "training": RECORD},
    ),
    "net.usage.Usage.names": Entry(method_of(Usage, "names", classes=2)),
    "net.usage.labels.LabelRule": Entry(
        call_of(LabelRule, unlabelled=7, values=(1, 2, 3)),
        {"unlabelled": A_VALUE | NONE, "values": VALUES | NONE},
    ),
    "net.usage.labels.LabelRule.of": Entry(method_of(_rule, "of", classes=2)),
    "net.usage.labels.LabelRule.stand_in": Entry(method_of(_rule, "stand_in", classes=2)),
    "net.usage.labels.LabelRule.decoded": Entry(
        method_of(_rule, "decoded", labels=_labels, classes=2),
        {"labels": HALVES},
    ),
    "net.usage.labels.LabelRule.encoded": Entry(
        method_of(_rule, "encoded", class_map=_class_map, classes=2)
    ),
    "net.usage.normalization.Normalization": Entry(
        call_of(Normalization, mean=(1.0,), deviation=(2.0,)),
        {"mean": NUMBERS, "deviation": NUMBERS},
    ),
    "net.usage.normalization.Normalization.of": Entry(
        call_of(Normalization.of, images=lambda: [image()])
    ),
    "net.usage.normalization.Normalization.normalized": Entry(
        method_of(_of_one_channel, "normalized", image=image, dtype="float64"),
        {"image": HALVES},
    ),
}
