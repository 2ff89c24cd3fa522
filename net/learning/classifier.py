"""A net behind scikit-learn's interface: fit and predict on lists of images and label images."""

from __future__ import annotations

import numpy as np

from kernels import checks
from net.dense import Dense
from net.graph import LARGEST_SEED, Net
from net.images import channels_first, check_finite, net_input
from net.learning.metrics import Metrics
from net.learning.runs import AUGMENTATION, train
from net.learning.scales import scales
from net.usage import LabelRule, Usage

try:
    from sklearn.base import BaseEstimator
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(
        "net.PixelClassifier needs scikit-learn: pip install 'regularly-sparse[learn]'"
    ) from error


class PixelClassifier(BaseEstimator):
    """A classifier of pixels, learned from images and label images (0 unlabelled, classes from 1).

    It stands where a random forest on ``skimage.feature.multiscale_basic_features`` does, as in
    ``skimage.future.TrainableSegmenter``. Images are H x W or H x W x C of real numbers, of any
    sizes, and are normalised by what is computed from those of ``fit``. To scikit-learn a sample is
    an image: ``cross_val_score(classifier, images, labels, cv=3)`` leaves out images. (It does not
    call itself a ``ClassifierMixin``: of those the labels of a sample are one number.)

    Args:
        net: makes the net, of the number of classes and of channels: a function such as
            ``net.learning.scales.scales``, which is taken where it is None.
        steps, pixels, rate, augmentation, class_weights, validation, patience: as
            ``net.learning.runs.train`` takes them.
        random_state: seed of the net's first weights and of all that is random, an int of at least
            0.
        backend: name of the net's backend.
        progress: show a bar.

    Attributes:
        classes_: the values of the label images, without 0.
        net_: the net; ``net_.save(path)`` keeps it for ``python -m net label``.
        history_: a row for each epoch.

    >>> image = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    >>> labels = np.where(image > 200, 2, np.where(image < 50, 1, 0))
    >>> classifier = PixelClassifier(steps=3, backend="cpu").fit([image], [labels])
    >>> [one.shape for one in classifier.predict([image, image[:9]])], classifier.classes_
    ([(40, 50), (9, 50)], array([1, 2]))
    """

    def __init__(
        self,
        net=None,
        *,
        steps=300,
        pixels=60,
        rate=3e-3,
        augmentation=AUGMENTATION,
        class_weights=None,
        validation=None,
        patience=None,
        random_state=0,
        backend="auto",
        progress=False,
    ):
        self.net = net
        self.steps = steps
        self.pixels = pixels
        self.rate = rate
        self.augmentation = augmentation
        self.class_weights = class_weights
        self.validation = validation
        self.patience = patience
        self.random_state = random_state
        self.backend = backend
        self.progress = progress

    def fit(self, images, labels):
        """Learn from a list of images and one of label images, or from one image and its labels.

        Warns:
            TrainingWarning: labels are few, or loss and validation part.

        Raises:
            TypeError, ValueError: images and labels that do not fit each other, fewer than two
                classes, or an argument of the classifier that is wrong.

        >>> image = np.random.default_rng(0).integers(0, 255, (9, 8), np.uint8)
        >>> labels = 1 + (image > 127)
        >>> PixelClassifier(steps=1, backend="cpu").fit([image], [labels]).classes_
        array([1, 2])
        """
        checks.count("random_state", self.random_state, 0, LARGEST_SEED)
        images, labels = _as_list("images", images), _as_list("labels", labels)
        values = _values(labels)
        made = scales if self.net is None else self.net
        if not callable(made):
            kind = checks.kind_of(made)
            raise TypeError(f"net is {kind}; expected a function of classes and channels")
        images = [channels_first(f"images[{i}]", one, "last") for i, one in enumerate(images)]
        channels = sorted({len(one) for one in images})
        if len(channels) > 1:
            raise ValueError(f"images have {channels} channels; expected one number for all")
        net = made(len(values), channels[0], seed=self.random_state, backend=self.backend)
        checks.instance("net()", net, Net)
        rule = LabelRule(values=tuple(values.tolist()))
        net.usage = Usage(label_rule=rule)
        trained = train(
            net,
            images,
            labels,
            axes="first",
            validation=self.validation,
            steps=self.steps,
            pixels=self.pixels,
            rate=self.rate,
            augmentation=self.augmentation,
            class_weights=self.class_weights,
            patience=self.patience,
            seed=self.random_state,
            progress=self.progress,
        )
        self.classes_, self.net_, self.history_ = values, trained.net, trained.history
        return self

    def predict(self, images):
        """The most probable class of each pixel: maps of ``classes_``, of the images' sizes.

        >>> image = np.random.default_rng(0).integers(0, 255, (9, 8), np.uint8)
        >>> labels = 1 + (image > 127)
        >>> classifier = PixelClassifier(steps=1, backend="cpu").fit(image, labels)
        >>> classifier.predict(image).shape
        (9, 8)
        """
        probabilities = self.predict_proba(images)
        if isinstance(images, np.ndarray):
            return self.classes_[probabilities.argmax(axis=-1)]
        return [self.classes_[one.argmax(axis=-1)] for one in probabilities]

    def predict_proba(self, images):
        """Probabilities H x W x K of each image, in the order of ``classes_``.

        >>> image = np.random.default_rng(0).integers(0, 255, (9, 8), np.uint8)
        >>> labels = 1 + (image > 127)
        >>> classifier = PixelClassifier(steps=1, backend="cpu").fit(image, labels)
        >>> classifier.predict_proba(image).shape
        (9, 8, 2)
        """
        check_is_fitted(self)
        dense, maps = Dense(self.net_, self.net_.usage.border), []
        for i, image in enumerate(_as_list("images", images)):
            x = net_input(self.net_, image, "last", f"images[{i}]")
            check_finite(self.net_, f"images[{i}]", x)
            maps.append(np.moveaxis(dense.predict(x)[1], 0, -1))
        return maps[0] if isinstance(images, np.ndarray) else maps

    def score(self, images, labels) -> float:
        """Share of the labelled pixels that are right (``metrics`` says more).

        >>> image = np.random.default_rng(0).integers(0, 255, (9, 8), np.uint8)
        >>> labels = 1 + (image > 127)
        >>> classifier = PixelClassifier(steps=1, backend="cpu").fit(image, labels)
        >>> 0 <= classifier.score([image], [labels]) <= 1
        True
        """
        return self.metrics(images, labels).accuracy

    def metrics(self, images, labels) -> Metrics:
        """Accuracy, IoU, F1 and the confusion matrix on labelled pixels, classes in the order of
        ``classes_``.

        >>> image = np.random.default_rng(0).integers(0, 255, (9, 8), np.uint8)
        >>> labels = 1 + (image > 127)
        >>> classifier = PixelClassifier(steps=1, backend="cpu").fit(image, labels)
        >>> int(classifier.metrics([image], [labels]).confusion.sum())  # labelled pixels
        72
        """
        check_is_fitted(self)
        number, rule = len(self.classes_), self.net_.usage.label_rule
        truths = [rule.decoded(one, number) for one in _as_list("labels", labels)]
        predicted = self.predict(_as_list("images", images))
        return Metrics.of(truths, [rule.decoded(one, number) for one in predicted], number)


def _as_list(name, arrays) -> list:
    """One array as a list of one."""
    if isinstance(arrays, np.ndarray):
        return [arrays]
    checks.sequence(name, arrays)
    return list(arrays)


def _values(labels) -> np.ndarray:
    """What label images hold beside 0."""
    for i, one in enumerate(labels):
        checks.array(f"labels[{i}]", one, (None, None), checks.INTS, any_layout=True)
    values = np.unique(np.concatenate([np.unique(one) for one in labels]))
    if values[0] < 0:
        raise ValueError(f"labels hold {values[0]}; expected 0 (unlabelled) and classes from 1")
    values = values[values > 0]
    if len(values) < 2:
        raise ValueError(
            f"labels hold the classes {values.tolist()}; expected at least two, from 1"
        )
    return values
