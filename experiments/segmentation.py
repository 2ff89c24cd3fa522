"""Segmentation: nets of the zoo learn three textures from a few hundred pixels of each image.

Training and validation images come from the left half of each photograph, test images from the
right half. The baseline sees the mean and the standard deviation of the same window: one Gaussian
for each class, fitted to all pixels of the training images.
"""

from __future__ import annotations

import time

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import ndimage

from experiments.inputs.textures import CLASSES, border_distance, composed
from net import Dense, zoo
from net.learning.fitting import fit
from net.learning.optimizers import Adam, Cosine
from net.learning.sampling import balanced_mask
from net.learning.training import Trainer

TIMED = False
NETS = ("lenet28",)
"""The regions of the images are larger than its patch; those of 133 x 133 reach beyond them."""
PREDICTED = "predicted by {}"
BASELINE = "predicted by the baseline of {}"
"""The arrays of what a net, and the baseline with a window like its patch, predict."""
REGIONS, RATE = 4, 1e-3
WAYS = {"needed": "seconds a step, needed cells", "dense": "seconds a step, every cell"}
"""What is measured of each form of training, on the first ``STEPS`` images."""
STEPS = 9
FULL = {"training": 12, "validation": 2, "test": 6, "epochs": 15, "pixels": 300, "size": 160}
QUICK = {"training": 6, "validation": 1, "test": 2, "epochs": 8, "pixels": 200, "size": 96}
"""Images of each kind, epochs, sampled pixels an image, rows and columns of an image."""
COLUMNS = {"net": str, "subject": str, "measure": str, "value": float}
COLORS = ("#d55e00", "#009e73", "#56b4e9")


def run(options) -> tuple[list[dict], dict]:
    """Rows of ``net, subject, measure, value``.

    As arrays, the first test image, its labels, and what each net and its baseline predict, by
    ``PREDICTED`` and ``BASELINE``; where the nets' patches need images of different sizes, all nets
    get the largest.
    """
    nets = options.nets or NETS
    plan = QUICK if options.quick else FULL
    patch = max(max(zoo.build(name, backend="reference").patch) for name in nets)
    size = max(plan["size"], patch)
    rows, arrays = [], {}
    for name in nets:
        parameters = {"net": name, "size": size}
        trained = options.cache.measured(
            parameters, lambda name=name: _trained(name, plan | {"size": size}, options)
        )
        rows += trained["rows"]
        arrays |= {key: np.array(array) for key, array in trained["arrays"].items()}
    return rows, arrays


def _trained(name, plan, options) -> dict:
    """Train and test; rows and arrays."""
    net = zoo.build(name, classes=len(CLASSES), seed=options.seed, backend=options.backend)
    rng = np.random.default_rng(options.seed)

    def images(number, half):
        made = [composed(half, plan["size"], REGIONS, rng) for _ in range(number)]
        shape = (net.channels, plan["size"], plan["size"])
        grey = [np.ascontiguousarray(np.broadcast_to(image, shape)) for image, _ in made]
        return grey, [labels for _, labels in made]

    training, validation = (images(plan[part], "left") for part in ("training", "validation"))
    test = images(plan["test"], "right")
    rate = Cosine(RATE, plan["epochs"] * plan["training"])
    trainer = Trainer(net, Adam(rate), seed=options.seed)
    simulated = options.backend == "simulator"  # whose times say nothing
    seconds = {} if simulated else _seconds_a_step(trainer, training, plan)
    fit(
        trainer,
        training,
        epochs=plan["epochs"],
        pixels=plan["pixels"],
        validation=validation,
    )
    dense = Dense(net, "reflect")
    by_net = [dense.predict(image)[0] for image in test[0]]
    baseline = _GaussianBaseline(net.patch[0], training)
    by_baseline = [baseline.predict(image) for image in test[0]]
    interior = [border_distance(labels) > net.patch[0] / 2 for labels in test[1]]
    rows = _rows("test", {"interior share": np.mean(interior), "pixels": np.size(interior)})
    rows += _rows("training", {"images": plan["training"], "pixels an image": plan["pixels"]})
    rows += _rows("training", {"steps": trainer.steps} | seconds)
    for subject, predicted in (("net", by_net), ("baseline", by_baseline)):
        rows += _rows(subject, _scores(test[1], predicted, interior))
    for row in trainer.history:
        rows += _rows(f"epoch {row['epoch']}", {k: v for k, v in row.items() if k != "epoch"})
    rows = [{"net": name} | row for row in rows]
    arrays = {"image": test[0][0][0], "truth": test[1][0]}
    arrays |= {PREDICTED.format(name): by_net[0], BASELINE.format(name): by_baseline[0]}
    return {"rows": rows, "arrays": arrays}


def _seconds_a_step(trainer, examples, plan) -> dict:
    """Median seconds of a step's gradients, by method: both take turns, warmed up on the first
    image."""
    forms = {way: Trainer(trainer.net, trainer.optimizer, form=form) for form, way in WAYS.items()}
    rng, taken = np.random.default_rng(trainer.seed), {}
    for image, labels in (*zip(*examples),)[:STEPS]:
        mask = balanced_mask(labels, plan["pixels"], rng)
        for way, form in forms.items():
            if way not in taken:
                form.gradients(image, labels, mask)
            began = time.perf_counter()
            form.gradients(image, labels, mask)
            taken.setdefault(way, []).append(time.perf_counter() - began)
    return {way: float(np.median(seconds)) for way, seconds in taken.items()}


class _GaussianBaseline:
    """Quadratic discriminant analysis of the mean and standard deviation of a window."""

    def __init__(self, patch, examples):
        self.patch = patch
        features = np.concatenate(
            [self._features(image).reshape(2, -1) for image in examples[0]], 1
        )
        labels = np.concatenate([truth.ravel() for truth in examples[1]])
        self.means, self.inverses, self.offsets = [], [], []
        for k in range(len(CLASSES)):
            of_class = features[:, labels == k]
            covariance = np.cov(of_class)
            self.means.append(of_class.mean(axis=1))
            self.inverses.append(np.linalg.inv(covariance))
            self.offsets.append(np.log(of_class.shape[1]) - np.linalg.slogdet(covariance)[1] / 2)

    def predict(self, image):
        """The most probable class of each pixel."""
        features = self._features(image)
        likelihoods = []
        for mean, inverse, offset in zip(self.means, self.inverses, self.offsets):
            centred = features - mean[:, None, None]
            distance = np.einsum("iyx,ij,jyx->yx", centred, inverse, centred)
            likelihoods.append(offset - distance / 2)
        return np.argmax(likelihoods, axis=0)

    def _features(self, image):
        window = {"size": self.patch, "mode": "mirror"}
        mean = ndimage.uniform_filter(image[0].astype(float), **window)
        square = ndimage.uniform_filter(image[0].astype(float) ** 2, **window)
        return np.stack([mean, np.sqrt(np.maximum(square - mean**2, 0))])


def _scores(truth, predicted, interior):
    """Accuracies, the confusion matrix as shares of each true class, and IoU of each class."""
    truth, predicted, interior = (np.stack(maps) for maps in (truth, predicted, interior))
    right = truth == predicted
    inside = right[interior].mean() if interior.any() else np.nan
    scores = {"accuracy": right.mean(), "interior accuracy": inside}
    for i, name in enumerate(CLASSES):
        union = ((truth == i) | (predicted == i)).sum()
        scores[f"IoU {name}"] = ((truth == i) & (predicted == i)).sum() / union
        for j, other in enumerate(CLASSES):
            share = (predicted[truth == i] == j).mean()
            scores[f"{name} taken for {other}"] = share
    return scores


def _rows(subject, measures):
    return [{"subject": subject, "measure": m, "value": float(v)} for m, v in measures.items()]


def _by_net(rows):
    """{net: {subject: {measure: value}}}."""
    nets = {}
    for row in rows:
        subjects = nets.setdefault(row["net"], {})
        subjects.setdefault(row["subject"], {})[row["measure"]] = row["value"]
    return nets


def table(rows: list[dict]) -> str:
    """The Markdown tables of each net."""
    nets, parts = _by_net(rows), []
    for name, subjects in nets.items():
        parts += [f"## {name}", ""] if len(nets) > 1 else []
        parts += [*_lines(subjects), ""]
    return "\n".join(parts[:-1])


def _lines(subjects):
    names = [f"IoU {name}" for name in CLASSES]
    measures = ["accuracy", "interior accuracy", *names]
    lines = [f"| | {' | '.join(measures)} |", f"|---|{'---|' * len(measures)}"]
    for subject in ("net", "baseline"):
        values = [_percent(subjects[subject][m]) for m in measures]
        lines.append(f"| {subject} | {' | '.join(values)} |")
    interior = subjects["test"]["interior share"]
    lines += ["", f"Interior pixels: {100 * interior:.1f}% of the test pixels."]
    training = subjects["training"]
    if set(WAYS.values()) <= training.keys():
        before, after = (training[WAYS[form]] for form in ("dense", "needed"))
        steps = training["steps"]
        lines += [
            "",
            f"Training, {steps:.0f} steps on {training['pixels an image']:.0f} pixels each: "
            f"{steps * after:.3g} s over the cells that the pixels need, {steps * before:.3g} s "
            f"over every cell, the paper's method ({1e3 * after:.3g} and {1e3 * before:.3g} ms a "
            "step: medians of steps in turn; without validation).",
        ]
    lines += ["", "Confusion of the net, shares of the true class:", ""]
    lines += [f"| true \\ predicted | {' | '.join(CLASSES)} |", f"|---|{'---|' * len(CLASSES)}"]
    for name in CLASSES:
        shares = [_percent(subjects["net"][f"{name} taken for {o}"]) for o in CLASSES]
        lines.append(f"| {name} | {' | '.join(shares)} |")
    return lines


def _percent(share):
    return "no pixels" if np.isnan(share) else f"{100 * share:.1f}%"


def caption(record: dict) -> str:
    """What the tables show."""
    nets = ", ".join(record["nets"] or NETS)
    return (
        f"{nets} trained on a few hundred sampled pixels of each image, over the cells that these "
        "need, to tell three photographed textures apart. The baseline knows the mean and the "
        "standard deviation of the same window.\n\n"
        "Images are composed of scikit-image's `brick`, `grass` and `gravel`, tested on the halves "
        "of the photographs that training never saw. Interior: test pixels further than half a "
        "patch from a border between textures. The figure shows the first test image; the shares "
        "that are right are those of all test images."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """For each net: a test image, its labels, what the net and the baseline make of it, the errors
    of both, and the learning curve."""
    nets = _by_net(rows)
    drawing = Figure(figsize=(13, 6.6 * len(nets)), layout="constrained")
    parts = drawing.subfigures(len(nets), squeeze=False)[:, 0]
    for part, (name, subjects) in zip(parts, nets.items()):
        _draw_net(part, name, subjects, arrays)
    handles = [Patch(color=color, label=name) for name, color in zip(CLASSES, COLORS)]
    drawing.legend(handles=handles, loc="outside right upper", fontsize=10)
    return drawing


def _draw_net(part, name, subjects, arrays):
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLORS]) / 255
    truth, maps, errors = arrays["truth"], {}, {}
    for who, subject, array in (
        (name, "net", PREDICTED.format(name)),
        ("baseline", "baseline", BASELINE.format(name)),
    ):
        if array in arrays:  # the baseline's were not stored once
            right = _percent(subjects[subject]["accuracy"])
            maps[f"{who}: {right} right"] = palette[arrays[array]]
            errors[f"errors, {who}"] = arrays[array] != truth
    panels = part.subplot_mosaic([["image", "truth", *maps], ["curve", "curve", *errors]])
    shown = {"image": arrays["image"], "truth": palette[truth]} | maps | errors
    for key, picture in shown.items():
        look = {"cmap": "gray_r" if key in errors else "gray", "interpolation": "nearest"}
        panels[key].imshow(picture, **look, vmin=picture.min(), vmax=1 if key in errors else None)
        panels[key].set_title({"image": "test image"}.get(key, key), fontsize=11)
        panels[key].set_axis_off()
    _draw_curve(panels["curve"], subjects)


def _draw_curve(curve, subjects):
    epochs = [values for subject, values in subjects.items() if subject.startswith("epoch ")]
    steps = [values["step"] for values in epochs]
    curve.plot(steps, [values["loss"] for values in epochs], color="#0072b2", label="training loss")
    losses = [values["validation_loss"] for values in epochs]
    curve.plot(steps, losses, color="#e69f00", label="validation loss")
    accuracy = [values["validation_accuracy"] for values in epochs]
    curve.plot(steps, accuracy, color="black", ls="--", label="validation accuracy")
    curve.set_xlabel("steps (one image each)")
    curve.set_ylabel("loss, accuracy")
    curve.set_ylim(bottom=0)
    curve.legend(fontsize=7)
