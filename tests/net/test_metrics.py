"""Metrics against scikit-learn's, and validation that no training patch has seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.images import patch_margins
from net.learning.metrics import Metrics
from net.learning.splitting import by_block, by_image


def test_they_are_scikit_learns(rng):
    known = pytest.importorskip("sklearn.metrics")
    truths = [rng.integers(-1, 4, size) for size in ((7, 9), (3, 5))]
    predictions = [rng.integers(0, 3, one.shape) for one in truths]  # 3 is never predicted
    metrics = Metrics.of(truths, predictions, 4)
    truth, predicted = (np.concatenate([m.ravel() for m in maps]) for maps in (truths, predictions))
    pair = truth[truth >= 0], predicted[truth >= 0]
    assert (metrics.confusion == known.confusion_matrix(*pair, labels=range(4))).all()
    assert metrics.accuracy == known.accuracy_score(*pair)
    options = {"average": None, "labels": range(4), "zero_division": 0}
    np.testing.assert_allclose(metrics.iou, known.jaccard_score(*pair, **options), 1e-14)
    np.testing.assert_allclose(metrics.f1, known.f1_score(*pair, **options), 1e-14)


def test_a_class_that_never_occurs_has_no_score():
    metrics = Metrics.of([np.array([[0, 0, -1]])], [np.array([[0, 1, 2]])], 3)
    assert metrics.confusion.sum() == 2
    np.testing.assert_array_equal(metrics.iou, [0.5, 0, np.nan])
    np.testing.assert_array_equal(metrics.f1, [2 / 3, 0, np.nan])


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([[0, 1]], [[0, -1]], r"predictions\[0\] has labelled pixels without a class"),
        ([[-1, -1]], [[0, 1]], "truths hold no labelled pixel"),
        ([[0, 1]], [[0, 2]], r"predictions\[0\] reach from 0 to 2"),
        ([[0, 1]], [[0], [1]], r"predictions\[0\] has shape"),
    ],
)
def test_refused(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        Metrics.of([np.array(truth)], [np.array(predicted)], 2)


@given(st.integers(0, 99), st.tuples(st.integers(1, 6), st.integers(1, 6)), st.floats(0.1, 0.5))
def test_no_patch_of_a_training_pixel_touches_one_of_the_validation(seed, patch, share):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, (23, 31))
    train, validation = by_block(labels, share, (max(patch),) * 2)
    for part in (train, validation):
        assert set(np.unique(part)) == {-1, 0, 1, 2}
        assert (part[part >= 0] == labels[part >= 0]).all()
    seen = [np.zeros(labels.shape, bool) for _ in range(2)]
    for image, part, turned in ((seen[0], train, True), (seen[1], validation, False)):
        top, left, bottom, right = patch_margins(patch)
        if turned:
            top, left, bottom, right = (max(top, left, bottom, right),) * 4
        for y, x in np.argwhere(part >= 0):
            image[max(0, y - top) : y + bottom + 1, max(0, x - left) : x + right + 1] = True
    assert not (seen[0] & seen[1]).any()
    assert 0.7 * share < (validation >= 0).sum() / (labels >= 0).sum() < 1.3 * share + 0.1


def test_a_block_lies_where_every_class_is_in_both_parts():
    labels = np.full((40, 30), -1)
    labels[5:30, 3], labels[20:38, 20] = 0, 1  # only the rows from 20 to 30 have both
    train, validation = by_block(labels, 0.5, (2, 2))
    for part in (train, validation):
        assert set(np.unique(part)) == {-1, 0, 1}
    with pytest.raises(ValueError, match="labels cannot be split into a block and the rest, 30 ro"):
        by_block(labels, 0.5, (30, 30))


@pytest.mark.parametrize(
    ("number", "share", "validated"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.3, 3)]
)
def test_images_are_in_one_part_each(number, share, validated):
    train, validation = by_image(number, share, seed=4)
    assert len(validation) == validated
    assert sorted(train + validation) == list(range(number))
    assert by_image(10, 0.5, seed=1) != by_image(10, 0.5, seed=2)
