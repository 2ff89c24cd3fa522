"""How well classes are told apart, over labelled pixels only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.metrics import contingency_table

from kernels import checks
from kernels.cross_entropy import UNLABELLED
from net.learning.targets import checked_labels
from net.options import is_name
from net.tables import aligned


@dataclass(frozen=True)
class Metrics:
    """Counts of labelled pixels by true and predicted class, and what follows from them.

    Attributes:
        confusion: K x K ints: how many pixels of each class (rows) were taken for each (columns).

    >>> truth, predicted = np.array([[0, 0, 1, -1]]), np.array([[0, 1, 1, 1]])
    >>> found = Metrics.of([truth], [predicted], classes=2)
    >>> found.confusion.tolist(), round(found.accuracy, 3)
    ([[1, 1], [0, 1]], 0.667)
    >>> print(found.table(("coin", "rest")))
    class  pixels  IoU    F1     taken for coin  taken for rest
    coin   2       0.500  0.667  50.0%           50.0%
    rest   1       0.500  0.667  0.0%            100.0%
    """

    confusion: np.ndarray

    @classmethod
    def of(cls, truths: list[np.ndarray], predictions: list[np.ndarray], classes: int) -> Metrics:
        """Metrics of label maps and class maps of the same shapes; unlabelled pixels do not count.

        Args:
            truths: H x W ints each, from 0, ``UNLABELLED`` (-1) where unknown.
            predictions: H x W ints each, from 0 wherever there is a label.

        Raises:
            TypeError, ValueError: lists of other lengths, maps of other shapes or values, or no
                labelled pixel at all.

        >>> truth, predicted = np.array([[0, 0, 1, -1]]), np.array([[0, 1, 1, 1]])
        >>> Metrics.of([truth], [predicted], classes=2).confusion.tolist()
        [[1, 1], [0, 1]]
        """
        classes = checks.count("classes", classes)
        checks.sequence("truths", truths)
        checks.sequence("predictions", predictions)
        if len(truths) != len(predictions):
            raise ValueError(
                f"predictions are {len(predictions)}; expected {len(truths)}, as truths"
            )
        confusion = np.zeros((classes, classes), np.int64)
        for i, (truth, predicted) in enumerate(zip(truths, predictions)):
            size = getattr(truth, "shape", ())
            truth = checked_labels(f"truths[{i}]", truth, classes, size)
            predicted = checked_labels(f"predictions[{i}]", predicted, classes, size)
            labelled = truth != UNLABELLED
            truth, predicted = truth[labelled], predicted[labelled]
            if (predicted == UNLABELLED).any():
                raise ValueError(f"predictions[{i}] has labelled pixels without a class (NaN?)")
            if len(truth):
                counts = contingency_table(truth, predicted).toarray().astype(np.int64)
                confusion[: len(counts), : counts.shape[1]] += counts
        if not confusion.any():
            raise ValueError("truths hold no labelled pixel; expected at least one")
        return cls(confusion)

    @property
    def accuracy(self) -> float:
        """Share of the labelled pixels that are right.

        >>> Metrics(np.array([[6, 2], [0, 2]])).accuracy
        0.8
        """
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def iou(self) -> np.ndarray:
        """By class, the pixels that are right over those that are, or are taken for, it; NaN where
        it does not occur (the Jaccard index).

        >>> Metrics(np.array([[6, 2], [0, 2]])).iou
        array([0.75, 0.5 ])
        """
        return self._share(np.diag(self.confusion), self._either - np.diag(self.confusion))

    @property
    def f1(self) -> np.ndarray:
        """By class, the harmonic mean of precision and recall (Dice coefficient), or NaN.

        >>> Metrics(np.array([[6, 2], [0, 4]])).f1.round(3)
        array([0.857, 0.8  ])
        """
        return self._share(2 * np.diag(self.confusion), self._either)

    @property
    def _either(self):
        """True pixels of each class and predicted ones; those that are right count twice."""
        return self.confusion.sum(axis=0) + self.confusion.sum(axis=1)

    def _share(self, part, whole):
        return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)

    def table(self, class_names: tuple[str, ...]) -> str:
        """A line for each class, in plain text: what it has, and what it was taken for.

        Args:
            class_names: one for each class.

        >>> print(Metrics(np.array([[6, 2], [0, 2]])).table(("coin", "rest")))
        class  pixels  IoU    F1     taken for coin  taken for rest
        coin   8       0.750  0.857  75.0%           25.0%
        rest   2       0.500  0.667  0.0%            100.0%
        """
        checks.sequence("class_names", class_names)
        if len(class_names) != len(self.confusion) or not all(map(is_name, class_names)):
            raise ValueError(
                f"class_names is {class_names!r}; expected {len(self.confusion)} printable texts"
            )
        headings = ("class", "pixels", "IoU", "F1", *(f"taken for {n}" for n in class_names))
        rows = []
        for name, row, iou, f1 in zip(class_names, self.confusion, self.iou, self.f1):
            shares = self._share(row, np.full(len(row), row.sum()))
            taken = ["" if np.isnan(share) else f"{share:.1%}" for share in shares]
            rows.append((name, str(row.sum()), f"{iou:.3f}", f"{f1:.3f}", *taken))
        return aligned(headings, rows)
