"""Scribbles: pixels learned from two dozen strokes, by ``net.PixelClassifier`` and by a forest.

Strokes are drawn on the left half of a photograph, by a rule and a seed; the right half is scored.
The defaults of the classifier were chosen by scores on left halves, whose pixels without a stroke
have a truth, too; but early versions had printed scores of right halves. The forest is
scikit-learn's on scikit-image's ``multiscale_basic_features``, both with their defaults.
"""

from __future__ import annotations

import importlib.util
import time
import warnings

import numpy as np
from matplotlib.figure import Figure
from skimage.feature import multiscale_basic_features
from tqdm import tqdm

from experiments.inputs.scribbles import CASES, FOREGROUND
from kernels.cross_entropy import UNLABELLED
from net.learning.metrics import Metrics
from net.learning.records import TrainingWarning
from net.pictures.overlay import overlaid

TIMED = False
LEARNERS = ("net", "forest")
FULL = {"drawings": 5, "steps": 300, "size": None}
QUICK = {"drawings": 1, "steps": 100, "size": 96}
"""Drawings of strokes a case, steps of the net, and the largest size of a half; None is all."""
COLORS = ((0, 255, 255), (255, 0, 255))
"""Of the classes: background, foreground."""
COLUMNS = {
    **{"case": str, "learner": str, "drawing": int},
    **dict.fromkeys(("labelled", "scored"), int),
    **dict.fromkeys(("iou", "f1", "accuracy", "fit_seconds", "predict_seconds"), float),
}


def unavailable(backend: str) -> str | None:
    """Why this experiment cannot run here, as a sentence; None if it can."""
    if importlib.util.find_spec("sklearn") is None:
        return "scribbles needs scikit-learn: the extra learn"
    return None


def run(options) -> tuple[list[dict], dict]:
    """One row for each case, drawing of strokes and learner.

    As arrays, of the first drawing of each case: the left half (of colours the green), its strokes,
    the right half, its truth, and what each learner predicts there.
    """
    plan = QUICK if options.quick else FULL
    rows, arrays = [], {}
    jobs = [(case, number) for case in CASES for number in range(plan["drawings"])]
    for case, number in tqdm(jobs, desc="scribbles", unit="drawing"):
        parameters = {**plan, "case": case, "drawing": number}
        measured = options.cache.measured(
            parameters, lambda case=case, number=number: _learned(case, number, plan, options)
        )
        rows += measured["rows"]
        if number == 0:
            (left, _), (right, truth) = _halves(case, plan)
            shown = {"left": _grey(left), "right": _grey(right), "truth": truth}
            shown |= measured["arrays"]
            arrays |= {f"{case}: {name}": np.array(one, np.uint8) for name, one in shown.items()}
    return rows, arrays


def _halves(case, plan):
    """The left and the right half of a photograph, each with its truth."""
    image, truth = CASES[case][0]()
    middle, size = image.shape[1] // 2, plan["size"] or max(image.shape)
    parts = np.s_[:size, max(0, middle - size) : middle], np.s_[:size, middle : middle + size]
    return tuple((image[part], truth[part]) for part in parts)


def _grey(image):
    return image if image.ndim == 2 else image[..., 1]


def _learned(case, number, plan, options) -> dict:
    """Rows of one drawing, its strokes, and what is predicted from them."""
    (left, known), (right, asked) = _halves(case, plan)
    strokes = CASES[case][1](known, np.random.default_rng((options.seed, number)))
    rows, arrays = [], {"strokes": strokes}
    for learner in LEARNERS:
        fitting, predicting = _learner(learner, plan, options)
        started = time.perf_counter()
        fitting(left, strokes)
        fitted = time.perf_counter()
        arrays[learner] = predicting(right)
        done = time.perf_counter()
        metrics = Metrics.of([asked.astype(int) - 1], [arrays[learner].astype(int) - 1], 2)
        rows.append(
            {
                **{"case": case, "learner": learner, "drawing": number},
                **{"labelled": int((strokes > 0).sum()), "scored": int((asked > 0).sum())},
                **{"iou": metrics.iou[FOREGROUND - 1], "f1": metrics.f1[FOREGROUND - 1]},
                **{"accuracy": metrics.accuracy},
                **{"fit_seconds": fitted - started, "predict_seconds": done - fitted},
            }
        )
    return {"rows": rows, "arrays": {name: one.tolist() for name, one in arrays.items()}}


def _learner(name, plan, options):
    """What learns from an image and its strokes, and what predicts the classes of another."""
    if name == "net":
        from net import PixelClassifier

        classifier = PixelClassifier(
            steps=plan["steps"], random_state=options.seed, backend=options.backend
        )

        def fitting(image, labels):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TrainingWarning)  # few labels are the subject
                classifier.fit(image, labels)

        return fitting, classifier.predict
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(random_state=options.seed)

    def features(image):
        return multiscale_basic_features(image, channel_axis=-1 if image.ndim == 3 else None)

    def fitting(image, labels):
        forest.fit(features(image)[labels > 0], labels[labels > 0])

    def predicting(image):
        columns = features(image)
        return forest.predict(columns.reshape(-1, columns.shape[-1])).reshape(columns.shape[:2])

    return fitting, predicting


def _of(rows, case, learner):
    return [row for row in rows if (row["case"], row["learner"]) == (case, learner)]


def table(rows: list[dict]) -> str:
    """The Markdown table: means over the drawings, and the range of the IoU."""
    lines = [
        "| case | labelled pixels | learner | IoU | from ... to | F1 | accuracy | fit | predict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row["case"] for row in rows):
        for learner in LEARNERS:
            of_learner = _of(rows, case, learner)
            mean = {
                name: np.mean([row[name] for row in of_learner])
                for name in of_learner[0]
                if name in SHOWN
            }
            ious = [row["iou"] for row in of_learner]
            lines.append(
                f"| {case} | {mean['labelled']:.0f} | {learner} | {mean['iou']:.3f} "
                f"| {min(ious):.3f} ... {max(ious):.3f} | {mean['f1']:.3f} "
                f"| {100 * mean['accuracy']:.1f}% | {mean['fit_seconds']:.1f} s "
                f"| {mean['predict_seconds']:.2f} s |"
            )
    return "\n".join(lines)


SHOWN = ("labelled", "iou", "f1", "accuracy", "fit_seconds", "predict_seconds")


def caption(record: dict) -> str:
    """What the table shows."""
    return (
        "Pixels learned from two dozen short strokes on the left half of a photograph, scored on "
        "its right half. The net is `net.PixelClassifier`, the forest scikit-learn's on "
        "scikit-image's `multiscale_basic_features`, both as they come.\n\n"
        "IoU and F1 are those of the coins and of the vessels. Strokes, which the figure widens, "
        "are drawn by a rule, several times (`experiments/inputs/scribbles.py`): on coins "
        "sparsely, well inside of the classes, or along the rims alone; along vessels and beside "
        "them. The truths are rules, "
        "too: a watershed, and Sato's ridge filter with two thresholds, a relative of the ridge "
        "filters among the forest's features. The defaults of the classifier were chosen by scores "
        "on left halves; but early versions had printed scores of right halves, too, so these were "
        "not wholly unseen. Times are those of both learners as they come, on the machine of this "
        "page, features included."
    )


def figure(rows: list[dict], record: dict, arrays: dict) -> Figure:
    """For each case: strokes on the left half, the truth of the right one, and both predictions."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    drawing = Figure(figsize=(12, 4 * len(cases)), layout="constrained")
    for panels, case in zip(drawing.subplots(len(cases), 4, squeeze=False), cases):
        shown = {"strokes": ("left", "strokes"), "truth": ("right", "truth")}
        shown |= {learner: ("right", learner) for learner in LEARNERS}
        for panel, (title, (photograph, name)) in zip(panels, shown.items()):
            classes = arrays[f"{case}: {name}"].astype(int) - 1
            image = arrays[f"{case}: {photograph}"][None]
            if name == "strokes":
                for number, color in enumerate(COLORS):
                    y, x = np.nonzero(classes == number)
                    panel.plot(x, y, ".", markersize=3, color=np.array(color) / 255)
                classes = np.full_like(classes, UNLABELLED)
            panel.imshow(overlaid(image, classes, COLORS), interpolation="none")
            iou = f", IoU {_of(rows, case, title)[0]['iou']:.3f}" if title in LEARNERS else ""
            panel.set_title(f"{title}{iou}")
            panel.set_axis_off()
        panels[0].set_title(f"{case}: strokes")
    return drawing
