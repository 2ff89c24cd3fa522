"""What ``measure`` tells, against NumPy over all pixels at once, and what it refuses."""

import numpy as np
import pytest

from net import Net
from net.layers import Convolution, Softmax
from net.learning.fitting import measure
from net.learning.optimizers import SGD
from net.learning.training import Trainer

WEIGHTS = [None, [1, 1, 20], [0, 1, 1]]


def trainer_of_scores(backend="cpu", weights=None, *more):
    """Of a net whose scores are the image's three channels."""
    net = Net([Convolution(3, 1), *more], channels=3, patch=1, backend=backend)
    net.load_state({"conv1.weights": np.eye(3).reshape(3, 3, 1, 1), "conv1.bias": np.zeros(3)})
    return Trainer(net, SGD(0.1), class_weights=weights)


def unlike_images(rng):
    """Images of unlike sizes that hold the classes in unlike shares, some pixels unlabelled."""
    shares = [(0.9, 0.1, 0.0), (0.1, 0.2, 0.7), (0.3, 0.3, 0.4)]
    sizes = [(9, 14), (5, 3), (11, 6)]
    images = [4 * rng.standard_normal((3, *size), np.float32) for size in sizes]
    labels = [rng.choice(3, size, p=p) for size, p in zip(sizes, shares)]
    for label_map in labels:
        label_map[rng.random(label_map.shape) < 0.2] = -1
    return images, labels


def expected_of(images, labels, weights):
    scores = np.concatenate([x.reshape(3, -1) for x in images], axis=1).astype(np.float64)
    labels = np.concatenate([label_map.ravel() for label_map in labels])
    weights = np.ones(3) if weights is None else np.array(weights, float)
    scores, labels = scores[:, labels >= 0], labels[labels >= 0]
    of_pixel, pixels = weights[labels], np.arange(len(labels))
    surprise = np.log(np.exp(scores).sum(axis=0)) - scores[labels, pixels]
    right = scores.argmax(axis=0) == labels
    loss = (of_pixel * surprise).sum() / of_pixel.sum()
    return {"validation_loss": loss, "validation_accuracy": right[of_pixel > 0].mean()}


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
class TestAgainstNumPy:
    def test_images_count_by_the_weight_of_their_pixels(self, rng, weights):
        examples = unlike_images(rng)
        measured = measure(trainer_of_scores("cpu", weights), examples)
        assert measured == pytest.approx(expected_of(*examples, weights), rel=1e-6)

    def test_a_softmax_at_the_end_makes_no_difference(self, rng, weights):
        examples = unlike_images(rng)
        measured = measure(trainer_of_scores("cpu", weights, Softmax()), examples)
        assert measured == pytest.approx(expected_of(*examples, weights), rel=1e-6)


def test_an_image_of_a_class_of_weight_0_counts_for_nothing(rng):
    images, labels = unlike_images(rng)
    trainer = trainer_of_scores("cpu", [0, 1, 1])
    expected = measure(trainer, (images, labels))
    more = images + images[:1], [*labels, 0 * labels[0]]
    assert measure(trainer, more) == expected
    with pytest.raises(
        ValueError, match="examples hold no labelled pixel of a class with a weight"
    ):
        measure(trainer, (images[:1], [0 * labels[0]]))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", ">i2"])
def test_labels_of_any_ints(rng, dtype):
    images, labels = unlike_images(rng)
    labels = [abs(label_map) for label_map in labels]
    measured = measure(
        trainer_of_scores(), (images, [label_map.astype(dtype) for label_map in labels])
    )
    assert measured == measure(trainer_of_scores(), (images, labels))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x, np.ma.masked_equal(y, 2)), TypeError, "labels 0 is a masked array"),
        (lambda x, y: (x, np.where(y == 2, 255, y)), ValueError, "labels 0 reach from -1 to 255"),
        (lambda x, y: (x, y.astype(float)), TypeError, "examples labels 0 is float64"),
        (lambda x, y: (x, y[1:]), ValueError, "examples labels 0 has shape"),
        (lambda x, y: (x, y.tolist()), TypeError, "examples labels 0 is a list"),
        (lambda x, y: (np.ma.masked_less(x, 0), y), TypeError, "image 0 is a masked array"),
        (lambda x, y: (x * np.float32(np.nan), y), ValueError, "examples image 0 holds NaN"),
        (lambda x, y: (x[:2], y), ValueError, "examples image 0 has shape"),
    ],
)
def test_what_it_refuses(rng, change, error, message):
    (image, *_), (labels, *_) = unlike_images(rng)
    labels[0, 0], labels[0, 1] = 2, -1
    image, labels = change(image, labels)
    with pytest.raises(error, match=message):
        measure(trainer_of_scores(), ([image], [labels]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full((2, 2), 3)}, "labels reach from 3 to 3; expected classes 0 to 2"),
        ({"labels": np.full((2, 2), -1)}, "mask chooses no labelled pixel"),
        ({"mask": np.ones((2, 3), bool)}, "mask has shape 2 x 3"),
        ({"scores": np.zeros((2, 2, 2), np.float32)}, "scores has shape 2 x 2 x 2"),
    ],
)
def test_the_loss_of_scores_checks_them(change, message):
    arguments = {
        "scores": np.zeros((3, 2, 2), np.float32),
        "labels": np.zeros((2, 2), int),
        "mask": np.ones((2, 2), bool),
    }
    with pytest.raises(ValueError, match=message):
        trainer_of_scores().loss(**arguments | change)


@pytest.mark.parametrize("labels", [[[0, 1], [2, 3]], [[3, 1], [1, 1]]])
def test_a_label_map_that_counts_from_1_gets_a_hint(labels):
    labels = np.array(labels)
    with pytest.raises(ValueError, match=r"where 1 is the first class .*, subtract 1: astype"):
        trainer_of_scores().loss(np.zeros((3, 2, 2), np.float32), labels, labels >= 0)


def test_other_labels_that_are_no_classes_get_none():
    labels = np.array([[-1, 3], [0, 2]])
    with pytest.raises(ValueError, match=r"or -1 where unlabelled$"):
        trainer_of_scores().loss(np.zeros((3, 2, 2), np.float32), labels, labels >= 0)
